"""Properties that hold for all settings, not for chosen ones only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxmox_swarm.settings import SettingsError, from_pulumi_config, load, read_stack_file, resolve
from proxmox_swarm.settings.daemon import check as check_daemon
from proxmox_swarm.settings.derive import disk_serial, mac_address, natural
from proxmox_swarm.settings.errors import render
from proxmox_swarm.settings.parse import SECTIONS

# No deadline for one example: the machine may be busy.
PATIENT = hypothesis_settings(deadline=None)
MANY = hypothesis_settings(PATIENT, max_examples=400, suppress_health_check=[HealthCheck.too_slow])

GOOD = read_stack_file(Path(__file__).parents[3] / "Pulumi.prod.yaml", "swarm")
IDS = st.integers(min_value=100, max_value=999_999_999)
VLANS = st.one_of(st.none(), st.integers(min_value=1, max_value=4094))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(
        ["30", "192.168.4.30", "10.0.0.0/8", "https://a:1", "5m", "main", "pve01", "app", "manager", "tank"]
    ),
)
INNER_KEYS = """
    hosts image url size daemon labels ip id host pool networks macs data docker-app-1 pve01 main subnet gateway vlan default
    live-restore default-address-pools
"""
KNOWN_KEYS = st.sampled_from([*SECTIONS, *INNER_KEYS.split()])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KNOWN_KEYS, st.text(max_size=8)), inner, max_size=5)
    ),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested settings."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        found += [place for index, item in enumerate(value) for place in places(item, (*path, index))]
    return found


PLACES = places(GOOD)


@PATIENT
@given(IDS, VLANS)
def test_mac_addresses_are_unicast_local_and_tell_id_and_vlan(vm_id: int, vlan: int | None) -> None:
    octets = bytes.fromhex(mac_address(vm_id, vlan).replace(":", ""))
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10
    # Reading both back shows that no two pairs share an address.
    number = (octets[0] >> 2) << 40 | int.from_bytes(octets[1:], "big")
    assert (number >> 12, number & 0xFFF) == (vm_id, vlan or 0)


@PATIENT
@given(IDS)
def test_serials_fit_into_what_qemu_keeps(holder_id: int) -> None:
    serial = disk_serial(holder_id)
    assert len(serial) <= 20
    assert serial.replace("-", "").isalnum()


@PATIENT
@given(st.permutations(sorted(GOOD["nodes"])), st.permutations(sorted(GOOD["networks"])), st.permutations(sorted(GOOD)))
def test_the_order_of_the_file_changes_nothing(nodes: list[str], networks: list[str], keys: list[str]) -> None:
    shuffled = {key: GOOD[key] for key in keys}
    shuffled["nodes"] = {name: GOOD["nodes"][name] for name in nodes}
    shuffled["networks"] = {name: GOOD["networks"][name] for name in networks}
    first, second = (resolve(config, project="swarm", stack="prod") for config in (GOOD, shuffled))
    assert first == second
    assert list(first.nodes) == list(second.nodes)


@PATIENT
@given(st.lists(st.from_regex(r"[a-z]{1,3}-?[0-9]{0,3}", fullmatch=True), unique=True))
def test_natural_order_is_total(names: list[str]) -> None:
    backwards = list(reversed(names))
    assert sorted(names, key=natural) == sorted(backwards, key=natural)


@PATIENT
@given(st.dictionaries(st.one_of(st.sampled_from(sorted(SECTIONS)), st.text(max_size=8)), VALUES, max_size=8))
def test_nothing_but_a_settings_error_is_ever_raised(config: dict[str, Any]) -> None:
    config.pop("include", None)
    with pytest.raises(SettingsError) as caught:
        resolve(config, project="swarm", stack="prod")
    assert caught.value.problems
    assert str(caught.value).startswith("swarm:")


@MANY
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_anywhere_is_accepted_or_refused_by_its_key(place: tuple[Any, ...], value: object) -> None:
    config = copy.deepcopy(GOOD)
    inner: Any = config
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    try:
        settings = resolve(config, project="swarm", stack="prod")
    except SettingsError as error:
        for line in (problem.line("swarm") for problem in error.problems):
            assert "\n" not in line
            assert " Accepted: " in line
    else:
        addresses = [nic.address for node in settings.nodes.values() for nic in node.nics]
        ids = [node.vm_id for node in settings.nodes.values()]
        ids += [node.data.holder_id for node in settings.nodes.values() if node.data]
        macs = [nic.mac for node in settings.nodes.values() for nic in node.nics]
        assert len(addresses) == len(set(addresses))
        assert len(ids) == len(set(ids))
        assert len(macs) == len(set(macs))
        assert len(settings.managers) % 2 == 1
        assert settings.docker.daemon.get("live-restore") in (None, False)


@PATIENT
@given(VALUES)
def test_any_include_is_read_or_refused(value: object) -> None:
    with pytest.raises(SettingsError):
        load({"include": value}, project="swarm", stack="prod", base=Path("/nonexistent"), env={})


@PATIENT
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=6))
def test_any_daemon_json_is_checked_without_an_exception(declared: dict[str, Any]) -> None:
    for problem in check_daemon(declared):
        assert render(problem.path).startswith("docker.daemon")


@PATIENT
@given(st.dictionaries(st.text(max_size=10).map(lambda name: f"swarm:{name}"), st.text(max_size=30), max_size=5))
def test_whatever_pulumi_hands_over_can_be_read(entries: dict[str, str]) -> None:
    assert len(from_pulumi_config(entries, "swarm")) == len(entries)
