from __future__ import annotations

import re
from typing import Any

import pytest

from proxmox_swarm.providers.claim import ClaimProvider
from proxmox_swarm.proxmox import client, ownership
from proxmox_swarm.proxmox.client import Guest, ProxmoxError
from proxmox_swarm.proxmox.ownership import Inventory, Marker, TakenError
from tests.unit.providers.props import claim

PROVIDER = ClaimProvider()


class Proxmox:
    """A Proxmox VE cluster: guests by id with their descriptions. ``error`` is what asking it raises."""

    def __init__(self) -> None:
        self.guests: dict[int, tuple[str, str]] = {}
        self.answering: set[str] = set()
        self.error: ProxmoxError | None = None
        self.asked: list[tuple[Any, bool]] = []

    def connect(self, endpoints: Any, *, insecure: bool) -> Proxmox:
        self.asked.append((endpoints, insecure))
        if self.error:
            raise self.error
        return self

    def inventory(self, _: Proxmox) -> Inventory:
        guests = tuple(Guest(i, name, "pve01", "qemu", "running", ()) for i, (name, _) in self.guests.items())
        return Inventory(guests, {i: {"description": text} for i, (_, text) in self.guests.items()})


@pytest.fixture
def proxmox(monkeypatch: pytest.MonkeyPatch) -> Proxmox:
    fake = Proxmox()
    monkeypatch.setattr(client, "Client", fake.connect)
    monkeypatch.setattr(ownership, "inventory", fake.inventory)
    monkeypatch.setattr(ownership, "_answers", lambda address: address in fake.answering)
    return fake


def made(proxmox: Proxmox) -> dict[str, Any]:
    """A claim's outputs, and its VM beside it."""
    outputs = PROVIDER.create(claim()).outs
    assert outputs is not None
    proxmox.guests[4101] = ("app-2", outputs["marker"])
    return outputs


def needs_update(olds: Any, news: dict[str, Any]) -> bool:
    result = PROVIDER.diff("app-2", olds, news)
    assert not result.replaces, "a claim is never replaced: that is how it can be protected"
    return bool(result.changes)


def test_create_makes_a_word_that_nobody_else_knows(proxmox: Proxmox) -> None:
    first, second = PROVIDER.create(claim()), PROVIDER.create(claim())
    assert first.id == "app-2"
    outs, others = first.outs or {}, second.outs or {}
    assert re.fullmatch(r"[0-9a-f]{16}", outs["claim"])
    assert outs["claim"] != others["claim"]
    assert outs["marker"] == f"proxmox-swarm project=swarm stack=prod node=app-2 claim={outs['claim']}"
    assert Marker.find(outs["marker"]) == Marker("swarm", "prod", "app-2", outs["claim"])
    assert not needs_update(outs, claim())
    assert proxmox.asked[0] == (["https://pve01:8006"], False)


@pytest.mark.parametrize("vm_id", [4101, 4601])
def test_create_refuses_an_id_that_somebody_has(proxmox: Proxmox, vm_id: int) -> None:
    proxmox.guests[vm_id] = ("web", "a VM of somebody else")
    with pytest.raises(TakenError, match=rf"VM id {vm_id}, wanted for app-2, is taken by VM {vm_id} 'web' on pve01"):
        PROVIDER.create(claim())


def test_create_refuses_an_address_that_answers(proxmox: Proxmox) -> None:
    proxmox.answering.add("10.0.12.2")
    with pytest.raises(TakenError, match=r"address 10\.0\.12\.2"):
        PROVIDER.create(claim())


def test_read_finds_no_change_while_the_ids_are_free_or_ours(proxmox: Proxmox) -> None:
    outputs = PROVIDER.create(claim()).outs or {}
    assert PROVIDER.read("app-2", outputs).outs == outputs
    proxmox.guests[4101] = ("app-2", outputs["marker"])
    assert PROVIDER.read("app-2", outputs).outs == outputs


@pytest.mark.parametrize("description", ["nothing of ours", str(Marker("swarm", "prod", "app-2", "another-claim"))])
def test_an_id_that_somebody_took_shows_and_up_refuses_to_go_on(proxmox: Proxmox, description: str) -> None:
    outputs = made(proxmox)
    proxmox.guests[4101] = ("web", description)
    result = PROVIDER.read("app-2", outputs)
    assert result.id == "app-2"
    assert (result.outs or {})["owner"] == "VM id 4101 is taken by VM 4101 'web' on pve01"
    assert needs_update(result.outs, claim())
    with pytest.raises(TakenError):
        PROVIDER.update("app-2", result.outs or {}, claim())
    del proxmox.guests[4101]
    assert PROVIDER.update("app-2", result.outs or {}, claim()).outs == outputs


def test_a_guest_whose_configuration_cannot_be_read_is_not_disowned(
    proxmox: Proxmox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = made(proxmox)
    guest = Guest(4101, "app-2", "pve02", "qemu", "unknown", ())
    monkeypatch.setattr(ownership, "inventory", lambda _: Inventory((guest,), {4101: {}}))
    assert PROVIDER.read("app-2", outputs).outs == outputs


def test_where_the_api_does_not_answer_the_recorded_owner_stays(
    proxmox: Proxmox, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = made(proxmox)
    proxmox.error = ProxmoxError("no Proxmox VE endpoint answered: https://pve01:8006: refused")
    result = PROVIDER.read("app-2", outputs)
    assert (result.id, result.outs) == ("app-2", outputs)
    assert capsys.readouterr().err.startswith("app-2: owner of the VM id not read: no Proxmox VE endpoint answered")


@pytest.mark.parametrize("change", [{"vm_ids": [4191.0]}, {"addresses": ["10.0.4.99"]}])
def test_other_ids_and_addresses_are_claimed_by_the_same_word(proxmox: Proxmox, change: dict[str, Any]) -> None:
    outputs = made(proxmox)
    news = claim(**change)
    assert needs_update(outputs, news)
    updated = PROVIDER.update("app-2", outputs, news).outs or {}
    assert (updated["claim"], updated["marker"]) == (outputs["claim"], outputs["marker"])
    assert not needs_update(updated, news)


def test_an_update_to_a_taken_id_is_refused(proxmox: Proxmox) -> None:
    outputs = made(proxmox)
    proxmox.guests[4191] = ("web", "")
    with pytest.raises(TakenError, match="VM id 4191"):
        PROVIDER.update("app-2", outputs, claim(vm_ids=[4191.0]))


def test_errors_of_the_api_come_through_as_they_are(proxmox: Proxmox) -> None:
    outputs = made(proxmox)
    proxmox.error = ProxmoxError("no Proxmox VE endpoint answered")
    for call in (lambda: PROVIDER.create(claim()), lambda: PROVIDER.update("app-2", outputs, claim())):
        with pytest.raises(ProxmoxError) as raised:
            call()
        assert raised.value is proxmox.error


def test_deleting_a_claim_touches_nothing(proxmox: Proxmox) -> None:
    outputs = made(proxmox)
    proxmox.asked.clear()
    PROVIDER.delete("app-2", outputs)
    assert proxmox.asked == []
