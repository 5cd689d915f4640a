"""What became of a member: a verdict, never an exception. A host that does not answer is not gone."""

from __future__ import annotations

from collections.abc import Sequence

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import hand_drain, nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.member import MemberSpec, MemberState, Verdict
from proxmox_swarm.swarm.parallel import all_answers

#: How long a refresh waits for a member that runs but has sent the managers no heartbeat. After a change of leader it is
#: unknown to them until its next one, and they give up on it after 27 to 33 s (swarmkit dispatcher).
SETTLE = 35.0
#: How long a refresh waits for an election to end before it calls the managers unreachable.
PATIENCE = 5.0


def observe(
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    node_id: str,
    *,
    last: MemberState | None = None,
    access: Access = SSH,
) -> MemberState:
    """The member as it is, asked of its own engine and of a manager at the same time.

    Where no manager answers, role, availability and labels are those of ``last``. Raises nothing that a host or an engine
    can cause.
    """
    limit = Deadline.after(SETTLE, access.clock)
    while True:
        state = _look(spec, managers, cluster_id, node_id, last, access)
        # After a change of leader nodes are unknown until their next heartbeat.
        if state.verdict != "not_ready" or limit.over:
            return state
        access.clock.sleep(0.5)


def _look(
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    node_id: str,
    last: MemberState | None,
    access: Access,
) -> MemberState:
    own: LocalSwarm | Failure
    manager: Manager | Failure

    def ask(side: str) -> LocalSwarm | Manager | Failure:
        try:
            if side == "own":
                return local_swarm(access.engine(spec.target).info())
            return find_manager(access, managers, cluster_id, Deadline.after(PATIENCE, access.clock))
        except Failure as error:
            return error

    own, manager = all_answers(ask, ["own", "manager"])  # type: ignore[assignment]
    everyone, problem = _everyone(manager, access)
    node = _node(everyone, own, node_id)
    verdict, detail = _judge(access, spec, cluster_id, node_id, own, node, everyone, problem, last)
    # What tells a rebuilt machine from one that left is the engine that was there when it was a member: it is kept.
    engine_id = (
        own.engine_id if isinstance(own, LocalSwarm) and verdict != "rebuilt" else (last.engine_id if last else "")
    )
    if node is None:
        kept = last or MemberState(verdict, detail, node_id, spec.role, spec.availability, dict(spec.labels))
        return MemberState(verdict, detail, node_id, kept.role, kept.availability, dict(kept.labels), engine_id)
    availability, labels = hand_drain.seen(spec, node)
    return MemberState(verdict, detail, node["ID"], nodes.role_of(node), availability, labels, engine_id)


def _everyone(manager: Manager | Failure, access: Access) -> tuple[list[Json], Failure | None]:
    """All nodes as a manager lists them, or why it could not be asked."""
    if isinstance(manager, Failure):
        return [], manager
    try:
        return nodes.everyone(manager.engine, Deadline.after(PATIENCE, access.clock)), None
    except Failure as error:
        return [], error


def _node(everyone: Sequence[Json], own: LocalSwarm | Failure, node_id: str) -> Json | None:
    """The member's object, by the id its engine has now, else by the id recorded."""
    current = own.node_id if isinstance(own, LocalSwarm) and own.state != "inactive" else ""
    if current and isinstance(own, LocalSwarm) and nodes.shared(everyone, own, node_id) is not None:
        current = ""
    return nodes.find(everyone, current) or nodes.find(everyone, node_id)


def _judge(
    access: Access,
    spec: MemberSpec,
    cluster_id: str,
    node_id: str,
    own: LocalSwarm | Failure,
    node: Json | None,
    everyone: Sequence[Json],
    problem: Failure | None,
    last: MemberState | None,
) -> tuple[Verdict, str]:
    if isinstance(own, Failure):
        heard = ""
        if node is not None:
            heard = f"; the swarm has it as {nodes.state_of(node)}"
        return "unreachable", (own.came_back.partition("\n")[0] or own.what) + heard
    if own.state == "inactive":
        if last is not None and last.engine_id and own.engine_id != last.engine_id:
            return "rebuilt", "another machine answers at its address, in no swarm"
        return "left", "its engine is in no swarm"
    if own.state == "locked":
        return "locked", "its swarm state waits for the unlock key"
    other = nodes.shared(everyone, own, node_id)
    if other is not None:
        return in_the_name_of(other)
    if node is not None and node["ID"] == own.node_id:
        if own.state == "pending":
            return "pending", own.error or "its engine is trying to reach the managers"
        if own.state == "error":
            return "error", own.error or "its engine gives no reason"
        return compare(spec, node_id, node, nodes.ghosts(everyone, own.node_id, spec.target.address))
    try:
        theirs = own.cluster_id or access.cluster_on_disk(spec.target, own.root)
    except Failure as error:
        return "unreachable", _line(error)
    if theirs and theirs != cluster_id:
        return "foreign", f"it is in swarm {theirs}"
    if own.state == "error" and node is not None:  # it fails before it knows which node it is
        return "error", own.error or "its engine gives no reason"
    if problem is not None:
        return "unreachable", _line(problem)
    return "removed", f"the swarm has no node {own.node_id or node_id}, which its engine takes itself for"


def in_the_name_of(other: Json) -> tuple[Verdict, str]:
    """The verdict on a member whose engine takes itself for another member's node (:func:`nodes.shared`)."""
    whose = f"{nodes.hostname_of(other)} at {nodes.address_of(other)}"
    return "removed", f"its engine takes itself for node {other['ID']}, which the swarm has as {whose}"


def compare(spec: MemberSpec, node_id: str, node: Json, ghosts: Sequence[Json]) -> tuple[Verdict, str]:
    """The verdict on a member whose engine takes itself for ``node``: ok, drifted or not_ready."""
    if not nodes.is_ready(node):
        return (
            "not_ready",
            f"the swarm has it as {nodes.state_of(node)}: {(node.get('Status') or {}).get('Message', '')}",
        )
    if nodes.in_raft(node) and not nodes.reachable(node):
        if nodes.role_of(node) == "worker":
            return "not_ready", "its demotion was broken off by a restart: it is a worker, and raft still counts it"
        return "not_ready", "the leader does not reach this manager"
    found = []
    if node_id and node["ID"] != node_id:
        found.append(f"its node id is {node['ID']}, recorded was {node_id}")
    if ghosts:
        found.append(f"an earlier machine's node is left behind: {', '.join(ghost['ID'] for ghost in ghosts)}")
    if nodes.role_of(node) != spec.role:
        found.append(f"role {nodes.role_of(node)}, declared {spec.role}")
    availability, labels = hand_drain.seen(spec, node)
    if availability != spec.availability:
        found.append(f"availability {availability}, declared {spec.availability}")
    if labels != dict(spec.labels):
        found.append(f"labels {labels}, declared {dict(spec.labels)}")
    reason = hand_drain.reason_of(node)
    by_hand = "" if reason is None else f"drained by hand: {reason}"
    return ("drifted", "; ".join(found)) if found else ("ok", by_hand)


def _line(error: Failure) -> str:
    return str(error).partition("\n")[0]
