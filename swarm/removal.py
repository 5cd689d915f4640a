"""Taking a member out in good order: drain, wait, demote, leave, remove. Each step can be taken again after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes, reach
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.drain import drain
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import EngineError, Failure, QuorumAtRisk, SwarmError
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.roles import demote, guard, other_manager, retire_dead

#: A node whose heartbeats stopped is down after 13.5 to 16.5 s, after a change of leader 27 to 33 s (swarmkit dispatcher).
DOWN_AFTER = 45.0
LEAVE_TIMEOUT = 60.0
#: An election ends within a few ticks; managers that have no leader for so long have no quorum.
ELECTION = 30.0


def remove(
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    node_id: str,
    *,
    drain_timeout: float,
    role_timeout: float = 120,
    retiring: Sequence[Target] = (),
    access: Access = SSH,
) -> None:
    """Take the node out of the swarm. A node that is out already is a success; a host that does not answer is tolerated.

    A manager leaves only if the others keep a majority; that is checked at this moment, under the cluster's lock.
    ``retiring`` are other managers that are to go: dead ones among them leave raft first.
    Raises QuorumAtRisk, NoManager, DrainTimeout, RoleTimeout, EngineError, HostError, LockBusy.
    """
    target = spec.target
    local = _known_again(access, target, node_id, cluster_id)
    known = [*managers, target]
    if _is_alone(access, target, local, node_id, cluster_id):
        _leave(access, target, node_id, force=True)
        return
    patience = Deadline.after(min(role_timeout, ELECTION), access.clock)
    manager = other_manager(access, known, node_id, cluster_id, patience, str(target))
    if local is not None and not _is_this(local, node_id):
        everyone = nodes.everyone(manager.engine, patience)
        if nodes.shared(everyone, local, node_id) is not None:
            _leave(access, target, local.node_id, force=True)
    node = nodes.get(manager.engine, node_id, patience)
    if node is None:
        # Removed before, by us or by hand; the engine does not notice that by itself and may take itself for a manager.
        _leave_if(access, target, local, node_id, force=True)
        return
    if nodes.role_of(node) == "manager" or nodes.in_raft(node):
        dead = _surely_dead(local, node_id)
        with cluster_lock(cluster_id, f"removing {target}", access.clock):
            retire_dead(access, known, node_id, cluster_id, role_timeout, str(target), retiring)
            # Looked at again: while we waited for our turn another manager may have gone.
            patience = Deadline.after(ELECTION, access.clock)
            everyone = reach.everyone(access, manager.engine, known, patience, besides=node_id)
            node = nodes.find(everyone, node_id) or node
            if nodes.in_raft(node):
                guard(everyone, node, str(target), surely_dead=dead)
            _drain(access, manager, node, target, cluster_id, drain_timeout)
            side = target if _is_this(local, node_id) else None
            demote(access, known, node_id, cluster_id, role_timeout, where=str(target), target=side, surely_dead=dead)
    else:
        _drain(access, manager, node, target, cluster_id, drain_timeout)
    _leave_if(access, target, local, node_id, force=local is not None and local.state == "locked")
    _delete(access, manager.engine, node_id, target, gone=local is not None)


def drop_node(
    access: Access, known: Sequence[Target], node: Json, cluster_id: str, timeout: float, *, surely_dead: bool
) -> None:
    """Remove a node object whose machine is gone or is another one now. Raises as :func:`remove` does."""
    where = f"{nodes.hostname_of(node)} ({nodes.address_of(node)}, id {node['ID']})"
    # One that is no manager for the swarm and yet in raft (half_demoted) is not demoted again, but raft lets go of it here.
    if nodes.role_of(node) == "manager":
        demote(access, known, node["ID"], cluster_id, timeout, where=where, surely_dead=surely_dead)
    manager = find_manager(access, known, cluster_id, Deadline.after(timeout, access.clock))
    nodes.remove(manager.engine, node["ID"], Deadline.after(ELECTION, access.clock))


def _drain(access: Access, manager: Manager, node: Json, target: Target, cluster_id: str, timeout: float) -> None:
    current = nodes.get(manager.engine, node["ID"], Deadline.after(30, access.clock))
    # Tasks of a node that is down are moved by the swarm itself.
    if current is None or not nodes.is_ready(current):
        return
    drain(access, manager.engine, current, target, cluster_id, timeout)


def _known_again(access: Access, target: Target, node_id: str, cluster_id: str) -> LocalSwarm | None:
    """The engine's place. One that is locked, or in error, knows no id of its own; its certificate tells its swarm."""
    local = place_of(access, target)
    if local is None or local.state not in ("locked", "error"):
        return local
    try:
        ours = access.cluster_on_disk(target, local.root) == cluster_id
    except Failure:
        ours = False
    return replace(local, node_id=node_id) if ours else local


def _is_this(local: LocalSwarm | None, node_id: str) -> bool:
    return local is not None and local.state != "inactive" and local.node_id == node_id


def _surely_dead(local: LocalSwarm | None, node_id: str) -> bool:
    """The machine answers, and it is not this node any more."""
    return local is not None and not _is_this(local, node_id)


def _is_alone(access: Access, target: Target, local: LocalSwarm | None, node_id: str, cluster_id: str) -> bool:
    """Whether this is the last node of its swarm, so that leaving ends it."""
    if local is None or not local.control or local.cluster_id != cluster_id or not _is_this(local, node_id):
        return False
    try:
        everyone = access.engine(target).nodes()
    except Failure:
        return False
    if len(everyone) == 1:
        return True
    if sum(nodes.in_raft(node) for node in everyone) == 1:
        others = ", ".join(nodes.hostname_of(node) for node in everyone if node["ID"] != node_id)
        raise QuorumAtRisk(
            "taking a manager out",
            where=str(target),
            came_back=f"it is the last manager and {len(everyone) - 1} nodes depend on it: {others}",
            do_now="Remove those first, or declare another manager.",
        )
    return False


def _leave_if(access: Access, target: Target, local: LocalSwarm | None, node_id: str, *, force: bool) -> None:
    """Leave, where the engine still is the node in question; another membership of that machine is not ours to end."""
    if _is_this(local, node_id):
        _leave(access, target, node_id, force=force)


def _leave(access: Access, target: Target, node_id: str, *, force: bool) -> None:
    engine = access.engine(target)
    limit = Deadline.after(LEAVE_TIMEOUT, access.clock)

    def once() -> bool | None:
        try:
            local = local_swarm(engine.info())
            if local.state == "inactive" or (local.node_id and local.node_id != node_id):
                return True
            # The certificate of a demoted manager may still be the old one: the engine then wants force.
            engine.swarm_leave(force=force)
        except EngineError as error:
            if "not part of a swarm" in error.message:
                return True
            if error.status != 503:
                raise
            return None
        except Failure:
            # The host went away meanwhile: the object is removed all the same.
            return True
        return True

    if limit.poll(once, 0.2) is None:
        raise SwarmError(
            "leaving the swarm",
            where=str(target),
            came_back=f"the engine still takes itself for a manager after {LEAVE_TIMEOUT:.0f} s",
            do_now="Run again.",
        )


def _delete(access: Access, engine: EngineApi, node_id: str, target: Target, *, gone: bool) -> None:
    """Remove the node object; one whose host did not answer has to be down first, or it would run on unseen."""
    if not gone:
        limit = Deadline.after(DOWN_AFTER, access.clock)

        def down() -> bool | None:
            node = nodes.get(engine, node_id, limit)
            return True if node is None or not nodes.is_ready(node) else None

        if limit.poll(down, 0.5) is None:
            raise SwarmError(
                "removing the node",
                where=str(target),
                came_back="it does not answer to SSH, but the swarm still gets its heartbeats",
                do_now="Make SSH work or switch the machine off, then run again.",
            )
    nodes.remove(engine, node_id, Deadline.after(ELECTION, access.clock))
