"""Nodes that were there before, as providers handle them: adopted by their claim, read not written, let go with care."""

from __future__ import annotations

from typing import Any

import asyncssh
import pytest

from proxmox_swarm.host import connection
from proxmox_swarm.host import state as host_state
from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import CommandFailed, Unreachable
from proxmox_swarm.host.state import HostSpec
from proxmox_swarm.providers.base import plain
from proxmox_swarm.providers.claim import ClaimProvider
from proxmox_swarm.providers.first_boot import FirstBootProvider
from proxmox_swarm.providers.host_state import HostStateProvider
from proxmox_swarm.providers.member import MemberProvider
from proxmox_swarm.proxmox import adoption, client, ownership
from proxmox_swarm.proxmox.adoption import AdoptionError, Wanted, WantedNic
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.proxmox.ownership import Inventory
from proxmox_swarm.swarm import membership
from proxmox_swarm.swarm.member import MemberState
from tests.unit.providers.props import KEY, boot, claim, host, manager, member

ADOPTED = {
    "cpu": 4.0,
    "memory": 8192.0,
    "tag": "swarm-prod",
    "nics": [
        {"bridge": "vmbr0", "vlan": 4.0, "address": "10.0.4.2", "mac": "BC:24:11:00:41:01"},
        {"bridge": "vmbr0", "address": "10.0.12.2"},
    ],
}
DISKS = {"scsi1": "tank:vm-4101-disk-1,size=100G"}
CLAIM = ClaimProvider()


def adopting(**changes: Any) -> dict[str, Any]:
    return claim(vm_ids=[4101.0], adopted=ADOPTED, **changes)


class Proxmox:
    """One VM, and what was asked to be adopted."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {"description": "", **DISKS, "scsi0": "tank:vm-4101-disk-0"}
        self.wanted: list[Wanted] = []

    def inventory(self, _: Any) -> Inventory:
        return Inventory((Guest(4101, "app-2", "pve01", "qemu", "running", ()),), {4101: self.config})

    def adopt(self, _: Any, found: Inventory, marker: ownership.Marker, wanted: Wanted) -> dict[str, str]:
        self.wanted.append(wanted)
        self.config["description"] = str(marker)
        return dict(DISKS)


@pytest.fixture
def proxmox(monkeypatch: pytest.MonkeyPatch) -> Proxmox:
    fake = Proxmox()
    monkeypatch.setattr(client, "Client", lambda *_, **__: fake)
    monkeypatch.setattr(ownership, "inventory", fake.inventory)
    monkeypatch.setattr(ownership, "_answers", lambda _: False)
    monkeypatch.setattr(adoption, "adopt", fake.adopt)
    return fake


@pytest.fixture
def adopted(proxmox: Proxmox) -> dict[str, Any]:
    """The outputs of a claim that adopted its machine."""
    outputs = CLAIM.create(adopting()).outs
    assert outputs is not None
    return outputs


def test_a_claim_on_a_machine_that_is_there_adopts_it(proxmox: Proxmox, adopted: dict[str, Any]) -> None:
    assert proxmox.wanted == [
        Wanted(
            4101,
            4,
            8192,
            (
                WantedNic("vmbr0", 4, "10.0.4.2", "BC:24:11:00:41:01"),
                WantedNic("vmbr0", None, "10.0.12.2", None),
            ),
            "swarm-prod",
        )
    ]
    assert adopted["disks"] == DISKS
    assert adopted["marker"] == proxmox.config["description"]
    assert not CLAIM.diff("app-2", adopted, adopting()).changes
    assert CLAIM.read("app-2", adopted).outs == adopted


def test_a_refresh_learns_of_disks_that_came_later(proxmox: Proxmox, adopted: dict[str, Any]) -> None:
    proxmox.config["virtio4"] = "tank:vm-4101-disk-4"
    outputs = CLAIM.read("app-2", adopted).outs or {}
    assert list(outputs["disks"]) == ["scsi1", "virtio4"]
    assert not CLAIM.diff("app-2", outputs, adopting()).changes


def test_hardware_that_is_declared_otherwise_later_is_no_matter_of_the_claim(adopted: dict[str, Any]) -> None:
    assert not CLAIM.diff("app-2", adopted, {**adopting(), "adopted": {**ADOPTED, "cpu": 8.0}}).changes


@pytest.mark.parametrize("change", [{"vm_ids": [4191.0]}, {"addresses": ["10.0.4.99"]}])
def test_an_adopted_machine_keeps_its_id_and_its_addresses(adopted: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(AdoptionError, match=r"app-2 .* cannot change while it lives"):
        CLAIM.diff("app-2", adopted, {**adopting(), **change})


def test_without_its_host_key_an_adopted_machine_is_not_rebuilt_by_accident(adopted: dict[str, Any]) -> None:
    with pytest.raises(AdoptionError, match=r"put hostKey back.* generation: 2 at app-2"):
        CLAIM.diff("app-2", adopted, claim())


def test_a_rebuild_is_refused_in_preview_and_in_up_while_it_would_cost_a_disk(
    proxmox: Proxmox, adopted: dict[str, Any]
) -> None:
    for call in (CLAIM.diff, CLAIM.update):
        with pytest.raises(AdoptionError, match=r"scsi1 \(tank:vm-4101-disk-1\)"):
            call("app-2", adopted, claim(rebuilt=True))
    proxmox.config["virtio4"] = "tank:vm-4101-disk-4"  # since the preview
    news = claim(rebuilt=True, discard=["scsi1"])
    assert CLAIM.diff("app-2", adopted, news).changes
    with pytest.raises(AdoptionError, match="virtio4"):
        CLAIM.update("app-2", adopted, news)


def test_a_rebuilt_machine_is_claimed_by_the_same_word(proxmox: Proxmox, adopted: dict[str, Any]) -> None:
    news = claim(rebuilt=True, discard=["scsi1"])
    outputs = CLAIM.update("app-2", adopted, news).outs or {}
    assert outputs["claim"] == adopted["claim"]
    assert not CLAIM.diff("app-2", outputs, news).changes
    assert not CLAIM.diff("app-2", outputs, claim(rebuilt=True)).changes
    with pytest.raises(AdoptionError, match="its machine was made here"):
        CLAIM.diff("app-2", outputs, adopting())


def test_a_machine_that_is_gone_is_rebuilt_without_a_word_about_disks(
    proxmox: Proxmox, adopted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "inventory", lambda _: Inventory((), {}))
    assert CLAIM.update("app-2", adopted, claim(rebuilt=True)).outs


class Machine:
    """A host that can be logged in to, with a host key of its own."""

    def __init__(self) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.public = " ".join(self.key.export_public_key().decode().split()[:2])
        self.file: bytes | None = self.key.export_private_key()

    def read_file(self, path: str, timeout: float = 30) -> bytes | None:
        assert path == "/etc/ssh/ssh_host_ed25519_key"
        return self.file


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    monkeypatch.setattr(connection, "connect", lambda target, _: Connection(target))
    monkeypatch.setattr(Connection, "read_file", lambda _, path: fake.read_file(path))
    return fake


def test_the_successor_of_an_adopted_machine_shows_the_same_host_key(machine: Machine) -> None:
    former = {**manager(2), "host_key": machine.public}
    outputs = FirstBootProvider().create(boot(generation=2.0, former=former)).outs or {}
    assert outputs["host_public_key"] == machine.public
    assert outputs["host_private_key"].encode() == machine.file


@pytest.mark.parametrize("file", [None, b"", b"nonsense"])
def test_a_host_key_that_cannot_be_kept_is_told_with_the_way_out(machine: Machine, file: bytes | None) -> None:
    machine.file = file
    with pytest.raises(CommandFailed, match=r"app-2 .*Take hostKey out"):
        FirstBootProvider().create(boot(former={**manager(2), "host_key": machine.public}))


def test_a_host_key_other_than_the_declared_one_is_not_taken(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match=r"its public half is .* declared is"):
        FirstBootProvider().create(boot(former=manager(2)))


def test_a_machine_that_is_off_cannot_give_its_host_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(target: Any, timeout: float) -> Connection:
        raise Unreachable("connecting", where=str(target), came_back="timed out")

    monkeypatch.setattr(connection, "connect", unreachable)
    with pytest.raises(Unreachable, match=r"app-2 \(10\.0\.4\.2\): timed out.* take hostKey out"):
        FirstBootProvider().create(boot(former=manager(2)))


class Host:
    """What HostState finds, and how it was asked."""

    def __init__(self) -> None:
        self.found = {**plain(host()["wanted"]), "daemon": {}, "apt_cache": None}
        self.asked: list[tuple[str, HostSpec]] = []

    def adopt(self, _: Connection, spec: HostSpec, *, install: Any) -> dict[str, Any]:
        self.asked.append(("adopt", spec))
        return self.found

    def apply(self, _: Connection, spec: HostSpec, **options: Any) -> dict[str, Any]:
        self.asked.append(("apply", spec))
        return host_state.wanted(spec)

    def observe(self, _: Connection, spec: HostSpec) -> dict[str, Any]:
        self.asked.append(("observe", spec))
        return self.found


def test_a_hosts_differences_are_left_at_its_adoption_and_applied_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake, provider = Host(), HostStateProvider()
    monkeypatch.setattr(connection, "connect", lambda target, _: Connection(target))
    monkeypatch.setattr(connection, "wait_for_ssh", lambda *_: None)
    for name in ("adopt", "apply", "observe"):
        monkeypatch.setattr(host_state, name, getattr(fake, name))
    news = host(adopted=True)
    outputs = provider.create(news).outs or {}
    assert outputs["wanted"]["daemon"] == {}
    assert provider.diff("app-2", outputs, news).changes
    outputs = dict(provider.read("app-2", outputs).outs or {})
    assert provider.diff("app-2", outputs, news).changes, "a refresh forgets nothing"
    outputs = provider.update("app-2", outputs, news).outs or {}
    assert not provider.diff("app-2", outputs, news).changes
    declared = plain(news["wanted"]["daemon"])
    assert [(name, spec.keep, spec.daemon) for name, spec in fake.asked] == [
        ("adopt", True, declared),
        ("observe", True, declared),
        ("apply", True, declared),
    ]


def test_labels_that_were_declared_and_are_no_more_are_named_to_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[Any] = []

    def reached(spec: Any, *_: Any, **__: Any) -> MemberState:
        specs.append(spec)
        return MemberState("ok", "", "n2", spec.role, spec.availability, dict(spec.labels), engine_id="e2")

    monkeypatch.setattr(membership, "join_or_adopt", reached)
    monkeypatch.setattr(membership, "converge", reached)
    provider = MemberProvider()
    news = member(adopted=True, labels={"zone": "a", "disk": "ssd"})
    outputs = provider.create(news).outs or {}
    provider.update("app-2", outputs, member(adopted=True, labels={"zone": "b"}))
    provider.update("app-2", provider.create(member()).outs or {}, member(labels={}))
    assert [(spec.adopted, spec.undeclared) for spec in specs] == [
        (True, ()),
        (True, ("disk",)),
        (False, ()),
        (False, ("zone",)),
    ]
    assert specs[0].target.host_key == KEY
