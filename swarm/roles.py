"""Promotion and demotion: asked of a manager, then awaited on both sides, because both happen some time later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import Access
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import EngineError, Failure, NoManager, QuorumAtRisk, RoleTimeout
from proxmox_swarm.swarm.local import local_swarm
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.quorum import Quorum, can_remove


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
        return _control(access, target) or None

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
    surely_dead: bool = False,
) -> None:
    """Take a manager out of raft, if the others keep a majority, and wait until it is out.

    ``target`` is the node's host where it can be asked for its side of it. ``surely_dead`` says that no engine with this
    node id is running, whatever the swarm believes. Raises QuorumAtRisk, NoManager, RoleTimeout, EngineError, LockBusy.
    """
    with cluster_lock(cluster_id, f"demoting {where}", access.clock):
        limit = Deadline.after(timeout, access.clock)
        manager = other_manager(access, known, node_id, cluster_id, limit, where)
        all_nodes = nodes.everyone(manager.engine, limit)
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
        _await_worker(access, manager, target, node_id, limit, where)


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
    """Raise QuorumAtRisk unless this manager may leave raft now."""
    quorum = nodes.quorum_of(all_nodes)
    reachable = nodes.reachable(node)
    if surely_dead and reachable:
        quorum = Quorum(quorum.managers, quorum.reachable - 1)
        reachable = False
    reason = can_remove(quorum, reachable=reachable)
    if reason is not None:
        others = [
            nodes.hostname_of(n) for n in all_nodes if nodes.in_raft(n) and not nodes.reachable(n) and n is not node
        ]
        raise QuorumAtRisk(
            "taking a manager out",
            where=where,
            came_back=reason,
            do_now=f"Bring {', '.join(others) or 'more managers'} back or take what is dead out first: nothing was changed.",
        )


def _await_worker(
    access: Access, manager: Manager, target: Target | None, node_id: str, limit: Deadline, where: str
) -> None:
    def both() -> bool | None:
        node = nodes.get(manager.engine, node_id, limit)
        if node is not None and nodes.in_raft(node):
            return None
        return True if target is None or not _control(access, target) else None

    if limit.poll(both) is None:
        raise RoleTimeout(
            "waiting for its demotion",
            where=where,
            came_back=f"still a manager after {limit.seconds:.0f} s",
            do_now="Run again: a demotion goes on by itself. A node promoted a moment ago takes half a minute.",
        )


def _control(access: Access, target: Target) -> bool:
    try:
        local = local_swarm(access.engine(target).info())
    except Failure:
        return False
    return local.control and local.state == "active"


def _role(role: str) -> Any:
    def change(spec: dict[str, Any]) -> None:
        spec["Role"] = role

    return change
