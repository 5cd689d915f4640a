"""What counts as a change: the same rules for every resource."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from proxmox_swarm.providers.autolock import AutolockProvider
from proxmox_swarm.providers.base import Provider, is_unknown, plain
from proxmox_swarm.providers.ca_rotation import CaRotationProvider
from proxmox_swarm.providers.claim import ClaimProvider
from proxmox_swarm.providers.cluster import ClusterProvider
from proxmox_swarm.providers.cluster_settings import ClusterSettingsProvider
from proxmox_swarm.providers.first_boot import FirstBootProvider
from proxmox_swarm.providers.host_state import HostStateProvider
from proxmox_swarm.providers.member import MemberProvider
from proxmox_swarm.providers.token_rotation import TokenRotationProvider
from tests.unit.providers import props

KINDS: list[tuple[Provider, Callable[..., dict[str, Any]]]] = [
    (ClaimProvider(), props.claim),
    (ClusterProvider(), props.cluster),
    (ClusterSettingsProvider(), props.settings),
    (FirstBootProvider(), props.boot),
    (HostStateProvider(), props.host),
    (MemberProvider(), props.member),
    (TokenRotationProvider(), props.token),
    (CaRotationProvider(), props.ca),
    (AutolockProvider(), partial(props.lock, enabled=True)),
]
every_kind = pytest.mark.parametrize(("provider", "make"), KINDS, ids=lambda v: type(v).__name__)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def over_the_wire(value: Any) -> Any:
    """What protobuf's Struct does to a value."""
    if isinstance(value, bool) or not isinstance(value, int | dict | list):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, dict):
        return {key: over_the_wire(v) for key, v in value.items() if v is not None}
    return [over_the_wire(v) for v in value]


def verdict(provider: Provider, olds: dict[str, Any], news: dict[str, Any]) -> tuple[bool, list[str]]:
    result = provider.diff("id", olds, news)
    assert result.changes is not None
    assert result.delete_before_replace is True
    return result.changes, list(result.replaces or [])


@every_kind
def test_the_same_is_no_change(provider: Provider, make: Callable[..., dict[str, Any]]) -> None:
    assert verdict(provider, make(), make()) == (False, [])


@every_kind
def test_whole_numbers_as_floats_are_no_change(provider: Provider, make: Callable[..., dict[str, Any]]) -> None:
    assert verdict(provider, plain(make()), make()) == (False, [])
    assert verdict(provider, make(), plain(make())) == (False, [])


@every_kind
def test_outputs_and_the_pickle_are_no_change(provider: Provider, make: Callable[..., dict[str, Any]]) -> None:
    olds = make(__provider="another pickle", node_id="n1", detail="", cluster_id="c1", marker="m", digest="d")
    assert verdict(provider, olds, make()) == (False, [])


@every_kind
def test_what_was_none_and_is_left_out_now_is_no_change(
    provider: Provider, make: Callable[..., dict[str, Any]]
) -> None:
    news = {**make(), **{key: None for key in provider.watched if key not in make()}}
    assert verdict(provider, make(), news) == (False, [])


@every_kind
def test_every_watched_input_is_a_change(provider: Provider, make: Callable[..., dict[str, Any]]) -> None:
    assert provider.watched
    for key in provider.watched:
        changed, replaces = verdict(provider, make(), make(**{key: "something else"}))
        assert changed, key
        assert replaces == ([key] if key in provider.replacing else []), key


@every_kind
def test_an_unknown_input_is_no_change_unless_it_replaces(
    provider: Provider, make: Callable[..., dict[str, Any]]
) -> None:
    for key in make():
        for unknown in (Unknown(), UNKNOWN):
            expected = (True, [key]) if key in provider.replacing else (False, [])
            assert verdict(provider, make(), make(**{key: unknown})) == expected, key


def spoil(value: Any) -> list[Any]:
    """Copies of a value, each with one leaf unknown."""
    if isinstance(value, dict):
        return [{**value, key: spoiled} for key, part in value.items() for spoiled in spoil(part)]
    if isinstance(value, list):
        return [[*value[:i], spoiled, *value[i + 1 :]] for i, part in enumerate(value) for spoiled in spoil(part)]
    return [Unknown()]


@every_kind
def test_an_unknown_anywhere_inside_is_no_change(provider: Provider, make: Callable[..., dict[str, Any]]) -> None:
    for key in provider.watched:
        if key not in provider.replacing:
            for spoiled in spoil(make().get(key)):
                assert verdict(provider, make(), make(**{key: spoiled})) == (False, []), key


@pytest.mark.parametrize(("provider", "make"), [KINDS[1], KINDS[2], KINDS[5]], ids=["Cluster", "Settings", "Member"])
def test_a_manager_more_is_a_change_although_its_host_key_is_not_known_yet(
    provider: Provider, make: Callable[..., dict[str, Any]]
) -> None:
    """Else a preview would say less than `up` does."""
    new = {**props.manager(4), "host_key": Unknown()}
    assert verdict(provider, make(), make(managers=[*props.MANAGERS, new])) == (True, [])
    renewed = [{**props.MANAGERS[0], "host_key": Unknown()}, *props.MANAGERS[1:]]
    assert verdict(provider, make(), make(managers=renewed)) == (False, [])


@pytest.mark.parametrize(("provider", "make"), KINDS[4:6], ids=["HostState", "Member"])
def test_a_machine_that_is_replaced_replaces_what_lives_on_it(
    provider: Provider, make: Callable[..., dict[str, Any]]
) -> None:
    assert verdict(provider, make(), make(machine=Unknown())) == (True, ["machine"])
    assert verdict(provider, make(), make(machine="4199")) == (True, ["machine"])


def test_only_a_machine_replaces() -> None:
    assert {type(provider).__name__: provider.replacing for provider, _ in KINDS if provider.replacing} == {
        "HostStateProvider": ("machine",),
        "MemberProvider": ("machine",),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("address", "10.0.4.99"),
        ("user", "other"),
        ("data_path_port", 4790.0),
        ("deadlines", {**props.DEADLINES, "join": 5.0}),
        ("proxmox", {"endpoints": ["https://pve02:8006"], "insecure": True, "vm_id": 4101.0}),
        ("host_key", "ssh-ed25519 BBBB"),
    ],
)
def test_how_a_member_is_reached_is_no_change_of_the_member(key: str, value: Any) -> None:
    assert verdict(MemberProvider(), props.member(), props.member(**{key: value})) == (False, [])


@pytest.mark.parametrize(("key", "value"), [("keys", ["another"]), ("user", "other"), ("node", "other")])
def test_a_first_boot_is_frozen(key: str, value: Any) -> None:
    assert verdict(FirstBootProvider(), props.boot(), props.boot(**{key: value})) == (False, [])
    assert verdict(FirstBootProvider(), props.boot(), props.boot(generation=2.0)) == (True, [])


def test_ordinary_edits_are_no_change_of_the_cluster() -> None:
    edits = {
        "join_timeout": 5.0,
        "init": {"address_pool": ["10.9.0.0/16"], "subnet_size": 25.0, "data_path_port": 4790.0},
    }
    for key, value in edits.items():
        assert verdict(ClusterProvider(), props.cluster(), props.cluster(**{key: value})) == (False, [])


@given(json_values)
def test_a_value_is_the_same_before_and_after_the_wire(value: Any) -> None:
    before = copy.deepcopy(value)
    assert plain(over_the_wire(value)) == plain(value)
    assert value == before


@given(json_values)
def test_what_the_wire_carries_is_known(value: Any) -> None:
    assert not is_unknown(value)
    assert is_unknown({"a": [value, {"b": Unknown()}]})
    assert is_unknown([value, UNKNOWN])


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), (2.0, 2), (True, True), ("2.0", "2.0"), (-0.0, 0)])
def test_only_whole_floats_become_integers(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_one_readable_line_unless_somebody_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)
    monkeypatch.setenv("PROXMOX_SWARM_DEBUG", "1")
    MemberProvider().configure(None)  # type: ignore[arg-type]
    assert sys.tracebacklimit == 1000
    monkeypatch.delenv("PROXMOX_SWARM_DEBUG")
    MemberProvider().configure(None)  # type: ignore[arg-type]
    assert sys.tracebacklimit == 0
