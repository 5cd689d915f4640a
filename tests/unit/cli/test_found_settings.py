"""From what was found of a cluster to settings that the program accepts and that describe it as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from proxmox_swarm.cli.found_settings import Declared, Machine, Seen, common_daemon, declare, lines
from proxmox_swarm.proxmox.adoption import Wanted, WantedNic, differences
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.settings import resolve
from proxmox_swarm.settings.parse import parse
from proxmox_swarm.swarm.found import FoundNode, FoundSwarm

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6"
MAC, OTHER_MAC = "BC:24:11:00:41:00", "BC:24:11:00:42:00"
SETTINGS: dict[str, Any] = {
    "proxmox": {
        "endpoints": ["https://pve01:8006"],
        "hosts": {"pve01": {"datastore": "tank", "datastores": ["local-lvm"]}},
        "image": {"url": "https://a/b.qcow2", "sha512": "ab" * 64, "size": 3},
    },
    "networks": {
        "main": {"vlan": 4, "subnet": "192.168.4.0/24", "gateway": "192.168.4.1"},
        "storage": {"vlan": 12, "subnet": "172.30.0.0/21"},
    },
    "access": {"keys": [KEY]},
}
DRAFT = parse(SETTINGS)
GUEST = Guest(4100, "app-1", "pve01", "qemu", "running", ())
CONFIG: dict[str, Any] = {
    "cores": 4,
    "memory": "8192",
    "boot": "order=scsi0;net1",
    "scsi0": "tank:vm-4100-disk-0,size=51200M",
    "ide2": "tank:vm-4100-cloudinit,media=cdrom,size=4M",
    "net0": f"virtio={OTHER_MAC},bridge=vmbr0,tag=12",
    "net1": f"virtio={MAC},bridge=vmbr0,tag=4",
    "ipconfig0": "ip=172.30.1.30/21",
    "ipconfig1": "ip=192.168.4.30/24,gw=192.168.4.1",
}
NODE = FoundNode("app-1.example.org", "192.168.4.30", "manager", "active", {"portainer.data": "true"}, "ready")
SWARM = FoundSwarm("mryw", ("10.0.0.0/8",), 24, 4789, False, (NODE,))


def seen(**changes: Any) -> Seen:
    return replace(Seen(NODE, KEY, {}, Machine(GUEST, CONFIG, {})), **changes)


def told(one: Seen) -> Declared:
    return declare(one, DRAFT.networks, DRAFT.proxmox.hosts if DRAFT.proxmox else {})


def with_config(told_by_agent: dict[str, set[str]] | None = None, **changes: Any) -> Seen:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    return seen(machine=Machine(GUEST, config, told_by_agent))


def test_a_node_is_described_as_it_is() -> None:
    found = told(seen())
    assert (found.name, found.notes) == ("app-1", ())
    assert found.settings == {
        "role": "manager",
        "host": "pve01",
        "id": 4100,
        "cpu": 4,
        "memory": 8,
        "boot": 50,
        "networks": ["main", "storage"],
        "ip": {"main": 30, "storage": "172.30.1.30"},
        "macs": {"main": MAC, "storage": OTHER_MAC},
        "data": 0,
        "labels": {"portainer.data": "true"},
        "hostKey": KEY,
    }


def test_what_is_printed_is_accepted_as_settings_and_fits_the_machine() -> None:
    found = told(seen())
    written = yaml.safe_load("\n".join(lines(SWARM, [found], [{}], DRAFT.networks)))
    settings = resolve({**SETTINGS, "nodes": written["swarm:nodes"]}, project="swarm", stack="prod")
    node = settings.nodes["app-1"]
    assert node.adopted and node.address == NODE.address
    assert [(nic.mac, nic.address) for nic in node.nics] == [(MAC, "192.168.4.30"), (OTHER_MAC, "172.30.1.30")]
    assert dict(node.labels) == dict(NODE.labels)
    assert found.wanted == Wanted(
        4100,
        4,
        8192,
        (WantedNic("vmbr0", 4, "192.168.4.30", MAC), WantedNic("vmbr0", 12, "172.30.1.30", OTHER_MAC)),
        "",
    )

    class Silent:
        def addresses(self, guest: Guest) -> None:
            return None

    assert list(differences(Silent(), "app-1", GUEST, CONFIG, found.wanted)) == []  # type: ignore[arg-type]


def test_one_octet_is_enough_where_it_is_the_same_on_all_networks() -> None:
    assert told(with_config(ipconfig0="ip=172.30.0.30/21")).settings["ip"] == 30


def test_the_guest_agent_tells_what_cloud_init_does_not() -> None:
    found = told(with_config({OTHER_MAC: {"172.17.0.1", "172.30.1.30"}}, ipconfig0=None, ipconfig1="ip=dhcp"))
    assert found.settings["ip"] == {"main": 30, "storage": "172.30.1.30"}
    assert found.notes == ()


def test_fractions_of_memory_other_datastores_and_availability_are_said() -> None:
    found = told(with_config(memory="current=768", scsi0="local-lvm:vm-4100-disk-0,size=1T"))
    assert (found.settings["memory"], found.settings["boot"], found.settings["datastore"]) == (0.75, 1024, "local-lvm")
    assert told(seen(node=replace(NODE, availability="drain"))).settings["availability"] == "drain"
    assert "availability" not in found.settings


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (seen(machine=None), "no VM on Proxmox VE is called app-1 or has the address 192.168.4.30"),
        (seen(trouble="logging in: refused", host_key=""), "logging in: refused"),
        (
            with_config(net0=f"virtio={OTHER_MAC},bridge=vmbr1"),
            "net0 is on vmbr1, no VLAN: no such network is declared",
        ),
        (with_config(ipconfig0=None), "net0: nobody tells its address on network storage"),
        (with_config(net1=None), "none of its cards is on a declared network with 192.168.4.30"),
        (
            seen(machine=Machine(replace(GUEST, host="pve09"), CONFIG, None)),
            "its Proxmox VE host pve09 is not declared under proxmox.hosts",
        ),
    ],
)
def test_what_a_person_has_to_see_to_is_said(one: Seen, words: str) -> None:
    assert words in " ".join(told(one).notes)


def test_nodes_come_in_natural_order_and_only_what_differs_from_docker_is_said_of_the_swarm() -> None:
    found = [Declared(name, {"id": 1}, None, ()) for name in ("app-10", "app-2")]
    assert lines(SWARM, found, [], DRAFT.networks) == ["  swarm:nodes:", "    app-2: {id: 1}", "    app-10: {id: 1}"]
    other = replace(SWARM, address_pool=("10.201.0.0/16",), subnet_size=26, data_path_port=4790, autolock=True)
    assert lines(other, [], [], DRAFT.networks)[1:] == [
        "  swarm:cluster: {addressPool: [10.201.0.0/16], subnetSize: 26, dataPathPort: 4790, autolock: true}"
    ]


def test_of_daemon_json_only_what_all_have_alike_and_settings_accept_is_declared() -> None:
    one = {"mtu": 1400, "debug": True, "data-root": "/srv/docker", "log-opts": {"max-size": "50m"}}
    two = {"mtu": 1400, "debug": False, "data-root": "/srv/docker", "log-opts": {"max-size": "50m"}}
    assert common_daemon([one, two]) == {"log-opts": {"max-size": "50m"}, "mtu": 1400}
    assert common_daemon([one, {}]) == {}
    assert common_daemon([]) == {}


def test_an_address_pool_that_overlaps_a_network_of_the_nodes_is_said_to_be_meant() -> None:
    other = replace(SWARM, address_pool=("192.168.0.0/16",))
    assert "  swarm:guards: {overlappingAddressPool: true}" in lines(other, [], [], DRAFT.networks)
