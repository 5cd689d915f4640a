"""Find a manager that can take a request for a given swarm, among those we know."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from proxmox_swarm.host.credentials import known_hosts
from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.pinned import pinned_key
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import Access
from proxmox_swarm.swarm.engine import EngineApi
from proxmox_swarm.swarm.errors import Failure, NoManager
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.parallel import as_answered
from proxmox_swarm.swarm.relay import Relay

#: How long the manager that answered last is asked alone before the others are asked too.
HEAD_START = 1.5
#: How long an operation that lost its manager looks for another one at a time.
FAILOVER = 2.0


@dataclass(frozen=True)
class Manager:
    """A manager that took our question and has a leader to forward to.

    ``engine`` goes over to another manager when this one goes away, between two calls: see :class:`Relay`.
    """

    target: Target
    engine: EngineApi
    local: LocalSwarm

    @property
    def address(self) -> str:
        """The address that others join through."""
        return self.local.node_address or self.target.address


@dataclass(frozen=True)
class _No:
    reason: str
    transient: bool = False
    follow: tuple[str, ...] = ()


_last: dict[str, Target] = {}
_last_lock = threading.Lock()


def remember(cluster_id: str, target: Target) -> None:
    """Ask this manager first from now on."""
    with _last_lock:
        _last[cluster_id] = target


def find_manager(
    access: Access, known: Sequence[Target], cluster_id: str, deadline: Deadline, *, avoid: str = ""
) -> Manager:
    """A manager of this swarm that is not node ``avoid``; the one that answered last is asked first.

    An election is waited for until the deadline. Managers that the swarm itself names are asked too where their host key
    is known. Raises NoManager with each one's answer.
    """
    targets = list(dict.fromkeys(known))

    def another() -> EngineApi:
        return _search(access, targets, cluster_id, Deadline.after(FAILOVER, access.clock), avoid).engine

    found = _search(access, targets, cluster_id, deadline, avoid)
    return replace(found, engine=cast(EngineApi, Relay(found.engine, another)))


def _search(access: Access, targets: list[Target], cluster_id: str, deadline: Deadline, avoid: str) -> Manager:
    """As :func:`find_manager`; managers that are met on the way are added to ``targets``."""
    with _last_lock:
        last = _last.get(cluster_id)
    if last in targets:
        targets.sort(key=lambda target: target != last)
    followed: set[str] = {target.address for target in targets}
    pause = 0.1
    while True:
        answers: dict[str, str] = {}
        transient = False
        leads: set[str] = set()
        for target, answer in as_answered(lambda t: _ask(access, t, cluster_id, avoid), targets, head_start=HEAD_START):
            if isinstance(answer, Manager):
                remember(cluster_id, target)
                return answer
            answers[str(target)] = answer.reason
            transient = transient or answer.transient
            leads.update(answer.follow)
        more = [t for address in leads - followed if (t := _from_known_hosts(address, targets)) is not None]
        followed |= leads
        targets += more
        if not more:
            if not transient or deadline.over:
                break
            deadline.clock.sleep(min(pause, max(deadline.left, 0.01)))
            pause = min(pause * 2, 1.0)
    raise NoManager(
        f"looking for a manager of swarm {cluster_id}",
        came_back="; ".join(f"{where}: {reason}" for where, reason in answers.items()) or "no manager is declared",
        do_now=(
            "Unlock them with `proxmox-swarm unlock`, then run again."
            if any(reason.startswith("locked") for reason in answers.values())
            else "Bring a majority of the managers back, then run again."
        )
        + (f" The swarm's managers are at {', '.join(sorted(leads))}." if leads else ""),
    )


def _ask(access: Access, target: Target, cluster_id: str, avoid: str) -> Manager | _No:
    engine = access.engine(target)
    try:
        local = local_swarm(engine.info())
    except Failure as error:
        return _No(error.came_back.partition("\n")[0] or error.what)
    if local.state == "inactive":
        return _No("not in a swarm")
    if local.state in ("pending", "error", "locked"):
        return _No(f"{local.state} {local.error}".strip(), transient=local.state == "pending", follow=local.managers)
    if not local.control:
        return _No("not a manager", follow=local.managers)
    if local.error:
        return _No(local.error, transient=True, follow=local.managers)
    if local.cluster_id != cluster_id:
        return _No(f"in another swarm, {local.cluster_id}")
    if local.node_id and local.node_id == avoid:
        return _No("is the node in question", follow=local.managers)
    return Manager(target, engine, local)


def _from_known_hosts(address: str, like: Sequence[Target]) -> Target | None:
    """A manager that no setting declares, if the operator has pinned its key: there is no trust on first use."""
    key = pinned_key(known_hosts(), address) if like else None
    return Target(address, address, like[0].user, key) if key else None
