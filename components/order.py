"""In which order machines are made and touched. Pure functions over names: no Pulumi in here.

Bring-up: machines in parallel lanes, never more than ``parallel`` at once on one Proxmox VE host (Pulumi has no such knob,
so a lane is a chain of ``depends_on`` edges). Later runs: one machine after the other, its member back before the next is
touched; that edge alone makes a replacement of every machine a rolling one (measured).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

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


def rolling(nodes: Iterable[Node], preferred: Sequence[str] = ()) -> list[Node]:
    """The order of later runs: managers, then workers; within each the preferred names first, the rest as declared.

    ``preferred`` is how a caller who knows puts the members that are not well in front: rebuilding those first costs no
    quorum, rebuilding a healthy manager while another is down would.
    """
    listed = list(nodes)
    rank = {name: index for index, name in enumerate(preferred)}
    declared = {node.name: index for index, node in enumerate(listed)}
    return sorted(listed, key=lambda n: (n.role != "manager", rank.get(n.name, len(rank)), declared[n.name]))
