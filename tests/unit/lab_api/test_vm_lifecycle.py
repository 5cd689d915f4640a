"""VMs as clients see them: stored forms, locks, taken ids, pending changes, ownership of volumes."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.lab_api.support import GIB, Api, Cluster, vm_parameters

CONFIG = "nodes/pve01/qemu/4100/config"


def test_created_vm_is_stored_in_proxmox_form(cluster: Cluster) -> None:
    async def scenario(api: Api) -> dict[str, Any]:
        await api.download()
        assert await api.create() == "OK"
        return await api.get(CONFIG)

    config = cluster.run(scenario)
    assert config["scsi0"] == (
        "local-lvm:vm-4100-disk-0,aio=io_uring,backup=1,cache=none,discard=on,iothread=1,replicate=1,size=3G,ssd=0"
    )
    assert config["ide2"] == "local-lvm:vm-4100-cloudinit,media=cdrom"
    assert config["net0"] == "virtio=BC:24:11:04:00:1E,bridge=vmbr0,firewall=0,tag=4"
    assert (config["cores"], config["memory"], config["onboot"]) == (4, "1024", 1)
    assert "lock" not in config


def test_the_lock_shows_while_disks_are_made_and_refuses_others(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        gate = asyncio.Event()
        original = api.pve.faults.at_task

        async def slow(host: str, task: str, vmid: str) -> str | None:
            await gate.wait()
            return await original(host, task, vmid)

        api.pve.faults.at_task = slow  # type: ignore[method-assign]
        await api.call("POST", "nodes/pve01/qemu", **vm_parameters(4100))
        assert (await api.get(CONFIG))["lock"] == "create"
        refused = await api.call("POST", "nodes/pve01/qemu/4100/status/start")
        assert (refused.status, refused.reason) == (500, "VM is locked (create)")
        assert (await api.call("PUT", CONFIG, cores=2)).reason == "VM is locked (create)"
        gate.set()

    cluster.run(scenario)


def test_a_taken_id_is_answered_as_proxmox_does(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create()
        before = await api.get(CONFIG)
        answer = await api.call("POST", "nodes/pve02/qemu", **vm_parameters(4100))
        text = "unable to create VM 4100 - VM 4100 already exists on node 'pve01'"
        assert (answer.status, answer.reason) == (500, text)
        assert answer.body["message"] == text + "\n"
        assert await api.get(CONFIG) == before
        nextid = await api.call("GET", "cluster/nextid", vmid=4100)
        assert (nextid.status, nextid.body["errors"]) == (400, {"vmid": "VM 4100 already exists"})

    cluster.run(scenario)


def test_a_failed_create_leaves_nothing(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        status = await api.create()  # the image was never downloaded
        assert status == "unable to create VM 4100 - volume 'local:import/debian-13.raw' does not exist"
        assert await api.get("cluster/resources", type="vm") == []
        assert await api.get("nodes/pve01/storage/local-lvm/content") == []

    cluster.run(scenario)


def test_resize_grows_and_never_shrinks(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create(scsi1="tank:10")
        resize = "nodes/pve01/qemu/4100/resize"
        assert await api.task("PUT", resize, disk="scsi0", size=50 * GIB) == "OK"
        assert await api.task("PUT", resize, disk="scsi1", size="+5G") == "OK"
        assert await api.task("PUT", resize, disk="scsi0", size="20G") == "shrinking disks is not supported"
        config = await api.get(CONFIG)
        assert "size=50G" in config["scsi0"] and "size=15G" in config["scsi1"]
        data = api.pve.storages.path("pve01", "tank") / "vm-4100-disk-0"
        assert data.stat().st_size == 15 * GIB
        assert data.stat().st_blocks == 0  # sparse

    cluster.run(scenario)


def test_memory_of_a_running_vm_waits_for_a_power_cycle(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create()
        assert await api.task("POST", "nodes/pve01/qemu/4100/status/start") == "OK"
        await api.call("PUT", CONFIG, memory=2048, cores=2, tags="b;A")
        assert (await api.get(CONFIG))["memory"] == "2048"
        assert (await api.get(CONFIG, current=1))["memory"] == "1024"
        assert (await api.get(CONFIG, current=1))["tags"] == "a;b"  # no power cycle needed
        pending = {e["key"]: e for e in await api.get("nodes/pve01/qemu/4100/pending")}
        assert pending["memory"] == {"key": "memory", "value": "1024", "pending": "2048"}
        current = await api.get("nodes/pve01/qemu/4100/status/current")
        assert (current["maxmem"], current["cpus"]) == (GIB, 4)
        assert await api.task("POST", "nodes/pve01/qemu/4100/status/reboot") == "OK"
        current = await api.get("nodes/pve01/qemu/4100/status/current")
        assert (current["maxmem"], current["cpus"], current["status"]) == (2 * GIB, 2, "running")
        assert len(api.machines.history) == 2
        # back to what runs: nothing is pending any more
        await api.call("PUT", CONFIG, memory=4096)
        await api.call("PUT", CONFIG, memory=2048)
        assert all("pending" not in e for e in await api.get("nodes/pve01/qemu/4100/pending"))

    cluster.run(scenario)


def test_deleted_options_wait_too_and_can_be_reverted(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create(balloon=0)
        await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        await api.call("PUT", CONFIG, delete="balloon,net1,nothere")
        pending = {e["key"]: e for e in await api.get("nodes/pve01/qemu/4100/pending")}
        assert pending["balloon"] == {"key": "balloon", "value": "0", "delete": 1}
        assert "net1" not in await api.get(CONFIG)
        await api.call("PUT", CONFIG, revert="balloon")
        await api.task("POST", "nodes/pve01/qemu/4100/status/reboot")
        config = await api.get(CONFIG)
        assert "net1" not in config and config["balloon"] == 0

    cluster.run(scenario)


def test_an_attached_disk_outlives_the_vm_that_uses_it(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        holder = {"vmid": 4700, "name": "data", "scsi0": "tank:50"}
        assert await api.task("POST", "nodes/pve01/qemu", **holder) == "OK"
        attached = "file=tank:vm-4700-disk-0,size=53687091200,serial=data-1,iothread=1"
        assert await api.create(scsi1=attached) == "OK"
        assert (await api.get(CONFIG))["scsi1"] == "tank:vm-4700-disk-0,iothread=1,serial=data-1,size=50G"
        await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        (disk,) = api.machines.specs[4100].disks
        assert (disk.serial, disk.size, disk.path.name) == ("data-1", 50 * GIB, "vm-4700-disk-0")
        disk.path.write_bytes(b"precious")
        assert (await api.call("DELETE", "nodes/pve01/qemu/4100/")).reason == "VM 4100 is running - destroy failed"
        await api.task("POST", "nodes/pve01/qemu/4100/status/stop")
        path = "nodes/pve01/qemu/4100/?destroy-unreferenced-disks=1&purge=1"  # as the provider sends it
        assert await api.task("DELETE", path) == "OK"
        gone = await api.call("GET", "nodes/pve01/qemu/4100/status/current")
        assert (gone.status, gone.reason) == (
            500,
            "Configuration file 'nodes/pve01/qemu-server/4100.conf' does not exist",
        )
        volids = [v["volid"] for v in await api.get("nodes/pve01/storage/tank/content", content="images")]
        assert volids == ["tank:vm-4700-disk-0"]
        assert disk.path.read_bytes() == b"precious"
        assert await api.get("nodes/pve01/storage/local-lvm/content") == []
        await api.task("DELETE", "nodes/pve01/qemu/4700")
        assert await api.get("nodes/pve01/storage/tank/content") == []
        assert not disk.path.exists()

    cluster.run(scenario)


def test_a_disk_that_leaves_the_configuration_becomes_unused_only_if_owned(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.task("POST", "nodes/pve01/qemu", vmid=4700, scsi0="tank:50")
        await api.create(scsi1="tank:vm-4700-disk-0", scsi2="tank:5")
        await api.call("PUT", CONFIG, delete="scsi1,scsi2")
        config = await api.get(CONFIG)
        assert config["unused0"] == "tank:vm-4100-disk-0"
        assert "unused1" not in config
        await api.call("PUT", CONFIG, delete="unused0")
        volids = [v["volid"] for v in await api.get("nodes/pve01/storage/tank/content")]
        assert volids == ["tank:vm-4700-disk-0"]

    cluster.run(scenario)


def test_unreferenced_volumes_stay_unless_asked_for(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu", vmid=4700, scsi0="tank:50")
        api.pve.storages.allocate("pve01", "tank", 4700, GIB)
        await api.task("DELETE", "nodes/pve01/qemu/4700")
        assert [v.name for v in api.pve.state.volumes] == ["vm-4700-disk-1"]

    cluster.run(scenario)


def test_protection_and_ha_keep_a_vm(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu", vmid=200, protection=1)
        assert (await api.call("DELETE", "nodes/pve01/qemu/200")).reason == (
            "can't remove VM 200 - protection mode enabled"
        )
        await api.call("PUT", "nodes/pve01/qemu/200/config", protection=0)
        assert (await api.call("POST", "cluster/ha/resources/", sid="vm:200", state="stopped")).status == 200
        assert "used in HA resources" in (await api.call("DELETE", "nodes/pve01/qemu/200")).reason
        assert await api.task("DELETE", "nodes/pve01/qemu/200", purge=1) == "OK"
        assert await api.get("cluster/ha/resources") == []

    cluster.run(scenario)


def test_the_state_survives_the_process(cluster: Cluster) -> None:
    async def first(api: Api) -> dict[str, Any]:
        await api.download()
        await api.create(scsi1="tank:10")
        return await api.get(CONFIG)

    async def second(api: Api) -> dict[str, Any]:
        return await api.get(CONFIG)

    assert cluster.run(first) == cluster.run(second)


def test_starting_twice_and_stopping_twice(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create()
        start, stop = "nodes/pve01/qemu/4100/status/start", "nodes/pve01/qemu/4100/status/stop"
        assert await api.task("POST", start) == "OK"
        assert await api.task("POST", start) == "VM 4100 already running"
        assert await api.task("POST", stop) == "OK"
        assert await api.task("POST", stop) == "OK"
        assert (await api.call("POST", "nodes/pve01/qemu/4100/status/reboot")).reason == "VM 4100 not running"

    cluster.run(scenario)


def test_the_guest_agent_and_its_absence(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create()
        await api.create(4101, agent="enabled=0")
        ask = "nodes/pve01/qemu/4100/agent/network-get-interfaces"
        assert (await api.call("GET", ask)).reason == "VM 4100 is not running"
        await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        assert (await api.call("GET", ask)).reason == "QEMU guest agent is not running"
        assert (await api.call("POST", "nodes/pve01/qemu/4101/agent/ping")).reason == "No QEMU guest agent configured"
        api.machines.agent_answers = {
            "guest-network-get-interfaces": [{"name": "eth0", "hardware-address": "bc:24:11:04:00:1e"}],
            "guest-exec": {"pid": 7},
            "guest-exec-status": {"exited": True, "exitcode": 3, "out-data": "aGk=", "err-data": ""},
            "guest-file-open": 1,
            "guest-file-read": {"buf-b64": "aGk=", "count": 2, "eof": True},
            "guest-file-close": {},
        }
        assert (await api.get(ask))["result"][0]["name"] == "eth0"
        agent = "nodes/pve01/qemu/4100/agent"
        assert (await api.call("POST", f"{agent}/exec", command="/bin/true")).data == {"pid": 7}
        status = await api.get(f"{agent}/exec-status", pid=7)
        assert (status["exited"], status["exitcode"], status["out-data"]) == (1, 3, "hi")
        assert await api.get(f"{agent}/file-read", file="/etc/hostname") == {"content": "hi"}

    cluster.run(scenario)
