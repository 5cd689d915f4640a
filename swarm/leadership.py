"""Nodes register and ask for certificates only while the leader stays who it is.

A manager that has not heard of a new leader yet passes requests on to the former one, which passes them on once more; the
leader then takes the first manager for the one who asked, and a node may get a certificate in that manager's name (swarmkit's
raft proxy, see docs/runbooks/two-engines-one-node.md). So what may change the leader excludes, on this machine, what makes a
worker register anew, and gives way only when every manager has heard of the new leader.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from proxmox_swarm.host.deadline import Clock, Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import Access
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import Failure, NoManager
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import Manager, find_manager

#: A new leader tells all others with its first heartbeat, after a second; a busy machine is late.
SETTLED = 5.0
PATIENCE = 60.0


def may_change(access: Access, cluster_id: str, purpose: str) -> AbstractContextManager[None]:
    """For what may change the leader: a manager's absence, a demotion. Raises LockBusy."""
    return cluster_lock(_name(cluster_id), purpose, access.clock)


def stays(access: Access, cluster_id: str, purpose: str) -> AbstractContextManager[None]:
    """For what makes a worker register anew: its restart, its join. Any number of them goes on together. Raises LockBusy."""
    return cluster_lock(_name(cluster_id), purpose, access.clock, shared=True)


def leader_of(everyone: list[Json]) -> str:
    """The leader's id, "" where there is none."""
    return next((node["ID"] for node in everyone if (node.get("ManagerStatus") or {}).get("Leader")), "")


def settle(engine: EngineApi, former: str, clock: Clock) -> None:
    """Where the leader is not ``former`` any more, wait until it has been the same for some seconds. Raises nothing."""
    limit = Deadline.after(PATIENCE, clock)
    with suppress(Failure):
        seen, since = leader_of(nodes.everyone(engine, limit)), clock.now()
        while seen != former and clock.now() - since < SETTLED and not limit.over:
            clock.sleep(0.5)
            now = leader_of(nodes.everyone(engine, limit))
            if now != seen:
                seen, since, former = now, clock.now(), ""


def step_down(access: Access, target: Target, others: Sequence[Target], cluster_id: str, node_id: str) -> str:
    """Stop the engine of the leader, and wait until the others have another one; its id.

    An engine that is back before the others have noticed gets what they pass on to their leader, and keeps it until there is
    a new one, to which it passes it on. Raises HostError, and NoManager where the others elect nobody: it then runs again.
    """
    access.stop_engine(target)

    def elsewhere() -> Manager | None:
        try:
            manager = find_manager(access, others, cluster_id, Deadline.after(1, access.clock))
            return manager if leader_of(manager.engine.nodes()) not in ("", node_id) else None
        except Failure:
            return None

    found = Deadline.after(PATIENCE, access.clock).poll(elsewhere, 0.5)
    if found is None:
        access.start_engine(target)
        raise NoManager(
            "waiting for another leader",
            where=str(target),
            came_back=f"the other managers have elected none in {PATIENCE:.0f} s",
            do_now="Check 2377/tcp between them, then run again. dockerd was started again, nothing else was done.",
        )
    settle(found.engine, node_id, access.clock)
    return leader_of(nodes.everyone(found.engine, Deadline.after(PATIENCE, access.clock)))


def _name(cluster_id: str) -> str:
    return f"leader of {cluster_id}"
