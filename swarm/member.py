"""What a member is declared to be, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxmox_swarm.host.target import Target

#: ok; drifted (a member, but not as declared); not_ready (a member whose heartbeats do not arrive); left (inactive);
#: rebuilt (inactive, another machine); removed (still active, but the swarm has removed it); foreign (in another swarm);
#: pending, locked, error (the engine's own words); unreachable (the host or its engine does not answer).
Verdict = Literal[
    "ok", "drifted", "not_ready", "left", "rebuilt", "removed", "foreign", "pending", "locked", "error", "unreachable"
]


@dataclass(frozen=True)
class MemberSpec:
    """One declared member. It listens on and advertises ``target.address``."""

    target: Target
    role: Literal["manager", "worker"]
    availability: Literal["active", "pause", "drain"] = "active"
    labels: Mapping[str, str] = field(default_factory=dict)
    data_path_port: int = 4789


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
