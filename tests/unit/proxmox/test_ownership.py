from typing import Any

import pytest

from proxmox_swarm.proxmox import ownership
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.proxmox.ownership import Inventory, Marker, TakenError, check_free

MINE = Marker("swarm", "lab", "docker-app-1", "c0ffee")
OTHER = Marker("swarm", "second", "other-1", "beef")


def inventory(*entries: tuple[int, str, dict[str, Any]]) -> Inventory:
    guests = tuple(Guest(i, name, "pve01", "qemu", "running", ()) for i, name, _ in entries)
    return Inventory(guests, {i: config for i, _, config in entries})


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which addresses answer; none unless a test says so."""
    answering: set[str] = set()
    monkeypatch.setattr(ownership, "_answers", lambda address: address in answering)
    return answering


def test_a_marker_survives_being_written_into_a_description() -> None:
    assert Marker.find(f"some text\n{MINE}\nmore") == MINE
    assert Marker.find("a VM of somebody else") is None


def test_free_ids_and_addresses_are_free() -> None:
    found = inventory((100, "web", {"ipconfig0": "ip=192.168.4.99/24"}))
    assert check_free(found, MINE, [4100], ["192.168.4.30"]) == "free"


def test_our_own_machine_is_ours() -> None:
    found = inventory(
        (4100, "docker-app-1", {"description": str(MINE), "ipconfig0": "gw=192.168.4.1,ip=192.168.4.30/24"})
    )
    assert check_free(found, MINE, [4100], ["192.168.4.30"]) == "ours"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["VM id 4100", "docker-app-1", "no marker", "'web' on pve01", "Nothing of it was touched"]),
        ({"description": str(OTHER)}, ["node other-1 of stack swarm/second", "choose another"]),
        (
            {"description": str(MINE).replace("c0ffee", "dead")},
            ["a claim that this stack's state does not hold", "restore the state"],
        ),
    ],
)
def test_a_taken_id_is_refused_and_named(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(TakenError) as refused:
        check_free(inventory((4100, "web", config)), MINE, [4100], ["192.168.4.30"])
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize("key", ["ipconfig0", "ipconfig1", "net0"])
def test_an_address_declared_by_another_guest_is_refused(key: str) -> None:
    found = inventory((100, "web", {key: "name=eth0,ip=192.168.12.30/24,bridge=vmbr0", "description": str(OTHER)}))
    with pytest.raises(TakenError, match=r"address 192\.168\.12\.30.*VM 100 'web' on pve01"):
        check_free(found, MINE, [4100], ["192.168.4.30", "192.168.12.30"])


def test_an_address_is_not_taken_by_one_that_begins_alike() -> None:
    found = inventory((100, "web", {"ipconfig0": "ip=192.168.4.30/24"}))
    assert check_free(found, MINE, [4100], ["192.168.4.3"]) == "free"


def test_an_address_that_answers_though_nobody_declares_it_is_refused(silence: set[str]) -> None:
    silence.add("192.168.4.30")
    with pytest.raises(TakenError, match=r"192\.168\.4\.30.*answers on port 22"):
        check_free(inventory(), MINE, [4100], ["192.168.4.30"])


def test_our_running_machine_answers_and_that_is_no_reason_to_refuse_it(silence: set[str]) -> None:
    silence.add("192.168.4.30")
    found = inventory((4100, "docker-app-1", {"description": str(MINE)}))
    assert check_free(found, MINE, [4100], ["192.168.4.30"], held=["192.168.4.30"]) == "ours"


def test_a_new_address_for_our_machine_is_refused_where_a_stranger_answers(silence: set[str]) -> None:
    silence |= {"192.168.4.30", "192.168.4.31"}
    found = inventory((4100, "docker-app-1", {"description": str(MINE), "ipconfig0": "ip=192.168.4.30/24"}))
    with pytest.raises(TakenError, match=r"192\.168\.4\.31.*answers on port 22"):
        check_free(found, MINE, [4100], ["192.168.4.31"], held=["192.168.4.30"])
