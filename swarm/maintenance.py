"""Take a node out for a moment, do something to it, and bring it back: one manager at a time, workers beside each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import autolock, hand_drain, leadership, nodes, reach
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.drain import drain
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import Failure, QuorumAtRisk, SwarmError
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.quorum import can_pause
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.roles import retire_dead, way_out

#: Other managers' turns come first; a swarm has no more of them than this (settings/rules_nodes.py).
TURNS = 7


def with_node_out(
    target: Target,
    managers: Sequence[Target],
    cluster_id: str,
    action: Callable[[], None],
    *,
    drain_timeout: float,
    back_timeout: float,
    retiring: Sequence[Target] = (),
    access: Access = SSH,
) -> None:
    """Drain the node, run ``action``, wait until the node is back and ready, restore its availability.

    Where managers lock themselves, the node gets the key that the swarm had before. A manager is taken out only where the
    others keep a majority, and the cluster's lock is held until it is back; dead ones of ``retiring``, managers that are to
    be none any more, leave raft before it. Workers may be out together, as many as the caller takes, but not with a manager.
    When ``action`` fails or is interrupted the node is still waited for and restored, and the error raised; a drain that
    is broken off is taken back. What this run has not drained keeps its availability. Raises QuorumAtRisk,
    DrainTimeout, NoManager, RoleTimeout, EngineError, LockBusy, SwarmLocked, SwarmError when it does not come back.
    """
    turns = TURNS * (drain_timeout + 2 * back_timeout)
    with _turn(access, target, cluster_id, turns):
        limit = Deadline.after(back_timeout, access.clock)
        manager = _manager(access, managers, target, cluster_id, limit)
        everyone = nodes.everyone(manager.engine, limit)
        # Now: the only manager can tell its key to nobody once it is locked.
        key = persist(manager.engine.swarm_unlock_key, limit)
        node = _own_node(access, target, everyone)
        if node is None:
            action()
            return
        outing = _Outing(access, target, managers, cluster_id, node, key, back_timeout)
        if nodes.in_raft(node):
            known = [*managers, *retiring]
            retire_dead(access, known, node["ID"], cluster_id, back_timeout, str(target), retiring)
            outing.guard(manager)
        # A lone node has nowhere to move its tasks to; it is spared the drain, not the wait.
        drains = nodes.availability_of(node) != "drain" and nodes.is_ready(node) and len(everyone) > 1
        leader = outing.leave(manager, drain_timeout if drains else None)
        leader = outing.act(action, leader)
        if nodes.in_raft(node):
            manager = find_manager(access, managers, cluster_id, Deadline.after(back_timeout, access.clock))
            leadership.settle(manager.engine, leader, access.clock)


def restart_engine(
    target: Target,
    managers: Sequence[Target],
    restart: Callable[[], None],
    *,
    drain_timeout: float,
    back_timeout: float,
    retiring: Sequence[Target] = (),
    access: Access = SSH,
) -> None:
    """Run ``restart``, which restarts dockerd; with the node out of work if it is in a swarm. Raises as with_node_out."""
    local = place_of(access, target)
    if local is None:
        # Somebody else may have stopped it for work of their own, and has the lock until it is back.
        with _lock_of(access, [m for m in managers if m.address != target.address], f"restart of {target}"):
            local = place_of(access, target)
            if local is None:
                restart()
                return
    # A locked one is out already, and whoever unlocks it comes later.
    if local.state in ("inactive", "locked"):
        restart()
        return
    with_node_out(
        target,
        [*managers, target],
        local.cluster_id or access.cluster_on_disk(target, local.root),
        restart,
        drain_timeout=drain_timeout,
        back_timeout=back_timeout,
        retiring=retiring,
        access=access,
    )


def _lock_of(access: Access, managers: Sequence[Target], purpose: str) -> AbstractContextManager[None]:
    """The lock of the swarm that these managers are of; none where no manager answers."""
    places = (place_of(access, manager) for manager in managers)
    cluster_id = next((place.cluster_id for place in places if place is not None and place.cluster_id), "")
    return cluster_lock(cluster_id, purpose, access.clock) if cluster_id else contextlib.nullcontext()


@contextlib.contextmanager
def _turn(access: Access, target: Target, cluster_id: str, patience: float) -> Iterator[None]:
    """The locks under which this node may be out."""
    purpose = f"maintenance of {target}"
    local = place_of(access, target)
    # An engine that does not say what it is counts as a manager: exclusive is always right, only slower.
    if local is not None and local.state == "active" and not local.control:
        with leadership.stays(access, cluster_id, purpose):
            yield
    else:
        with (
            cluster_lock(cluster_id, purpose, access.clock, patience),
            leadership.may_change(access, cluster_id, purpose),
        ):
            yield


@dataclass
class _Outing:
    """A node on its way out and back. ``key`` unlocks it; ``drained`` says that it is this run that has drained it."""

    access: Access
    target: Target
    managers: Sequence[Target]
    cluster_id: str
    node: Json
    key: str
    back_timeout: float
    drained: bool = False

    def guard(self, manager: Manager) -> str:
        """The leader's id. Raises QuorumAtRisk unless this manager may be out for a while."""
        node_id = self.node["ID"]
        everyone = reach.everyone(self.access, manager.engine, self.managers, self._back(), besides=node_id)
        node = nodes.find(everyone, node_id) or self.node
        reason = can_pause(nodes.quorum_of(everyone), reachable=nodes.reachable(node))
        if reason is not None:
            raise QuorumAtRisk(
                "taking a manager out for maintenance",
                where=str(self.target),
                came_back=reason,
                do_now=f"{way_out(everyone, node)} Nothing was changed.",
            )
        return leadership.leader_of(everyone)

    def leave(self, manager: Manager, drain_timeout: float | None) -> str:
        """Drain it, unless there is no time given for it, and look once more: a drain takes long. The leader's id.

        Whatever breaks it off, Ctrl-C too, it is put back: the next run must not take "drained" for what the node was.
        """
        try:
            if drain_timeout is not None:
                self.drained = True
                drain(self.access, manager.engine, self.node, self.target, self.cluster_id, drain_timeout)
            return self.guard(manager) if nodes.in_raft(self.node) else ""
        except BaseException:
            _all_the_same(self._put_back)
            raise

    def act(self, action: Callable[[], None], leader: str) -> str:
        """Run ``action``, wait until the node is back, restore its availability; a leader's engine is stopped before.

        Returns who led while ``action`` ran.
        """
        others = [manager for manager in self.managers if manager.address != self.target.address]
        steps_down = leader == self.node["ID"] and len(others) > 0
        try:
            if steps_down:
                leader = leadership.step_down(self.access, self.target, others, self.cluster_id, leader)
            action()
        except BaseException:
            if steps_down:
                _all_the_same(lambda: self.access.start_engine(self.target))
            _all_the_same(self._come_back)
            raise
        if steps_down:
            _all_the_same(lambda: self.access.start_engine(self.target))  # most actions have done so
        self._come_back()
        return leader

    def _come_back(self) -> None:
        try:
            _await_back(
                self.access, self.managers, self.target, self.cluster_id, self.node["ID"], self.key, self._back()
            )
        except Failure:
            raise
        except BaseException:
            _all_the_same(self._put_back)
            raise
        self._put_back()

    def _put_back(self) -> None:
        if self.drained:
            back = self._back()
            manager = find_manager(self.access, self.managers, self.cluster_id, back)
            nodes.update(manager.engine, self.node["ID"], _availability(nodes.availability_of(self.node)), back)

    def _back(self) -> Deadline:
        return Deadline.after(self.back_timeout, self.access.clock)


def _all_the_same(clean_up: Callable[[], None]) -> None:
    """Clean up after an error. That one is the news; that this fails as well follows from it."""
    with contextlib.suppress(Failure):
        clean_up()


def _manager(access: Access, managers: Sequence[Target], target: Target, cluster_id: str, limit: Deadline) -> Manager:
    """A manager to work through: another one than the node itself where there is one."""
    others = [manager for manager in managers if manager.address != target.address]
    try:
        return find_manager(access, others, cluster_id, Deadline.after(min(5.0, limit.left), limit.clock))
    except Failure:
        return find_manager(access, managers, cluster_id, limit)


def _own_node(access: Access, target: Target, everyone: Sequence[Json]) -> Json | None:
    local = place_of(access, target)
    if local is not None and local.state != "locked":  # a locked one knows no id of its own
        return None if nodes.shared(everyone, local, "") else nodes.find(everyone, local.node_id)
    return next((node for node in everyone if nodes.address_of(node) == target.address), None)


def _await_back(
    access: Access, managers: Sequence[Target], target: Target, cluster_id: str, node_id: str, key: str, limit: Deadline
) -> None:
    def back() -> bool | None:
        local = place_of(access, target)
        if local is not None and local.state == "locked":
            autolock.unlock(access, target, key)
            return None
        if local is None or local.state != "active" or local.error:
            return None
        try:
            manager = find_manager(access, managers, cluster_id, Deadline.after(1, access.clock))
            node = nodes.find(manager.engine.nodes(), node_id)
        except Failure:
            return None
        if node is None or not nodes.is_ready(node) or (nodes.in_raft(node) and not nodes.reachable(node)):
            return None
        return True

    if limit.poll(back, 0.2) is None:
        raise SwarmError(
            "waiting for the node to come back",
            where=str(target),
            came_back=f"not ready after {limit.seconds:.0f} s; it stays drained",
            do_now="Look at `systemctl status docker` there, then run again.",
        )


def _availability(value: str) -> Any:
    def change(spec: dict[str, Any]) -> None:
        # A person may have drained it meanwhile.
        hand_drain.apply(spec, spec.get("Labels") or {}, value)

    return change
