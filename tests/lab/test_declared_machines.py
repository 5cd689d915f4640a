"""The machines of `make up` against the settings: what Proxmox VE has of each VM, what each machine has inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxmox_swarm.settings import Settings, load, read_stack_file
from tests.lab.support import ROOT, Site

GIB = 1 << 30


@pytest.fixture(scope="module")
def declared(cluster: Site, monkeypatch_module: pytest.MonkeyPatch) -> Settings:
    """The settings of the lab's stack."""
    monkeypatch_module.setenv("PROXMOX_SWARM_LAB", str(cluster.folder))
    return load(read_stack_file(ROOT / "Pulumi.lab.yaml", "swarm"), project="swarm", stack="lab", base=ROOT)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def asked(site: Site, path: str) -> Any:
    """What the Proxmox VE API answers."""
    answer = site.exec(
        "sh",
        "-c",
        'curl -fsS --cacert "$SSL_CERT_FILE" -H "Authorization: PVEAPIToken=$PROXMOX_VE_API_TOKEN" '
        f"https://192.168.2.11:8006/api2/json/{path}",
    )
    return json.loads(answer.stdout)["data"]


def options(text: str) -> dict[str, str]:
    """``tank:vm-4100-disk-0,size=50G`` as a mapping; what has no key is under the empty one."""
    parts = [part.partition("=") for part in text.split(",")]
    return {key if equals else "": value if equals else key for key, equals, value in parts}


def test_each_vm_is_what_its_node_declares(cluster: Site, declared: Settings) -> None:
    assert len(declared.nodes) == 7
    for node in declared.nodes.values():
        vm = asked(cluster, f"nodes/{node.host}/qemu/{node.vm_id}/config")
        assert vm["name"] == node.name
        assert (vm["cores"], int(vm["memory"])) == (node.cpu, round(node.memory * 1024))
        boot = options(vm["scsi0"])
        assert (boot[""].partition(":")[0], boot["size"]) == (node.datastore, f"{node.boot}G")
        assert [
            (found["bridge"], int(found["tag"]), found["virtio"])
            for found in (options(vm[f"net{index}"]) for index in range(len(node.nics)))
        ] == [(nic.bridge, nic.vlan, nic.mac) for nic in node.nics]
        if node.data is None:
            assert "scsi1" not in vm
        else:
            data = options(vm["scsi1"])
            assert data[""].startswith(f"{node.data.datastore}:vm-{node.data.holder_id}-")
            assert (data["size"], data["serial"]) == (f"{node.data.size}G", node.data.serial)


def test_each_machine_has_both_networks_and_one_default_route(cluster: Site, declared: Settings) -> None:
    for node in declared.nodes.values():
        links = json.loads(cluster.ssh(node.address, "ip -json address"))
        found = {a["local"]: link["address"].upper() for link in links for a in link["addr_info"]}
        assert {nic.address: nic.mac for nic in node.nics}.items() <= found.items()
        routes = json.loads(cluster.ssh(node.address, "ip -json route show default"))
        assert [route["gateway"] for route in routes] == ["192.168.4.1"]
    first, *others = declared.nodes.values()
    for other in others:
        cluster.ssh(first.address, f"ping -c1 -W2 {other.nics[1].address}")


def test_data_disks_have_their_size_and_are_mounted(cluster: Site, declared: Settings) -> None:
    with_data = [node for node in declared.nodes.values() if node.data]
    assert [node.data.size for node in with_data if node.data] == [50, 100, 200]
    for node in with_data:
        assert node.data is not None
        device = f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{node.data.serial}"
        assert int(cluster.ssh(node.address, f"blockdev --getsize64 {device}")) == node.data.size * GIB
        source = cluster.ssh(node.address, f"findmnt -nro SOURCE {node.data.mount}").strip()
        assert source == cluster.ssh(node.address, f"readlink -f {device}").strip()
