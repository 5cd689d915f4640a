"""What a swarm is like, as a verdict: whole, degraded, or without quorum; what is wrong, what is merely worth knowing.

Judged from what :mod:`proxmox_swarm.swarm.look` has seen. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from proxmox_swarm.host.facts import Disk
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.certificate import NodeCertificate
from proxmox_swarm.swarm.inventory import NodeEntry
from proxmox_swarm.swarm.quorum import Quorum, majority
from proxmox_swarm.swarm.services import ServiceStatus

GIB = 1 << 30
#: A disk is short of room with less than this part of it free, and less than this many bytes.
SHORT_PART = 0.10
SHORT_BYTES = 5 * GIB

Verdict = Literal["whole", "degraded", "no-quorum"]
#: What is wrong, the most urgent first: no leader; a manager or worker whose machine does not answer; a machine whose
#: engine does not; a locked engine; a node that is not in the swarm as it should be; a node that is not as declared; a
#: member nobody declared; a certificate not renewed; a disk short of room or not mounted; a service not whole.
Kind = Literal[
    "quorum",
    "machine",
    "engine",
    "locked",
    "member",
    "certificate",
    "disk",
    "service",
    "undeclared",
    "drifted",
]


@dataclass(frozen=True)
class DeclaredNode:
    """A node as settings have it: on Proxmox VE host ``host`` as machine ``vm_id``, None where it is no machine of ours.

    ``target`` is None where no host key is known, since it was never brought up. At ``mounts`` it has disks of their own.
    ``node_id`` is its id in the swarm as it was last recorded, "" where it was not.
    """

    name: str
    address: str
    host: str
    vm_id: int | None
    role: Literal["manager", "worker"]
    availability: Literal["active", "pause", "drain"]
    labels: dict[str, str]
    target: Target | None
    mounts: tuple[str, ...] = ()
    #: it was a member before it was declared: labels besides the declared ones are its own
    adopted: bool = False
    node_id: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """One node: ``declared`` is None for a member nobody declared, ``entry`` where the swarm lists it not or nobody told.

    ``verdict`` is that of a member (docs/outputs.md), besides ``undeclared``, ``ghost`` (an earlier machine's, at a declared
    address), ``absent`` (never brought up), ``leaderless`` (its engine is in the swarm, no manager could say more) and
    ``twin`` (its engine takes itself for the same node as another engine does, and nothing tells whose that is).
    ``engine`` is the engine's own word for its place in a swarm, "" where it did not answer; ``answers`` says whether the
    host did. ``unit`` is systemd's word for dockerd there, "" if unknown. ``power`` is Proxmox VE's word for the machine
    (running, stopped, absent), "" where it was not asked.
    """

    name: str
    address: str
    role: str
    declared: DeclaredNode | None
    entry: NodeEntry | None
    verdict: str
    detail: str
    engine: str = ""
    answers: bool = False
    hand_drain: str | None = None
    certificate: NodeCertificate | None = None
    disks: tuple[Disk, ...] = ()
    power: str = ""
    unit: str = ""

    @property
    def state(self) -> str:
        """What is to be said of it in a word or three."""
        if self.entry is None:
            return self.verdict
        words = [self.entry.state, self.entry.availability if self.entry.availability != "active" else ""]
        words.append("leader" if self.entry.leader else self.entry.reachability)
        words.append("" if self.hand_drain is None else f"by hand: {self.hand_drain}")
        said = " ".join(filter(None, words))
        if self.declared is None:
            return f"{said}, {'left behind' if self.verdict == 'ghost' else 'not declared'}"
        # What it says itself, where that is more than what the swarm says.
        if self.verdict in ("ok", "not_ready") or (self.verdict == "unreachable" and self.entry.state != "ready"):
            return said
        return f"{said}, {'does not answer' if self.verdict == 'unreachable' else self.verdict}"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels in the swarm."""
        return self.entry.labels if self.entry is not None else {}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: what kind, with whom (a node's or a service's name), and in words."""

    kind: Kind
    subject: str
    text: str


@dataclass(frozen=True)
class Status:
    """All that was seen. ``quorum``, ``services`` and ``ca_rotation`` are None where no manager could tell.

    ``uneven`` are the services whose tasks could be spread better. ``why`` is what kept us from a manager. ``took`` seconds
    it took.
    """

    cluster_id: str
    nodes: tuple[NodeStatus, ...]
    quorum: Quorum | None
    services: tuple[ServiceStatus, ...] | None
    ca_rotation: bool | None
    uneven: tuple[str, ...] = ()
    why: str = ""
    took: float = 0.0

    @property
    def silent(self) -> tuple[NodeStatus, ...]:
        """The declared nodes whose machine did not answer."""
        return tuple(node for node in self.nodes if node.declared is not None and _kind(node) == "machine")

    def with_power(self, power: Mapping[str, str]) -> Status:
        """The same with what Proxmox VE says of machines, by node.

        A manager whose machine does not run is not reachable, whatever the leader believes for some more seconds.
        """
        seen = tuple(replace(n, power=power.get(n.name, "") if n.declared else "") for n in self.nodes)
        believed = [n for n in seen if n.entry is not None and n.entry.reachability == "reachable"]
        off = sum(n.power in ("stopped", "absent") for n in believed)
        quorum = self.quorum and replace(self.quorum, reachable=self.quorum.reachable - off)
        return replace(self, nodes=seen, quorum=quorum)

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        if self.quorum is None or self.quorum.margin < 0:
            return "no-quorum"
        return "degraded" if self.problems else "whole"

    @property
    def managers(self) -> str:
        """The managers in a few words."""
        if self.quorum is not None:
            return f"managers {self.quorum.reachable} of {self.quorum.managers}, {_margin(self.quorum)}"
        declared = [n for n in self.nodes if n.declared is not None and n.role == "manager"]
        answering = sum(n.engine == "active" for n in declared)
        return f"{answering} of {len(declared)} declared managers answer, {majority(len(declared))} needed"

    @property
    def summary(self) -> str:
        """The rest of the verdict's line."""
        if self.verdict == "no-quorum":
            return f"{self.managers}; nothing can be changed, tasks that run go on"
        declared = [n for n in self.nodes if n.declared is not None]
        parts = [self.managers, f"nodes {sum(n.verdict == 'ok' for n in declared)} of {len(declared)} ok"]
        if self.services is not None:
            parts.append(f"services {sum(s.whole for s in self.services)} of {len(self.services)} whole")
        return "; ".join(parts)

    @property
    def leader(self) -> str:
        """The leader's name, "" where nobody knows one."""
        return next((n.name for n in self.nodes if n.entry is not None and n.entry.leader), "")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong, the most urgent first."""
        found = [*self._quorum(), *(p for n in self.nodes for p in _of_node(n)), *_of_services(self.services or ())]
        order = list(Kind.__args__)  # type: ignore[attr-defined]
        return tuple(sorted(found, key=lambda problem: order.index(problem.kind)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing and no fault."""
        found = [f"{n.name} is drained by hand: {n.hand_drain}" for n in self.nodes if n.hand_drain is not None]
        if self.ca_rotation:
            found.append("a CA rotation is in progress: it ends when every node has its new certificate")
        if self.uneven:
            found.append(f"not spread evenly over the nodes that could run them: {', '.join(self.uneven)}")
        dated = [n for n in self.nodes if n.certificate is not None]
        if dated:
            first = min(dated, key=lambda n: n.certificate.left if n.certificate else 0)
            if first.certificate is not None and not first.certificate.overdue:
                found.append(
                    f"the first certificate to expire is {first.name}'s, in {in_words(first.certificate.left)}"
                )
        return tuple(found)

    def _quorum(self) -> Iterator[Problem]:
        if self.quorum is None:
            yield Problem("quorum", "", self.why)
        elif self.quorum.margin < 0:
            yield Problem("quorum", "", str(self.quorum))


def in_words(seconds: float) -> str:
    """A time to come, roughly."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def is_short(disk: Disk) -> bool:
    """Whether there is too little room on a disk."""
    return disk.mounted and disk.free < SHORT_PART * disk.size and disk.free < SHORT_BYTES


def _margin(quorum: Quorum) -> str:
    if quorum.margin < 0:
        return f"{majority(quorum.managers)} needed"
    return f"can lose {quorum.margin}" if quorum.margin > 0 else "NONE TO SPARE"


def _of_node(node: NodeStatus) -> Iterator[Problem]:
    if node.declared is None:
        state = f"{node.entry.state} {node.entry.reachability}".strip() if node.entry is not None else ""
        text = f"{node.detail}: {node.role} at {node.address}, {state}"
        yield Problem("member" if node.verdict == "ghost" else "undeclared", node.name, text)
        return
    if node.verdict not in ("ok", "leaderless"):
        more = f"; its machine is {node.power}" if node.power else ""
        if node.verdict == "unreachable" and node.unit == "failed":
            more += "; its dockerd ends as it starts"
        yield Problem(_kind(node), node.name, f"{node.verdict}: {node.detail}{more}")
    if node.certificate is not None and node.certificate.overdue:
        left = f"expires in {in_words(node.certificate.left)}" if not node.certificate.expired else "HAS EXPIRED"
        yield Problem("certificate", node.name, f"its certificate {left} and was not renewed in time")
    for disk in node.disks:
        if not disk.mounted:
            yield Problem("disk", node.name, f"no disk is mounted at {disk.path}: data would go to the system's disk")
        elif is_short(disk):
            part = 100 * disk.free / disk.size
            yield Problem("disk", node.name, f"{disk.free / GIB:.1f} GiB ({part:.0f} %) free at {disk.path}")


def _kind(node: NodeStatus) -> Kind:
    if node.verdict == "unreachable":
        return "engine" if node.answers else "machine"
    if node.verdict == "locked":
        return "locked"
    return "drifted" if node.verdict == "drifted" else "member"


def _of_services(services: Sequence[ServiceStatus]) -> Iterator[Problem]:
    for service in services:
        if not service.whole:
            yield Problem("service", service.name, f"{service.progress}: {service.reason}")
