"""Which nodes may take a task, and what counts as evenly spread: swarmkit's rules."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.swarm.placement import NO_LIMIT, is_even, may_run, room, takes_tasks


def node(name: str = "app-1", **labels: str) -> dict[str, Any]:
    return {
        "ID": name,
        "Spec": {"Role": "worker", "Availability": "active", "Labels": labels},
        "Description": {
            "Hostname": name,
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 4_000_000_000, "MemoryBytes": 8 << 30},
            "Engine": {"Labels": {"disk": "ssd"}},
        },
        "Status": {"State": "ready", "Addr": "192.168.4.40"},
    }


def spec(*constraints: str, **placement: Any) -> dict[str, Any]:
    return {"TaskTemplate": {"Placement": {"Constraints": list(constraints), **placement}}}


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ("node.hostname==app-1", True),
        ("node.hostname == APP-1", True),
        ("node.hostname!=app-1", False),
        ("node.role==manager", False),
        ("node.role!=manager", True),
        ("node.id==app-1", True),
        ("node.labels.storage==ssd", True),
        ("node.labels.Storage==ssd", False),
        ("node.labels.zone!=b", True),
        ("engine.labels.disk==ssd", True),
        ("node.platform.os==linux", True),
        ("node.platform.arch==x86_64", True),
        ("node.ip==192.168.4.40", True),
        ("node.ip==192.168.4.0/24", True),
        ("node.ip!=192.168.4.0/24", False),
        ("node.ip==nonsense", False),
        ("node.ip!=nonsense", False),
        ("node.weather==rain", False),
        ("node.weather!=rain", False),
    ],
)
def test_constraints(constraint: str, allowed: bool) -> None:
    assert may_run(spec(constraint), node(storage="ssd")) is allowed


def test_all_constraints_have_to_hold() -> None:
    assert not may_run(spec("node.role==worker", "node.labels.storage==tape"), node(storage="ssd"))


@pytest.mark.parametrize(
    ("platforms", "allowed"),
    [
        ([], True),
        ([{"Architecture": "amd64", "OS": "linux"}], True),
        ([{"OS": "linux"}], True),
        ([{"Architecture": "arm64", "OS": "linux"}], False),
    ],
)
def test_platforms(platforms: list[dict[str, str]], allowed: bool) -> None:
    assert may_run(spec(Platforms=platforms), node()) is allowed


def test_nodes_that_are_down_drained_or_paused_take_nothing() -> None:
    assert takes_tasks(spec(), node())
    for change in (
        {"Status": {"State": "down"}},
        {"Spec": {"Availability": "drain"}},
        {"Spec": {"Availability": "pause"}},
    ):
        assert not takes_tasks(spec(), {**node(), **change})


def test_room_is_what_reservations_a_maximum_and_ports_leave() -> None:
    assert room(spec(), node(), []) == NO_LIMIT
    assert room(spec(MaxReplicas=2), node(), []) == 2
    reserved = {"TaskTemplate": {"Resources": {"Reservations": {"MemoryBytes": 2 << 30}}}}
    other = {"Spec": {"Resources": {"Reservations": {"MemoryBytes": 3 << 30}}}}
    assert room(reserved, node(), []) == 4
    assert room(reserved, node(), [other]) == 2
    port = {"PublishMode": "host", "Protocol": "tcp", "PublishedPort": 80}
    published = {"EndpointSpec": {"Ports": [port]}}
    assert room(published, node(), []) == 1
    assert room(published, node(), [{"Status": {"PortStatus": {"Ports": [port]}}}]) == 0
    assert room(published, node(), [{"Status": {"PortStatus": {"Ports": [{**port, "PublishMode": "ingress"}]}}}]) == 1


@pytest.mark.parametrize(
    ("counts", "rooms", "even"),
    [
        ({"a": 2, "b": 2, "c": 2}, {}, True),
        ({"a": 2, "b": 2, "c": 1}, {}, True),
        ({"a": 2, "b": 2, "c": 0}, {}, False),
        ({"a": 3, "b": 3, "c": 0}, {"c": 0}, True),
        ({"a": 3, "b": 2, "c": 1}, {"c": 1}, True),
        ({"a": 0, "b": 0, "c": 0}, {}, True),
    ],
)
def test_even_is_where_no_task_could_move_for_the_better(
    counts: dict[str, int], rooms: dict[str, int], even: bool
) -> None:
    able = [node(name) for name in counts]
    assert is_even(spec(), counts, dict.fromkeys(counts, NO_LIMIT) | rooms, able) is even


def test_preferences_come_before_nodes() -> None:
    able = [node("a", zone="x"), node("b", zone="x"), node("c", zone="y")]
    rooms = dict.fromkeys("abc", NO_LIMIT)
    by_zone = spec(Preferences=[{"Spread": {"SpreadDescriptor": "node.labels.zone"}}])
    assert is_even(by_zone, {"a": 1, "b": 1, "c": 2}, rooms, able)
    assert not is_even(by_zone, {"a": 2, "b": 2, "c": 1}, rooms, able)
    assert is_even(spec(), {"a": 2, "b": 2, "c": 1}, rooms, able)
    assert not is_even(by_zone, {"a": 2, "b": 0, "c": 2}, rooms, able)
