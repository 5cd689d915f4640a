"""What a member is declared to be, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxmox_swarm.host.target import Target

#: ok; drifted (a member, but not as declared); not_ready (a member whose heartbeats do not arrive); left (inactive);
#: rebuilt (inactive, another machine); removed (still active, but the swarm has no node of its own for it); foreign (in
#: another swarm); pending, locked, error (the engine's own words); unreachable (the host or its engine does not answer).
Verdict = Literal[
    "ok", "drifted", "not_ready", "left", "rebuilt", "removed", "foreign", "pending", "locked", "error", "unreachable"
]


@dataclass(frozen=True)
class MemberSpec:
    """One declared member. It listens on and advertises ``target.address``.

    ``data_path`` is its address for overlay traffic where that is another one; a node gets it when it joins.
    ``adopted``: it was a member before it was declared. Labels found on it are kept where none of that name is declared, and
    are no drift; ``undeclared`` are labels that were declared once and are not any more: those go.
    """

    target: Target
    role: Literal["manager", "worker"]
    availability: Literal["active", "pause", "drain"] = "active"
    labels: Mapping[str, str] = field(default_factory=dict)
    data_path_port: int = 4789
    data_path: str = ""
    adopted: bool = False
    undeclared: tuple[str, ...] = ()

    def labels_over(self, found: Mapping[str, str]) -> dict[str, str]:
        """The labels the node is to have, of those it has."""
        kept = {key: value for key, value in found.items() if key not in self.undeclared} if self.adopted else {}
        return {**kept, **self.labels}

    def labels_judged(self, found: Mapping[str, str]) -> dict[str, str]:
        """Of the labels that a node has, those that this declaration has a say in."""
        return {key: value for key, value in found.items() if key in self.labels} if self.adopted else dict(found)


@dataclass(frozen=True)
class MemberState:
    """What was found: a verdict, its reason in words, and the member as the swarm has it.

    ``engine_id`` is the engine's own id, which a rebuilt machine does not share.
    """

    verdict: Verdict
    detail: str
    node_id: str
    role: str
    availability: str
    labels: dict[str, str]
    engine_id: str = ""
