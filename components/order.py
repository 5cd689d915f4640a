"""In which order machines are made and touched. Pure functions over names: no Pulumi in here.

Bring-up: machines in parallel lanes, never more than ``parallel`` at once on one Proxmox VE host (Pulumi has no such knob,
so a lane is a chain of ``depends_on`` edges). Later runs: a machine is touched once the members before it in its lane are
back; that edge alone makes a replacement of every machine a rolling one (measured). Managers are one lane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence

from proxmox_swarm.settings.model import Node


def lanes(nodes: Iterable[Node], parallel: int) -> Mapping[str, str | None]:
    """For each node the node before it in its lane, or None at the head of a lane.

    A host's managers come first, for the workers wait for them anyway; among equals a hash of the name decides, so that
    adding a node moves few others. A node's predecessor always precedes it in the returned mapping.
    """
    before: dict[str, str | None] = {}
    last: dict[str, list[str]] = {}
    for node in sorted(nodes, key=lambda n: (n.host, n.role != "manager", hashlib.sha256(n.name.encode()).digest())):
        line = last.setdefault(node.host, [])
        before[node.name] = line[-parallel] if len(line) >= parallel else None
        line.append(node.name)
    return before


def rolling(
    nodes: Iterable[Node],
    *,
    unavailable: int = 1,
    parallel: int = 1,
    preferred: Sequence[str] = (),
    there: Container[str] | None = None,
) -> Mapping[str, tuple[str, ...]]:
    """For each node those whose members must be back before it is touched, in the order of later runs.

    Managers come first, one after the other. Workers follow, at most ``unavailable`` at the same moment and at most
    ``parallel`` of one host: each waits for the one so many places before it, among all workers and among those of its
    host. That leaves no more chains than that, and a node that is added changes only what so many others wait for.

    ``there`` names the nodes that are in the swarm already, None all of them. A worker that is not takes nothing away from
    it: it comes after the others of its host, and waits for no turn. A new manager does: raft takes in one at a time.

    Within each role the ``preferred`` names are first, the rest as declared: that is how a caller who knows puts the
    members that are not well in front. Rebuilding those first costs no quorum, rebuilding a healthy manager while
    another is down would. A node always comes after those it waits for.
    """
    listed = list(nodes)
    rank = {name: index for index, name in enumerate(preferred)}
    listed.sort(key=lambda node: rank.get(node.name, len(rank)))
    managers = [node.name for node in listed if node.role == "manager"]
    before: dict[str, tuple[str, ...]] = {
        name: tuple(managers[max(index - 1, 0) : index]) for index, name in enumerate(managers)
    }
    line: list[str] = []
    on_host: dict[str, list[str]] = {}
    workers = [node for node in listed if node.role == "worker"]
    for node in sorted(workers, key=lambda node: _is_new(node, there)):
        neighbours = on_host.setdefault(node.host, [])
        waits_for = list(_so_many_before(neighbours, parallel))
        if not _is_new(node, there):
            waits_for += _so_many_before(line, unavailable)
            line.append(node.name)
        neighbours.append(node.name)
        before[node.name] = tuple(dict.fromkeys(waits_for or managers[-1:]))
    return before


def _is_new(node: Node, there: Container[str] | None) -> bool:
    return there is not None and node.name not in there


def _so_many_before(line: Sequence[str], places: int) -> Sequence[str]:
    return line[-places:][:1] if len(line) >= places else ()
