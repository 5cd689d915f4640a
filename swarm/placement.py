"""Which nodes could take a task of a service, and whether its tasks are spread over them as evenly as can be.

The rules are those of swarmkit's scheduler (manager/constraint/constraint.go, manager/scheduler/filter.go). Plugins,
generic resources and cluster volumes are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.engine import Json

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: More tasks of one service than this on a node never come about.
NO_LIMIT = 1 << 31


def placement_of(spec: Json) -> Json:
    """The placement part of a service's spec."""
    return (spec.get("TaskTemplate") or {}).get("Placement") or {}


def may_run(spec: Json, node: Json) -> bool:
    """Whether the service's constraints and platforms allow the node, whatever its state."""
    placement = placement_of(spec)
    return all(_matches(expression, node) for expression in placement.get("Constraints") or ()) and _platform(
        placement.get("Platforms") or (), node
    )


def takes_tasks(spec: Json, node: Json) -> bool:
    """Whether a new task of the service could be put on the node now, resources and ports aside."""
    return nodes.is_ready(node) and nodes.availability_of(node) == "active" and may_run(spec, node)


def room(spec: Json, node: Json, others: Sequence[Json]) -> int:
    """How many tasks of the service fit on the node beside ``others``, the unfinished tasks of other services there."""
    template = spec.get("TaskTemplate") or {}
    limit = int(placement_of(spec).get("MaxReplicas") or NO_LIMIT)
    wanted = _reserved(template)
    has = (node.get("Description") or {}).get("Resources") or {}
    for key, need in wanted.items():
        left = int(has.get(key) or 0) - sum(_reserved(task.get("Spec") or {}).get(key, 0) for task in others)
        limit = min(limit, max(0, left // need))
    ports = {(p.get("Protocol"), p["PublishedPort"]) for p in _host_ports(spec.get("EndpointSpec") or {})}
    if ports:
        taken = {(p.get("Protocol"), p["PublishedPort"]) for t in others for p in _ports_of_task(t)}
        limit = 0 if ports & taken else min(limit, 1)
    return limit


def is_even(spec: Json, counts: Mapping[str, int], rooms: Mapping[str, int], able: Sequence[Json]) -> bool:
    """Whether no task could move so that the spread gets better.

    ``counts`` has the service's tasks a node id, ``rooms`` what fits there. Placement preferences come first, as they do
    in the scheduler: nodes are grouped by the value of each, and the groups are evened out before the nodes in them.
    """
    preferences = [
        p["Spread"]["SpreadDescriptor"] for p in placement_of(spec).get("Preferences") or () if "Spread" in p
    ]
    return _even(preferences, counts, rooms, able)


def _even(
    preferences: Sequence[str], counts: Mapping[str, int], rooms: Mapping[str, int], able: Sequence[Json]
) -> bool:
    if not preferences:
        return _level([(counts.get(node["ID"], 0), rooms[node["ID"]]) for node in able])
    groups: dict[str, list[Json]] = {}
    for node in able:
        groups.setdefault(_label(preferences[0], node), []).append(node)
    sums = [
        (sum(counts.get(n["ID"], 0) for n in group), sum(rooms[n["ID"]] for n in group)) for group in groups.values()
    ]
    return _level(sums) and all(_even(preferences[1:], counts, rooms, group) for group in groups.values())


def _level(places: Sequence[tuple[int, int]]) -> bool:
    """No place has two tasks more than one that has room for another."""
    return not any(high - low > 1 and low < space for high, _ in places for low, space in places)


def _matches(expression: str, node: Json) -> bool:
    key, operator, wanted = (part.strip() for part in re.split("(==|!=)", expression, maxsplit=1))
    wants_equal = operator == "=="
    if key.lower() == "node.ip":
        return _ip_matches(wanted, str((node.get("Status") or {}).get("Addr") or "")) == wants_equal
    actual = _value(key, node)
    if actual is None:
        return False  # the scheduler rejects keys it does not know, with either operator
    return (actual.casefold() == wanted.casefold()) == wants_equal


def _value(key: str, node: Json) -> str | None:
    description: Mapping[str, Any] = node.get("Description") or {}
    simple: dict[str, Callable[[], str]] = {
        "node.id": lambda: str(node["ID"]),
        "node.hostname": lambda: nodes.hostname_of(node),
        "node.role": lambda: nodes.role_of(node),
        "node.platform.os": lambda: str((description.get("Platform") or {}).get("OS") or ""),
        "node.platform.arch": lambda: str((description.get("Platform") or {}).get("Architecture") or ""),
    }
    if key.lower() in simple:
        return simple[key.lower()]()
    if key.lower().startswith(("node.labels.", "engine.labels.")):
        return _label(key, node)
    return None


def _label(descriptor: str, node: Json) -> str:
    """The value of ``node.labels.x`` or ``engine.labels.x``; the label's own name is compared with its case."""
    scope, _, name = descriptor.partition(".labels.")
    if scope.lower() == "node":
        return nodes.labels_of(node).get(name, "")
    engine = (node.get("Description") or {}).get("Engine") or {}
    return str((engine.get("Labels") or {}).get(name, ""))


def _ip_matches(wanted: str, actual: str) -> bool | None:
    try:
        network = ip_network(wanted, strict=False)
        return ip_address(actual) in network if actual else False
    except ValueError:
        return None  # equal to neither True nor False: rejected with either operator


def _platform(accepted: Sequence[Json], node: Json) -> bool:
    has = (node.get("Description") or {}).get("Platform") or {}

    def same(want: Json) -> bool:
        architecture = want.get("Architecture") or ""
        system = want.get("OS") or ""
        return (not architecture or _plain(architecture) == _plain(has.get("Architecture") or "")) and (
            not system or system == has.get("OS")
        )

    return not accepted or any(same(want) for want in accepted)


def _plain(architecture: str) -> str:
    return _ARCHITECTURES.get(architecture, architecture)


def _reserved(template: Json) -> Counter[str]:
    reserved = (template.get("Resources") or {}).get("Reservations") or {}
    return Counter({key: int(reserved[key]) for key in ("NanoCPUs", "MemoryBytes") if reserved.get(key)})


def _host_ports(endpoint: Json) -> list[Json]:
    return [p for p in endpoint.get("Ports") or () if p.get("PublishMode") == "host" and p.get("PublishedPort")]


def _ports_of_task(task: Json) -> list[Json]:
    return _host_ports((task.get("Status") or {}).get("PortStatus") or {})
