"""A machine that was there before is taken over only where it is the declared one; its disks are not lost by accident."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.proxmox.adoption import AdoptionError, Wanted, WantedNic, adopt, check_rebuild, own_disks
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.proxmox.ownership import Inventory, Marker

MINE = Marker("swarm", "prod", "app-1", "c0ffee")
GUEST = Guest(4100, "app-1", "pve01", "qemu", "running", ("prod",))
MAC, OTHER_MAC = "BC:24:11:00:41:00", "BC:24:11:00:42:00"
CONFIG: dict[str, Any] = {
    "name": "app-1",
    "cores": 4,
    "memory": "8192",
    "description": "by Thorsten\n",
    "tags": "prod;terraform",
    "agent": "1",
    "boot": "order=scsi0;net0",
    "scsi0": "tank:vm-4100-disk-0,size=50G",
    "ide2": "tank:vm-4100-cloudinit,media=cdrom",
    "net0": f"virtio={MAC},bridge=vmbr0,tag=4",
    "net1": f"virtio={OTHER_MAC},bridge=vmbr0,tag=12",
    "ipconfig0": "ip=192.168.4.30/24,gw=192.168.4.1",
    "ipconfig1": "ip=192.168.12.30/24",
}
MAIN = WantedNic("vmbr0", 4, "192.168.4.30", None)
STORAGE = WantedNic("vmbr0", 12, "192.168.12.30", None)
WANTED = Wanted(vm_id=4100, cpu=4, memory=8192, nics=(MAIN, STORAGE), tag="swarm-prod")


class Api:
    """The client's part: configuration, guest agent, and what is written."""

    def __init__(self, config: dict[str, Any], told: dict[str, set[str]] | None) -> None:
        self._config = config
        self._told = told
        self.written: list[tuple[str, list[str]]] = []

    def config(self, guest: Guest) -> dict[str, Any]:
        return self._config

    def addresses(self, guest: Guest) -> dict[str, set[str]] | None:
        return self._told

    def set_notes(self, guest: Guest, *, description: str, tags: list[str]) -> None:
        self.written.append((description, list(tags)))


def taken_over(
    config: dict[str, Any] | None = None,
    *,
    guest: Guest = GUEST,
    wanted: Wanted = WANTED,
    told: dict[str, set[str]] | None = {},  # noqa: B006 - an agent that answers and knows nothing
) -> Api:
    api = Api(CONFIG if config is None else config, told)
    adopt(api, Inventory((guest,), {guest.vm_id: api._config}), MINE, wanted)  # type: ignore[arg-type]
    return api


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(AdoptionError) as error:
        taken_over(*args, **options)
    return str(error.value)


def test_the_declared_machine_gets_our_marker_below_its_notes_and_our_tag_beside_its_tags() -> None:
    assert taken_over().written == [(f"by Thorsten\n{MINE}", ["prod", "swarm-prod", "terraform"])]


def test_a_machine_without_notes_and_tags_gets_ours() -> None:
    bare = {key: value for key, value in CONFIG.items() if key not in ("description", "tags")}
    assert taken_over(bare).written == [(str(MINE), ["swarm-prod"])]


def test_a_machine_that_carries_an_older_claim_of_the_same_node_is_marked_anew() -> None:
    former = Marker("swarm", "prod", "app-1", "dead")
    assert taken_over({**CONFIG, "description": f"by Thorsten\n{former}\n"}).written[0][0] == f"by Thorsten\n{MINE}"


def test_a_machine_of_another_stack_is_refused() -> None:
    theirs = Marker("swarm", "second", "app-1", "beef")
    said = refused({**CONFIG, "description": str(theirs)})
    assert "node app-1 of stack swarm/second" in said and "take the line out of its notes" in said


def test_an_id_that_nobody_has_is_told_apart_from_one_that_does_not_fit() -> None:
    with pytest.raises(AdoptionError, match="Proxmox VE has no VM 4100"):
        adopt(Api({}, {}), Inventory((), {}), MINE, WANTED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cores": 2}, "it has 2 cores, declared is cpu: 4"),
        ({"cores": 2, "sockets": 2}, "it has 2 cores on each of 2 sockets, declared is cpu: 4"),
        ({"memory": "4096"}, "it has 4 GiB, declared is memory: 8"),
        ({"net0": f"virtio={MAC},bridge=vmbr0,tag=5"}, "none of its interfaces is on vmbr0, VLAN 4"),
        ({"net0": f"virtio={MAC},bridge=vmbr1,tag=4"}, "none of its interfaces is on vmbr0, VLAN 4"),
        ({"ipconfig0": "ip=192.168.4.31/24"}, "net0 has 192.168.4.31, declared is 192.168.4.30"),
        ({"ipconfig0": "ip=192.168.4.3/24"}, "net0 has 192.168.4.3, declared is 192.168.4.30"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(change: dict[str, Any], words: str) -> None:
    said = refused({**CONFIG, **change})
    assert said.startswith(f"VM 4100 'app-1' on pve01 is not app-1 as it is declared: {words}"), said
    assert "Nothing of it was touched" in said


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    stopped = Guest(4100, "web", "pve01", "qemu", "stopped", ())
    said = refused({**CONFIG, "cores": 2, "memory": 512}, guest=stopped)
    for words in ("called 'web'", "it is stopped", "2 cores", "0.5 GiB"):
        assert words in said, said


def test_defaults_of_proxmox_count_where_the_configuration_is_silent() -> None:
    small = {key: value for key, value in CONFIG.items() if key not in ("cores", "memory")}
    assert taken_over(small, wanted=Wanted(4100, 1, 512, (MAIN,), "t")).written


def test_a_container_is_refused() -> None:
    assert "it is a container" in refused(guest=Guest(4100, "app-1", "pve01", "lxc", "running", ()))


def test_without_cloud_init_the_guest_agent_tells_the_address() -> None:
    plain = {key: value for key, value in CONFIG.items() if not key.startswith("ipconfig")}
    assert taken_over(plain, told={MAC: {"192.168.4.30", "172.17.0.1"}, OTHER_MAC: {"192.168.12.30"}}).written
    said = refused(plain, told={MAC: {"192.168.4.77"}, OTHER_MAC: {"192.168.12.30"}})
    assert "net0 has 192.168.4.77, declared is 192.168.4.30" in said


def test_where_nobody_tells_the_address_a_declared_mac_address_stands_for_it() -> None:
    silent = {key: value for key, value in CONFIG.items() if not key.startswith(("ipconfig", "agent"))}
    said = refused(silent, told=None)
    assert f"name its MAC address, {MAC}, under macs" in said
    named = Wanted(4100, 4, 8192, (WantedNic("vmbr0", 4, "192.168.4.30", MAC.lower()),), "t")
    assert taken_over(silent, wanted=named, told=None).written


def test_a_declared_mac_address_must_be_there_and_on_the_declared_network() -> None:
    def wanting(mac: str) -> Wanted:
        return Wanted(4100, 4, 8192, (WantedNic("vmbr0", 4, "192.168.4.30", mac),), "t")

    assert "none of its interfaces has the MAC address 02:00" in refused(wanted=wanting("02:00:00:00:00:01"))
    assert "net1 is on vmbr0, VLAN 12, declared is vmbr0, VLAN 4" in refused(wanted=wanting(OTHER_MAC))


@pytest.mark.parametrize(("option", "waits"), [("1", True), ("enabled=1,type=virtio", True), ("0", False), ("", False)])
def test_an_agent_that_is_enabled_and_silent_would_keep_the_provider_waiting(option: str, waits: bool) -> None:
    config = {**CONFIG, "agent": option}
    if waits:
        assert "guest agent is enabled and does not answer" in refused(config, told=None)
    else:
        assert taken_over(config, told=None).written


def test_disks_besides_the_boot_disk_are_its_own_where_they_carry_its_id() -> None:
    config = {
        **CONFIG,
        "scsi1": "tank:vm-4100-disk-1,size=100G",
        "virtio2": "tank:4100/vm-4100-disk-2.qcow2,size=1G",
        "scsi3": "tank:vm-4700-disk-0,size=9G",  # another machine's, which only uses it here
        "unused0": "tank:vm-4100-disk-7",
        "ide3": "none,media=cdrom",
        "efidisk0": "tank:vm-4100-disk-9,size=4M",
    }
    assert list(own_disks(GUEST, config)) == ["scsi1", "unused0", "virtio2"]
    assert list(own_disks(GUEST, {**config, "boot": "order=scsi1"})) == ["scsi0", "unused0", "virtio2"]
    assert list(own_disks(GUEST, {**config, "boot": "order=net0"})) == ["scsi1", "unused0", "virtio2"]
    assert own_disks(GUEST, CONFIG) == {}


def test_a_rebuild_costs_only_disks_that_were_named() -> None:
    disks = {"scsi1": "tank:vm-4100-disk-1,size=100G", "scsi2": "tank:vm-4100-disk-2,size=1G"}
    check_rebuild("app-1", {}, [])
    check_rebuild("app-1", disks, ["scsi1", "scsi2", "scsi9"])
    with pytest.raises(AdoptionError) as refusal:
        check_rebuild("app-1", disks, ["scsi2"])
    said = str(refusal.value)
    assert "scsi1 (tank:vm-4100-disk-1)" in said and "disk-2" not in said
    assert "`discard: [scsi1, scsi2]`" in said
