"""Downloads, files and images on the hosts' storages."""

from __future__ import annotations

from tests.unit.lab_api.support import GIB, IMAGE_SHA, IMAGE_URL, Api, Cluster

DOWNLOAD = "nodes/pve01/storage/local/download-url"
SHA512 = {"checksum__algorithm": "sha512"}


def test_the_image_is_linked_not_copied(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        meta = await api.get("nodes/pve01/query-url-metadata", url=IMAGE_URL, **{"verify-certificates": 1})
        assert (meta["filename"], meta["size"]) == ("image.raw", 3 * GIB)
        await api.download()
        await api.download()  # the same content again is fine
        (listed,) = await api.get("nodes/pve01/storage/local/content", content="import")
        assert (listed["volid"], listed["format"], listed["size"]) == ("local:import/debian-13.raw", "raw", 3 * GIB)
        one = await api.get("nodes/pve01/storage/local/content/local:import%2Fdebian-13.raw")
        assert (one["format"], one["size"]) == ("raw", 3 * GIB)
        assert api.pve.storages.file("pve02", "local:import/debian-13.raw") is None
        assert await api.task("DELETE", "nodes/pve01/storage/local/content/local:import%2Fdebian-13.raw") == "OK"
        assert await api.get("nodes/pve01/storage/local/content") == []
        assert cluster.image.exists()

    cluster.run(scenario)


def test_what_a_download_refuses(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        wanted = {"content": "import", "filename": "x.raw", "url": IMAGE_URL}
        wrong = await api.task("POST", DOWNLOAD, **wanted, checksum="00", **SHA512)
        assert wrong == f"checksum mismatch: got '{IMAGE_SHA}' != expect '00'"
        assert await api.task("POST", DOWNLOAD, **wanted) == "OK"
        assert (await api.task("POST", DOWNLOAD, **wanted)).startswith("refusing to override existing file")
        other = {**wanted, "filename": "y.raw", "url": "https://cloud.debian.org/x.raw"}
        assert (await api.task("POST", DOWNLOAD, **other)).startswith("download failed:")
        unreachable = await api.call("GET", "nodes/pve01/query-url-metadata", url=other["url"])
        assert unreachable.status == 500 and "Can't connect" in unreachable.reason
        tank = await api.call("POST", "nodes/pve01/storage/tank/download-url", **wanted)
        assert tank.reason == "storage 'tank' does not support content-type 'import'"
        outside = await api.call("POST", DOWNLOAD, **{**wanted, "filename": "../x.raw"})
        assert outside.status == 400

    cluster.run(scenario)


def test_storages_are_where_the_hosts_have_them(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        names = {n: {s["storage"] for s in await api.get(f"nodes/{n}/storage")} for n in ("pve01", "pve02")}
        assert names == {"pve01": {"local", "local-lvm", "tank"}, "pve02": {"local", "local-lvm"}}
        snippets = await api.get("nodes/pve02/storage", content="snippets")
        assert [s["storage"] for s in snippets] == ["local"]
        assert (await api.get("storage/local"))["path"] == "/var/lib/vz"
        answer = await api.call("POST", "nodes/pve02/qemu", vmid=100, scsi0="tank:5")
        assert answer.reason == "storage 'tank' is not available on node 'pve02'"
        answer = await api.call("POST", "nodes/pve02/qemu", vmid=100, scsi0="local:5")
        assert answer.reason == "storage 'local' does not support content-type 'images'"
        answer = await api.call("POST", "nodes/pve02/qemu", vmid=100, scsi0="ceph:5")
        assert answer.reason == "storage 'ceph' does not exist"
        before = await api.get("nodes/pve01/storage/tank/status")
        await api.task("POST", "nodes/pve01/qemu", vmid=100, scsi0="tank:5")
        after = await api.get("nodes/pve01/storage/tank/status")
        assert after["used"] - before["used"] == 5 * GIB

    cluster.run(scenario)


def test_a_disk_of_a_vm_is_not_removed_behind_its_back(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu", vmid=100, scsi0="tank:5")
        path = "nodes/pve01/storage/tank/content/tank:vm-100-disk-0"
        assert await api.task("DELETE", path) == "Cannot remove image, a guest with VMID '100' exists!"

    cluster.run(scenario)
