"""Promotion and demotion: asked of a manager, then awaited on both sides, because both happen some time later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxmox_swarm.host.deadline import Clock, Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import leadership, nodes, reach
from proxmox_swarm.swarm.access import Access, place_of
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import EngineError, Failure, NoManager, QuorumAtRisk, RoleTimeout
from proxmox_swarm.swarm.local import LocalSwarm
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.quorum import Quorum, can_remove

#: A host that says nothing for so long about its own demotion is not waited for.
SILENCE = 15.0
#: A demotion that goes on by itself is out of raft after so long.
UNDER_WAY = 20.0


def promote(access: Access, manager: Manager, target: Target, node_id: str, cluster_id: str, timeout: float) -> None:
    """Make a worker a manager and wait until the leader reaches it and its own engine has taken the role.

    Raises RoleTimeout, EngineError, LockBusy.
    """
    with cluster_lock(cluster_id, f"promoting {target}", access.clock):
        limit = Deadline.after(timeout, access.clock)
        nodes.update(manager.engine, node_id, _role("manager"), limit)
        await_manager(access, manager, target, node_id, limit)


def await_manager(access: Access, manager: Manager, target: Target, node_id: str, limit: Deadline) -> None:
    """Wait until a node is a reachable manager on both sides. Raises RoleTimeout."""

    def both() -> bool | None:
        node = nodes.get(manager.engine, node_id, limit)
        if node is None or not nodes.reachable(node) or not nodes.is_ready(node):
            return None
        local = place_of(access, target)
        return True if local is not None and local.control and local.state == "active" else None

    if limit.poll(both) is None:
        raise RoleTimeout(
            "waiting for it to become a reachable manager",
            where=str(target),
            came_back=f"not after {limit.seconds:.0f} s",
            do_now="Check 2377/tcp between it and the other managers, then run again.",
        )


def demote(
    access: Access,
    known: Sequence[Target],
    node_id: str,
    cluster_id: str,
    timeout: float,
    *,
    where: str,
    target: Target | None = None,
    stays: bool = False,
    surely_dead: bool = False,
    retiring: Sequence[Target] = (),
) -> None:
    """Take a manager out of raft, if the others keep a majority, and wait until it is out.

    ``target`` is the node's host where it can be asked for its side of it; one that ``stays`` in the swarm is waited for
    until it has its certificate as a worker. ``surely_dead`` says that no engine with this
    node id is running, whatever the swarm believes. ``retiring`` are managers that are to go as well: dead ones among them
    go first. Raises QuorumAtRisk, NoManager, RoleTimeout, EngineError, LockBusy.
    """
    purpose = f"demoting {where}"
    with cluster_lock(cluster_id, purpose, access.clock), leadership.may_change(access, cluster_id, purpose):
        retire_dead(access, known, node_id, cluster_id, timeout, where, retiring)
        limit = Deadline.after(timeout, access.clock)
        manager = other_manager(access, known, node_id, cluster_id, limit, where)
        all_nodes = reach.everyone(access, manager.engine, known, limit, besides=node_id)
        node = nodes.find(all_nodes, node_id)
        if node is None:
            return
        if nodes.in_raft(node):
            guard(all_nodes, node, where, surely_dead=surely_dead)
        try:
            nodes.update(manager.engine, node_id, _role("worker"), limit)
        except EngineError as error:
            # A member object that raft has lost already (after force-new-cluster): there is nothing to demote.
            if error.status != 404:
                raise
        _await_worker(access, manager, target, node_id, limit, where, stays=stays)
        leadership.settle(manager.engine, leadership.leader_of(all_nodes), access.clock)


def retire_dead(
    access: Access,
    known: Sequence[Target],
    node_id: str,
    cluster_id: str,
    timeout: float,
    where: str,
    retiring: Sequence[Target],
) -> None:
    """Take those of ``retiring`` out of raft that are not there, before node ``node_id`` may go.

    A dead manager counts in every majority: while it is in raft, a healthy one cannot be spared. Raises as demote does.
    """
    addresses = {target.address for target in retiring}
    if not addresses:
        return
    limit = Deadline.after(timeout, access.clock)
    manager = other_manager(access, known, node_id, cluster_id, limit, where)
    for node in reach.everyone(access, manager.engine, [*known, *retiring], limit, besides=node_id):
        dead = nodes.in_raft(node) and not nodes.reachable(node)
        if dead and node["ID"] != node_id and nodes.address_of(node) in addresses:
            demote(access, known, node["ID"], cluster_id, timeout, where=f"{nodes.hostname_of(node)}, which is down")


def other_manager(
    access: Access, known: Sequence[Target], node_id: str, cluster_id: str, limit: Deadline, where: str
) -> Manager:
    """A manager other than this node. Raises QuorumAtRisk when the node is the only one, NoManager when none answers."""
    try:
        return find_manager(access, known, cluster_id, limit, avoid=node_id)
    except NoManager as error:
        if "is the node in question" not in error.came_back:
            raise
        raise QuorumAtRisk(
            "taking a manager out",
            where=where,
            came_back=f"it is the only manager of swarm {cluster_id} that answers. {error.came_back}",
            do_now="Bring another manager up first, or declare one.",
        ) from error


def guard(all_nodes: Sequence[Json], node: Json, where: str, *, surely_dead: bool = False) -> None:
    """Raise QuorumAtRisk unless this manager may leave raft now. ``all_nodes`` are as :mod:`reach` has them."""
    quorum = nodes.quorum_of(all_nodes)
    reachable = nodes.reachable(node)
    if surely_dead and reachable:
        quorum = Quorum(quorum.managers, quorum.reachable - 1)
        reachable = False
    reason = can_remove(quorum, reachable=reachable)
    if reason is not None:
        raise QuorumAtRisk(
            "taking a manager out",
            where=where,
            came_back=reason,
            do_now=f"{way_out(all_nodes, node)} Nothing was changed here.",
        )


def way_out(all_nodes: Sequence[Json], node: Json) -> str:
    """What to do where a manager cannot be spared: the ones that are down have to come first."""
    down = [
        nodes.hostname_of(other)
        for other in all_nodes
        if nodes.in_raft(other) and not nodes.reachable(other) and other["ID"] != node["ID"]
    ]
    if not down:
        return "Bring more managers up first."
    them = "it" if len(down) == 1 else "them"
    return (
        f"Have {', '.join(down)} brought back first: `PROXMOX_SWARM_FIRST='{' '.join(down)}' pulumi up --refresh` (`make up` "
        f"does so by itself); or take {them} out of settings if gone for good."
    )


def _await_worker(
    access: Access,
    manager: Manager,
    target: Target | None,
    node_id: str,
    limit: Deadline,
    where: str,
    *,
    stays: bool,
) -> None:
    silent: list[Deadline] = []

    def both() -> bool | None:
        node = nodes.get(manager.engine, node_id, limit)
        if node is not None and nodes.in_raft(node):
            return None
        local = place_of(access, target) if target is not None else None
        if local is None and target is not None:
            # Raft has let go of it; a host that went away meanwhile has nothing more to say.
            silent[:] = silent or [Deadline.after(SILENCE, limit.clock)]
            return True if silent[0].over else None
        if local is None or target is None:
            return True
        return None if local.control or (stays and not _certified(access, target, local)) else True

    if limit.poll(both) is None:
        raise RoleTimeout(
            "waiting for its demotion",
            where=where,
            came_back=f"still a manager after {limit.seconds:.0f} s",
            do_now="Run again: a demotion goes on by itself. A node promoted a moment ago takes half a minute.",
        )


def _certified(access: Access, target: Target, local: LocalSwarm) -> bool:
    """Whether a node that left raft has its certificate as a worker, which comes seconds later.

    An engine that restarts in between takes itself for a manager and joins raft once more (measured with 26.1). A locked
    one gets none.
    """
    if local.state not in ("active", "pending"):
        return True
    try:
        return access.role_on_disk(target, local.root) != "manager"
    except Failure:
        return False


def half_demoted(manager: Manager, node: Json, clock: Clock) -> bool:
    """Whether a demotion was broken off by a restart: the swarm has the node as a worker, raft as a member, for good.

    One that is under way is waited for. Raises EngineError.
    """
    if nodes.role_of(node) != "worker" or not nodes.in_raft(node):
        return False
    limit = Deadline.after(UNDER_WAY, clock)

    def settled() -> bool | None:
        current = nodes.get(manager.engine, node["ID"], limit)
        return True if current is None or nodes.role_of(current) != "worker" or not nodes.in_raft(current) else None

    return limit.poll(settled, 0.5) is None


def _role(role: str) -> Any:
    def change(spec: dict[str, Any]) -> None:
        spec["Role"] = role

    return change
