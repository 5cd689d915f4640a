"""Look at a whole swarm at once: every host, every engine, and a manager's lists, side by side and within a stated time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.facts import HostFacts
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import hand_drain, nodes, rebalance, services
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.certificate import read_certificate
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import Failure, NoManager
from proxmox_swarm.swarm.inventory import Inventory, NodeEntry, inventory_of
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.parallel import answers_within
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.status import DeclaredNode, NodeStatus, Status
from proxmox_swarm.swarm.verdict import compare, in_the_name_of

#: A look ends after so many seconds, whoever has not answered. A host that is off costs 6 s; the first answer of an
#: engine that has lost its quorum takes it 20 s.
LIMIT = 45.0
#: How long an election is waited out.
ELECTION = 5.0


@dataclass(frozen=True)
class _Lists:
    """What a manager told: its nodes as they came and as an inventory, and the rest."""

    raw: Sequence[Json]
    inventory: Inventory
    services: tuple[services.ServiceStatus, ...]
    uneven: tuple[str, ...]
    ca_rotation: bool


@dataclass(frozen=True)
class _Taken:
    """The verdict on a node whose engine takes itself for node ``node_id``, which is another's."""

    verdict: str
    detail: str
    node_id: str


@dataclass(frozen=True)
class _Question:
    """One question to one host; ``node`` is None for the one that any manager may answer."""

    what: str
    node: DeclaredNode | None = None


def look(
    declared: Sequence[DeclaredNode],
    cluster_id: str,
    *,
    hosts: bool = True,
    limit: float = LIMIT,
    access: Access = SSH,
) -> Status:
    """See what a swarm is like, in at most ``limit`` seconds. Hosts and engines that do not answer are part of the answer.

    Without ``hosts`` only a manager is asked, and what hosts and engines could say of themselves stays unknown. Raises
    nothing that a host or an engine can cause.
    """
    begun = access.clock.now()
    known = [node for node in declared if node.target is not None]
    questions = [_Question("lists")]
    if hosts:
        questions += [_Question(what, node) for node in known for what in ("engine", "host")]
    managers = [node.target for node in known if node.role == "manager" and node.target is not None]

    def ask(question: _Question) -> _Lists | LocalSwarm | HostFacts | Failure:
        node = question.node
        try:
            if node is None or node.target is None:
                return _lists(access, managers, cluster_id)
            if question.what == "engine":
                return local_swarm(access.engine(node.target).info())
            return access.host_facts(node.target, node.mounts)
        except Failure as error:
            return error

    told = answers_within(ask, questions, limit)
    late = NoManager("asking", came_back=f"no answer in {limit:.0f} s", do_now="Look at the machine.")
    answers = {(q.what, q.node.name if q.node else ""): a or late for q, a in zip(questions, told, strict=True)}
    lists = answers["lists", ""]
    view = lists if isinstance(lists, _Lists) else None
    taken = _taken(declared, {name: answer for (what, name), answer in answers.items() if what == "engine"}, view)
    found = [_judge(node, cluster_id, answers, view, taken.get(node.name)) for node in declared]
    if view is not None:
        addresses = {node.address for node in declared}
        members = {node.entry.node_id for node in found if node.entry is not None}
        members |= {one.node_id for one in taken.values()}
        others = [entry for entry in view.inventory.nodes if entry.node_id not in members]
        found += [_stranger(entry, entry.address in addresses) for entry in others]
    return Status(
        cluster_id,
        tuple(found),
        view.inventory.quorum if view else None,
        view.services if view else None,
        view.ca_rotation if view else None,
        uneven=view.uneven if view else (),
        why=_line(lists) if isinstance(lists, Failure) else "",
        took=access.clock.now() - begun,
    )


def _lists(access: Access, managers: Sequence[Target], cluster_id: str) -> _Lists:
    limit = Deadline.after(ELECTION, access.clock)
    engine = find_manager(access, managers, cluster_id, limit).engine

    def once() -> _Lists:
        everyone = engine.nodes()
        rotating = bool(engine.swarm_inspect().get("RootRotationInProgress"))
        # Services first: a task of one that is made in between is then left out, not taken for one without a service.
        listed = engine.services()
        tasks = engine.tasks({}) if listed else []
        judged = services.judge(listed, tasks, everyone)
        uneven = tuple(plan.name for plan in rebalance.uneven(listed, tasks, everyone))
        return _Lists(everyone, inventory_of(cluster_id, everyone), judged, uneven, rotating)

    return persist(once, limit)


def _judge(
    node: DeclaredNode,
    cluster_id: str,
    answers: Mapping[tuple[str, str], object],
    view: _Lists | None,
    taken: _Taken | None,
) -> NodeStatus:
    own = answers.get(("engine", node.name))
    facts = answers.get(("host", node.name))
    entry = _entry(node, own, view, taken)
    raw = nodes.find(view.raw, entry.node_id) if view and entry else None
    certificate = read_certificate(facts.certificate, facts.now) if isinstance(facts, HostFacts) else None
    if taken is not None:
        verdict, detail = taken.verdict, taken.detail
    else:
        verdict, detail = _verdict(node, cluster_id, own, certificate.cluster_id if certificate else "", raw, view)
    return NodeStatus(
        node.name,
        node.address,
        node.role,
        node,
        entry,
        verdict,
        detail,
        engine=own.state if isinstance(own, LocalSwarm) else "",
        answers=isinstance(facts, HostFacts) or isinstance(own, LocalSwarm),
        hand_drain=hand_drain.reason_of(raw) if raw is not None else None,
        certificate=certificate,
        disks=facts.disks if isinstance(facts, HostFacts) else (),
        unit=facts.dockerd if isinstance(facts, HostFacts) else "",
    )


def _taken(declared: Sequence[DeclaredNode], owns: Mapping[str, object], view: _Lists | None) -> Mapping[str, _Taken]:
    """The nodes whose engine takes itself for a node that is not, or may not be, its own."""
    if view is None:
        return {}
    engines = {node.name: own for node in declared if isinstance(own := owns.get(node.name), LocalSwarm)}
    found = {
        node.name: _Taken(*in_the_name_of(other), other["ID"])
        for node in declared
        if node.name in engines and (other := nodes.shared(view.raw, engines[node.name], node.node_id)) is not None
    }
    by_id: dict[str, list[DeclaredNode]] = {}
    for node in declared:
        own = engines.get(node.name)
        if own is not None and own.state != "inactive" and own.node_id and node.name not in found:
            by_id.setdefault(own.node_id, []).append(node)
    for node_id, same in by_id.items():
        owners = [node.name for node in same if node.node_id == node_id]
        for node in same if len(same) > 1 else ():
            if owners != [node.name]:
                others = ", ".join(other.name for other in same if other is not node)
                detail = f"its engine takes itself for node {node_id}, as does that of {others}"
                found[node.name] = _Taken("twin", detail, node_id)
    return found


def _entry(node: DeclaredNode, own: object, view: _Lists | None, taken: _Taken | None) -> NodeEntry | None:
    """The node in the swarm's list: by the id its engine has, else at its address or as recorded, one that is ready first."""
    if view is None:
        return None
    listed = view.inventory.nodes
    if taken is not None:
        listed = tuple(entry for entry in listed if entry.node_id != taken.node_id)
    elif isinstance(own, LocalSwarm) and own.state != "inactive" and own.node_id:
        by_id = next((entry for entry in listed if entry.node_id == own.node_id), None)
        if by_id is not None:
            return by_id
    mine = [entry for entry in listed if entry.address == node.address or entry.node_id == node.node_id]
    return max(mine, key=lambda entry: (entry.state == "ready", entry.node_id == node.node_id), default=None)


def _verdict(
    node: DeclaredNode, cluster_id: str, own: object, on_disk: str, raw: Json | None, view: _Lists | None
) -> tuple[str, str]:
    if node.target is None:
        return "absent", "it is declared and was never brought up"
    spec = MemberSpec(node.target, node.role, node.availability, node.labels, adopted=node.adopted)
    if own is None:  # hosts were not asked
        return compare(spec, "", raw, ()) if raw is not None else ("absent", "the swarm does not list it")
    if isinstance(own, Failure):
        heard = f"; the swarm has it as {nodes.state_of(raw)}" if raw is not None else ""
        return "unreachable", (own.came_back.partition("\n")[0] or own.what) + heard
    assert isinstance(own, LocalSwarm)  # noqa: S101
    if own.state == "inactive":
        return "left", "its engine is in no swarm"
    if own.state == "locked":
        return "locked", "its swarm state waits for the unlock key"
    theirs = own.cluster_id or on_disk
    if theirs and theirs != cluster_id:
        return "foreign", f"it is in swarm {theirs}"
    if own.state != "active":
        return own.state, own.error or "its engine gives no reason"
    if view is None:
        return "leaderless", own.error.partition("\n")[0] or "no manager could be asked about it"
    if raw is None or raw["ID"] != own.node_id:
        return "removed", f"the swarm has no node {own.node_id}, which its engine takes itself for"
    return compare(spec, "", raw, ())


def _stranger(entry: NodeEntry, ghost: bool) -> NodeStatus:
    """A member nobody declared; at a declared node's address it is what an earlier machine left behind."""
    verdict = ("ghost", "an earlier machine left it behind") if ghost else ("undeclared", "nobody declared it")
    reason = entry.labels.get(hand_drain.LABEL)
    return NodeStatus(entry.hostname, entry.address, entry.role, None, entry, *verdict, hand_drain=reason)


def _line(error: Failure) -> str:
    return error.came_back.partition("\n")[0] or error.what
