"""A node becomes a member, from whatever state it is in; a node that is one already is adopted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.errors import AuthenticationFailed, HostKeyMismatch
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import admission, advertised, autolock, hand_drain, leadership, nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import Failure, ForeignSwarm, HostError, JoinFailed
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from proxmox_swarm.swarm.removal import drop_node
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.roles import await_manager, demote, half_demoted, promote

#: How long an engine that is starting, or in trouble, is left to itself before the swarm is asked whether it knows it.
PATIENCE = 5.0


def join_or_adopt(
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    *,
    join_timeout: float,
    role_timeout: float,
    former_id: str = "",
    retiring: Sequence[Target] = (),
    access: Access = SSH,
) -> MemberState:
    """Bring a node into swarm ``cluster_id`` and to its declared role, labels and availability, whatever it is now.

    A node that is in it is adopted. One that the swarm has forgotten leaves and joins again. One in another swarm is
    refused with that swarm's id. One that does not answer is an error; declared a worker, it leaves raft all the same.
    Node objects that an earlier machine left behind at this address are removed first;
    ``former_id`` names one more. It joins drained; the declared availability follows with its labels. ``retiring`` are
    managers that are no longer to be any: where this node is demoted, dead ones among them are first.

    Raises ForeignSwarm, SwarmLocked, PortsClosed, JoinFailed, NoManager, QuorumAtRisk, RoleTimeout, EngineError, HostError.
    """
    limit = Deadline.after(join_timeout, access.clock)
    engine = access.engine(spec.target)
    others = [target for target in managers if target.address != spec.target.address]
    try:
        local = _settled(engine, spec.target, limit, Deadline.after(min(PATIENCE, join_timeout), access.clock))
    except HostError:
        if spec.role == "worker" and former_id:
            # That it does not answer is the news; what else is wrong the next run tells.
            with suppress(Failure):
                _demote_absent(access, spec, managers, cluster_id, former_id, role_timeout)
        raise
    if local.state == "locked" and _unlock(access, spec, others, cluster_id, former_id, local, limit):
        local = _settled(engine, spec.target, limit, Deadline.after(min(PATIENCE, join_timeout), access.clock))
    if local.state != "inactive":
        known = _standing(access, spec, managers, cluster_id, local, former_id, limit)
        if known is not None:
            # A member that is on its way back gets the time it needs; one whose certificate is over never comes back.
            if not local.expired:
                local = _settled(engine, spec.target, limit, limit)
            manager, node = known
            if local.state == "active" and not half_demoted(manager, node, access.clock):
                if not advertised.as_declared(spec, local):
                    raise advertised.refuse_member(spec, local)
                return _converge(
                    access, spec, managers, manager, cluster_id, node, local, role_timeout, former_id, retiring
                )
            drop_node(access, others, node, cluster_id, role_timeout, surely_dead=False)
        admission.leave(engine, spec.target, access.clock)
    # Raft takes in one member after the other; several at once time out (and then join all the same).
    purpose = f"joining {spec.target}"
    serial = cluster_lock(cluster_id, purpose, access.clock) if spec.role == "manager" else nullcontext()
    with serial:
        limit = Deadline.after(join_timeout, access.clock)
        manager = find_manager(access, others, cluster_id, limit)
        _clear_way(access, spec, others, manager, cluster_id, former_id, role_timeout)
        with leadership.stays(access, cluster_id, purpose):
            limit = Deadline.after(join_timeout, access.clock)
            manager, local = admission.join(access, engine, spec, manager, others, cluster_id, limit)
            if advertised.as_declared(spec, local):
                return _settle(access, spec, manager, local, Deadline.after(role_timeout, access.clock))
        raise advertised.undo_join(access, spec, manager, others, cluster_id, local, role_timeout)


def _settled(engine: EngineApi, target: Target, limit: Deadline, patience: Deadline) -> LocalSwarm:
    """The engine's place, once dockerd answers; one that is starting or in trouble gets until ``patience`` to settle."""
    last: list[Any] = [None]

    def ask() -> LocalSwarm | None:
        try:
            local = local_swarm(engine.info())
        except (AuthenticationFailed, HostKeyMismatch):
            raise
        except Failure as error:
            last[0] = error
            return None
        last[0] = local
        if local.state in ("pending", "error") and not patience.over:
            return None
        return local

    found = limit.poll(ask)
    if found is not None:
        return found
    if isinstance(last[0], LocalSwarm):
        return last[0]
    raise last[0]


def _unlock(
    access: Access,
    spec: MemberSpec,
    others: Sequence[Target],
    cluster_id: str,
    former_id: str,
    local: LocalSwarm,
    limit: Deadline,
) -> bool:
    """Unlock an engine with the key that another manager has; False, and nothing done, where it is no manager any more.

    Such a one was demoted and restarted before it had heard of it: unlocked, it would join raft once more. Raises
    ForeignSwarm, SwarmLocked, NoManager.
    """
    theirs = access.cluster_on_disk(spec.target, local.root)
    if theirs and theirs != cluster_id:
        raise foreign(spec.target, theirs, cluster_id, local)
    manager = find_manager(access, others, cluster_id, limit)
    # A locked engine does not tell its node id.
    own = [n for n in nodes.everyone(manager.engine, limit) if former_id == n["ID"] or _is_at(n, spec.target)]
    if not any(nodes.role_of(node) == "manager" for node in own):
        return False
    autolock.unlock(access, spec.target, persist(manager.engine.swarm_unlock_key, limit))
    return True


def _is_at(node: Json, target: Target) -> bool:
    return nodes.address_of(node) == target.address


def _demote_absent(
    access: Access,
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    node_id: str,
    timeout: float,
) -> None:
    """A node that is to be a manager no longer leaves raft although its host does not answer: it counts in every majority."""
    manager = find_manager(access, managers, cluster_id, Deadline.after(PATIENCE, access.clock), avoid=node_id)
    node = nodes.get(manager.engine, node_id, Deadline.after(PATIENCE, access.clock))
    if node is not None and (nodes.in_raft(node) or nodes.role_of(node) == "manager"):
        demote(access, managers, node_id, cluster_id, timeout, where=str(spec.target))


def _standing(
    access: Access,
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    local: LocalSwarm,
    former_id: str,
    limit: Deadline,
) -> tuple[Manager, Json] | None:
    """The node's object in the declared swarm; None when it has none there of its own. Raises ForeignSwarm.

    An engine whose part in the swarm fails to start does not say who it is: it is who it was.
    """
    theirs = local.cluster_id or access.cluster_on_disk(spec.target, local.root)
    if theirs and theirs != cluster_id:
        raise foreign(spec.target, theirs, cluster_id, local)
    manager = find_manager(access, managers, cluster_id, limit)
    node_id = local.node_id or (former_id if local.state == "error" else "")
    if not node_id:
        return None
    everyone = nodes.everyone(manager.engine, limit)
    node = nodes.find(everyone, node_id)
    own = node is not None and nodes.shared(everyone, local, former_id) is None
    return (manager, node) if node is not None and own else None


def foreign(target: Target, theirs: str, ours: str, local: LocalSwarm) -> ForeignSwarm:
    """The error for a node that is in another swarm."""
    role = "manager" if local.control else "worker"
    at = f", whose managers are at {', '.join(local.managers)}" if local.managers else ""
    return ForeignSwarm(
        f"joining swarm {ours}",
        where=str(target),
        came_back=f"it is a {role} of swarm {theirs}{at}",
        do_now="Take it out of that swarm there first, or out of these settings: nothing was changed.",
    )


def _clear_way(
    access: Access,
    spec: MemberSpec,
    known: Sequence[Target],
    manager: Manager,
    cluster_id: str,
    former_id: str,
    timeout: float,
) -> None:
    """Remove what earlier machines left at this address: our engine is in no swarm, so none of it is alive.

    A manager's ghost would stay in raft and pass for reachable once this machine answers at its address. A former node whose
    place in raft another engine has taken is that engine's now.
    """
    for node in nodes.everyone(manager.engine, Deadline.after(timeout, access.clock)):
        if _is_at(node, spec.target) or (node["ID"] == former_id and not nodes.reachable(node)):
            drop_node(access, known, node, cluster_id, timeout, surely_dead=True)


def _settle(access: Access, spec: MemberSpec, manager: Manager, local: LocalSwarm, limit: Deadline) -> MemberState:
    """Labels and availability for a new member, then wait until it is ready, and reachable if it is a manager."""
    if limit.poll(lambda: nodes.get(manager.engine, local.node_id, limit)) is None:
        raise JoinFailed(
            "looking for the new member",
            where=str(spec.target),
            came_back=f"{manager.target} does not list node {local.node_id}",
            do_now="Run again.",
        )
    return _declare(access, spec, manager, local, limit)


def _converge(
    access: Access,
    spec: MemberSpec,
    managers: Sequence[Target],
    manager: Manager,
    cluster_id: str,
    node: Json,
    local: LocalSwarm,
    role_timeout: float,
    former_id: str,
    retiring: Sequence[Target],
) -> MemberState:
    """A member is brought to what is declared."""
    limit = Deadline.after(role_timeout, access.clock)
    known = [*managers, spec.target]
    everyone = nodes.everyone(manager.engine, limit)
    former = nodes.find(everyone, former_id) if former_id != local.node_id else None
    ghosts = {ghost["ID"]: ghost for ghost in nodes.ghosts(everyone, local.node_id, spec.target.address)}
    if former is not None:
        ghosts[former["ID"]] = former
    for ghost in ghosts.values():
        drop_node(access, known, ghost, cluster_id, role_timeout, surely_dead=True)
    if spec.role == "manager" and nodes.role_of(node) != "manager":
        promote(access, manager, spec.target, local.node_id, cluster_id, role_timeout)
    elif spec.role == "worker" and (nodes.role_of(node) == "manager" or nodes.in_raft(node) or local.control):
        where = str(spec.target)
        demote(
            access,
            known,
            local.node_id,
            cluster_id,
            role_timeout,
            where=where,
            target=spec.target,
            stays=True,
            retiring=retiring,
        )
        limit = Deadline.after(role_timeout, access.clock)
        manager = find_manager(access, known, cluster_id, limit, avoid=local.node_id)
    return _declare(access, spec, manager, local, Deadline.after(role_timeout, access.clock))


def _declare(access: Access, spec: MemberSpec, manager: Manager, local: LocalSwarm, limit: Deadline) -> MemberState:
    def change(node_spec: dict[str, Any]) -> None:
        hand_drain.apply(node_spec, spec.labels_over(node_spec.get("Labels") or {}), spec.availability)

    nodes.update(manager.engine, local.node_id, change, limit)
    if spec.role == "manager":
        await_manager(access, manager, spec.target, local.node_id, limit)
    else:

        def ready() -> bool | None:
            node = nodes.get(manager.engine, local.node_id, limit)
            return True if node is not None and nodes.is_ready(node) else None

        if limit.poll(ready) is None:
            raise JoinFailed(
                "waiting for it to be ready",
                where=str(spec.target),
                came_back=f"no heartbeat reached {manager.target} in {limit.seconds:.0f} s",
                do_now=f"Check 2377/tcp from it to {manager.target}, then run again.",
            )
    return MemberState(
        "ok", "", local.node_id, spec.role, spec.availability, dict(spec.labels), engine_id=local.engine_id
    )
