"""The machine that a configuration describes, and its NoCloud seed as Proxmox VE writes it."""

from __future__ import annotations

import hashlib

from proxmox_swarm.lab.machines.spec import NicSpec
from tests.unit.lab_api.support import Api, Cluster

USER_DATA = "#cloud-config\nhostname: docker-app-1\n"
NETWORK = """\
version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'bc:24:11:04:00:1e'
      subnets:
      - type: static
        address: '192.168.4.30'
        netmask: '255.255.255.0'
        gateway: '192.168.4.1'
    - type: physical
      name: eth1
      mac_address: 'bc:24:11:0c:00:1e'
      subnets:
      - type: static
        address: '192.168.12.30'
        netmask: '255.255.255.0'
    - type: nameserver
      address:
      - '192.168.2.4'
      - '192.168.4.5'
      search:
      - 'lab'
"""


def test_the_machine_and_its_seed(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        snippet = api.pve.storages.place("pve01", "local", "snippets", "u.yaml")
        snippet.write_text(USER_DATA)
        await api.create(cicustom="user=local:snippets/u.yaml")
        assert await api.task("POST", "nodes/pve01/qemu/4100/status/start") == "OK"

    cluster.run(scenario)
    machines = []

    async def again(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        machines.append(api.machines.specs[4100])

    cluster.run(again)
    (spec,) = machines
    assert spec.nics == (NicSpec("vmbr0", 4, "bc:24:11:04:00:1e"), NicSpec("vmbr0", 12, "bc:24:11:0c:00:1e"))
    assert spec.image == cluster.image.resolve()
    assert spec.volume == cluster.directory / "storage/pve01/local-lvm/vm-4100-disk-0"
    assert spec.volume.is_dir()
    identity = hashlib.sha1((USER_DATA + NETWORK).encode()).hexdigest()
    assert spec.seed == {
        "user-data": USER_DATA,
        "network-config": NETWORK,
        "meta-data": f"instance-id: {identity}\n",
    }


def test_a_missing_snippet_fails_the_start(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create(cicustom="user=local:snippets/gone.yaml")
        status = await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        assert status == "volume 'local:snippets/gone.yaml' does not exist"
        assert (await api.get("nodes/pve01/qemu/4100/status/current"))["status"] == "stopped"

    cluster.run(scenario)


def test_a_vm_without_an_image_does_not_start(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu", vmid=4700, scsi0="tank:5")
        assert "was not imported from an image" in await api.task("POST", "nodes/pve01/qemu/4700/status/start")

    cluster.run(scenario)


def test_built_in_user_data_and_the_hosts_name_servers(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        keys = "ssh-ed25519%20AAAA%20me"
        await api.create(ciuser="admin", sshkeys=keys, ciupgrade=0, ipconfig1="ip=dhcp")
        await api.call("PUT", "nodes/pve01/qemu/4100/config", delete="nameserver")
        await api.task("POST", "nodes/pve01/qemu/4100/status/start")
        seed = api.machines.specs[4100].seed
        assert seed["user-data"] == (
            "#cloud-config\nhostname: vm4100\nmanage_etc_hosts: true\nuser: admin\nssh_authorized_keys:\n"
            "  - ssh-ed25519 AAAA me\nchpasswd:\n  expire: False\nusers:\n  - default\n"
        )
        assert "      address:\n      - '192.168.2.4'\n      search:\n      - 'lab'\n" in seed["network-config"]
        assert "      - type: dhcp4\n" in seed["network-config"]

    cluster.run(scenario)
