"""Whether the engines agree with the declaration: each engine is asked about itself, a manager about all of them."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.declaration import Declaration, Node
from tests.lab.project import Project

_SECOND = 1_000_000_000
_MIB = 1 << 20
_SELF = "docker info --format '{{json .Swarm}}' && echo && cat /etc/docker/daemon.json"
_ALL = "docker node inspect $(docker node ls -q)"
#: A declared setting of the swarm: where the engine's spec has it, and the value there.
CLUSTER: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "taskHistory": (("Orchestration", "TaskHistoryRetentionLimit"), int),
    "snapshotInterval": (("Raft", "SnapshotInterval"), int),
    "certificateExpiry": (("CAConfig", "NodeCertExpiry"), lambda days: int(days[:-1]) * 86400 * _SECOND),
    "labels": (("Labels",), dict),
}


def problems(project: Project, declared: Declaration, former: Mapping[str, str], rejoined: Iterable[str]) -> list[str]:
    """What is not as declared, one line each; empty when all is.

    ``former`` are the nodes' ids before; those of ``rejoined`` are new ones, all others keep theirs.
    """
    try:
        nodes = listed(project, declared)
        owns = _owns(project, declared)
    except AssertionError as error:
        return [f"the swarm does not tell: {str(error).strip().splitlines()[-1]}"]
    found = [*_names(nodes, declared), *_machines(project, declared)]
    by_name = {node["Description"]["Hostname"]: node for node in nodes}
    for name, wanted in declared.nodes.items():
        if name in by_name:
            found += _node(name, wanted, by_name[name])
            found += _own(name, wanted, by_name[name]["ID"], owns[name], declared)
    found += _identities({name: node["ID"] for name, node in by_name.items()}, declared, former, set(rejoined))
    found += _cluster(owns, declared)
    return found


def recorded(project: Project) -> list[str]:
    """What state still holds against it: verdicts that are not ok, and steps that another `up` would take."""
    verdicts = [f"state calls {name} {verdict}" for name, verdict in project.verdicts().items()]
    return verdicts + [f"another `up` would {doing} {what}" for what, doing in project.steps().items()]


def listed(project: Project, declared: Declaration) -> list[dict[str, Any]]:
    """Every node object, ghosts too, from the first declared manager that tells."""
    last: AssertionError | None = None
    for name in declared.managers:
        try:
            nodes: list[dict[str, Any]] = json.loads(project.ssh(declared.nodes[name].address, _ALL))
            return nodes
        except AssertionError as error:
            last = error
    raise last or AssertionError("no manager is declared")


def ids(project: Project, declared: Declaration) -> dict[str, str]:
    """The nodes' ids by name."""
    return {node["Description"]["Hostname"]: node["ID"] for node in listed(project, declared)}


def evidence(project: Project, declared: Declaration, file: Path) -> None:
    """What there is to know after a failed round: the nodes as each manager lists them, each engine, its last words."""
    scripts = {
        "the nodes": _ALL,
        "the engine": "docker info --format '{{json .Swarm}}'; docker ps -a",
        "its log": "journalctl -u docker -n 400 --no-pager -o short-precise",
    }
    told = [json.dumps(project.state(), indent=1)]
    for name, node in declared.nodes.items():
        for what, script in scripts.items():
            try:
                said = project.ssh(node.address, script, check=False)
            except subprocess.TimeoutExpired:
                said = "no answer"
            told.append(f"== {name}: {what}\n{said}")
    file.write_text("\n".join(told))


def _owns(project: Project, declared: Declaration) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    def ask(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
        swarm, _, daemon = project.ssh(node.address, _SELF).partition("\n")
        return json.loads(swarm), json.loads(daemon)

    with ThreadPoolExecutor(len(declared.nodes)) as threads:
        return dict(zip(declared.nodes, threads.map(ask, declared.nodes.values()), strict=True))


def _names(nodes: list[dict[str, Any]], declared: Declaration) -> list[str]:
    names = Counter(node["Description"].get("Hostname", "?") for node in nodes)
    found = [f"{name} is not in the swarm" for name in declared.nodes if name not in names]
    found += [f"{name} is in the swarm and not declared" for name in names if name not in declared.nodes]
    return found + [f"{name} is in the swarm {count} times" for name, count in names.items() if count > 1]


def _machines(project: Project, declared: Declaration) -> list[str]:
    actual = project.machines()
    expected = dict.fromkeys(declared.nodes, "running")
    expected |= {f"{name}-data": "stopped" for name, node in declared.nodes.items() if node.data}
    different = sorted(set(actual.items()) ^ set(expected.items()))
    found = [f"machines are not as declared: {different}"] if different else []
    sizes = {vm["name"]: (vm["maxcpu"], vm["maxmem"] // _MIB) for vm in project.resources()}
    for name, node in declared.nodes.items():
        wanted = (node.cpu, round(node.memory * 1024))
        if sizes.get(name, wanted) != wanted:
            found.append(f"{name} runs with CPU and MiB {sizes[name]}, declared {wanted}")
    return found


def _node(name: str, wanted: Node, node: dict[str, Any]) -> list[str]:
    spec, raft = node["Spec"], node.get("ManagerStatus") or {}
    pairs = {
        "state": (node["Status"]["State"], "ready"),
        "role": (spec["Role"], wanted.role),
        "availability": (spec["Availability"], wanted.availability),
        "labels": (spec.get("Labels") or {}, dict(wanted.labels)),
        "address": (node["Status"]["Addr"], wanted.address),
        "place in raft": (raft.get("Reachability"), "reachable" if wanted.role == "manager" else None),
    }
    return [f"{name}: {what} is {actual}, declared {want}" for what, (actual, want) in pairs.items() if actual != want]


def _own(
    name: str, wanted: Node, node_id: str, own: tuple[dict[str, Any], dict[str, Any]], declared: Declaration
) -> list[str]:
    swarm, daemon = own
    pairs = {
        "state": (swarm["LocalNodeState"], "active"),
        "id": (swarm["NodeID"], node_id),
        "being a manager": (swarm["ControlAvailable"], wanted.role == "manager"),
        "error": (swarm.get("Error") or "", ""),
        "count of managers": (swarm.get("Managers", 0), len(declared.managers) if wanted.role == "manager" else 0),
        "daemon.json": ({key: daemon.get(key) for key in declared.daemon}, dict(declared.daemon)),
    }
    return [f"engine of {name}: {what} is {a}, should be {w}" for what, (a, w) in pairs.items() if a != w]


def _identities(
    now: Mapping[str, str], declared: Declaration, former: Mapping[str, str], rejoined: set[str]
) -> list[str]:
    common = set(now) & set(former) & set(declared.nodes)
    lost = [f"{name} has become another member" for name in common - rejoined if now[name] != former[name]]
    same = [f"{name} is still the former member" for name in common & rejoined if now[name] == former[name]]
    return sorted(lost + same)


def _cluster(owns: Mapping[str, tuple[dict[str, Any], dict[str, Any]]], declared: Declaration) -> list[str]:
    found = []
    for manager in declared.managers:
        spec = (owns[manager][0].get("Cluster") or {}).get("Spec") or {}
        for key, value in declared.cluster.items():
            path, convert = CLUSTER[key]
            actual = spec
            for part in path:
                actual = actual.get(part) or {}
            if actual != convert(value):
                found.append(f"{manager} has cluster {key} at {actual}, declared {value}")
    return found
