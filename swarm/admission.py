"""The join itself: ports tried first, a token of this moment, and then the engine watched until it is in, or out again."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from proxmox_swarm.host.deadline import Clock, Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import Access, place_of
from proxmox_swarm.swarm.engine import EngineApi
from proxmox_swarm.swarm.errors import EngineError, Failure, HostError, JoinFailed, PortsClosed, SwarmError
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm, with_port
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.ports import MANAGEMENT, PortSpec
from proxmox_swarm.swarm.retry import Retry, classify
from proxmox_swarm.swarm.tokens import join_token

LEAVE_TIMEOUT = 30.0
#: A busy dockerd that has just left a swarm has its ports for so long.
LETTING_GO = 10.0
HELD = os.strerror(errno.EADDRINUSE)


def join(
    access: Access,
    engine: EngineApi,
    spec: MemberSpec,
    manager: Manager,
    others: Sequence[Target],
    cluster_id: str,
    limit: Deadline,
) -> tuple[Manager, LocalSwarm]:
    """Join through this manager, or through one of ``others`` where it dies meanwhile: the engine itself asks only one.

    Returns the manager and the engine's place. Raises PortsClosed, JoinFailed, NoManager, EngineError, HostError.
    """
    while True:
        try:
            return manager, _join_through(access, engine, spec, manager, limit)
        except Failure:
            if limit.over or _answers(access, manager):
                raise
        manager = find_manager(access, others, cluster_id, limit)


def _answers(access: Access, manager: Manager) -> bool:
    """Whether the manager that a node joins through still is one."""
    local = place_of(access, manager.target)
    return local is not None and local.control


def _require_ports(access: Access, spec: MemberSpec, manager: Manager, peers: Sequence[str], limit: Deadline) -> None:
    """Make sure that the swarm's ports get through. Raises PortsClosed naming each that does not, HostError.

    A dockerd that left a swarm may keep its ports: for some seconds, or until it is restarted. In no swarm, it then is;
    but not on a machine that was there before, whose containers may be somebody's.
    """
    ports = PortSpec(spec.role == "manager", spec.data_path_port, spec.data_path)
    patience = Deadline.after(min(LETTING_GO, limit.left), access.clock)
    may_restart = not spec.adopted
    while closed := access.closed_ports(spec.target, manager.target, peers, ports):
        held = all(port.endswith(HELD) for port in closed)
        if held and not patience.over:
            access.clock.sleep(1)
        elif held and may_restart:
            access.stop_engine(spec.target)
            access.start_engine(spec.target)
            may_restart, patience = False, Deadline.after(min(LETTING_GO, limit.left), access.clock)
        else:
            firewalls = "Open them in the firewalls between these nodes"
            itself = "Something on the node itself has them, see `ss -tulpn` there: end it"
            raise PortsClosed(
                "joining the swarm",
                where=str(spec.target),
                came_back=f"closed: {'; '.join(closed)}",
                do_now=f"{itself if held else firewalls}, then run again: nothing was changed.",
            )


def _join_through(access: Access, engine: EngineApi, spec: MemberSpec, manager: Manager, limit: Deadline) -> LocalSwarm:
    peers = [manager.address]
    if spec.role == "manager":
        listed = nodes.everyone(manager.engine, limit)
        peers = [nodes.address_of(node) for node in listed if nodes.reachable(node)] or peers
    _require_ports(access, spec, manager, peers, limit)
    refused = _request(engine, spec, manager, limit)

    def joined() -> LocalSwarm | None:
        try:
            local = local_swarm(engine.info())
        except HostError:
            return None
        if local.state == "inactive" and refused is not None:
            raise _failed(spec, manager, str(refused.came_back))
        # An engine keeps asking the manager it was given, also when that one is gone.
        ended = local.state in ("active", "inactive") or not _answers(access, manager)
        return local if ended else None

    local = limit.poll(joined, 0.2)
    if local is None or local.state != "active":
        # Left alone, the engine would go on trying with a token that may be rotated meanwhile.
        leave(engine, spec.target, limit.clock)
        raise _failed(spec, manager, _why(local, manager, limit))
    return local


def _why(local: LocalSwarm | None, manager: Manager, limit: Deadline) -> str:
    """What ended the wait for a join."""
    if local is not None and local.state == "inactive":
        return "its engine gave up"
    return f"not a member after {limit.seconds:.0f} s" if limit.over else f"{manager.target} went away meanwhile"


def _request(engine: EngineApi, spec: MemberSpec, manager: Manager, limit: Deadline) -> Failure | None:
    """Ask the engine to join. An error that leaves open whether it will is returned, to be judged by state."""
    address = with_port(spec.target.address, MANAGEMENT)
    for last_try in (False, True):
        body = {
            "ListenAddr": address,
            "AdvertiseAddr": address,
            "RemoteAddrs": [with_port(manager.address, MANAGEMENT)],
            "JoinToken": join_token(manager.engine, spec.role, limit),
            "DataPathAddr": spec.data_path,
            "Availability": "drain",
        }
        try:
            engine.swarm_join(body)
        except EngineError as error:
            if "valid join token" in error.message and not last_try:
                continue  # rotated between reading and using it
            return None if classify(error) is Retry.JOINING or "already part of a swarm" in error.message else error
        except HostError as error:
            return error
        return None
    return None


def _failed(spec: MemberSpec, manager: Manager, reason: str) -> JoinFailed:
    return JoinFailed(
        f"joining the swarm through {manager.target}",
        where=str(spec.target),
        came_back=reason,
        do_now="Look at `journalctl -u docker` on both, then run again.",
    )


def leave(engine: EngineApi, target: Target, clock: Clock) -> None:
    """Forget a membership that the swarm does not know (any more). Raises EngineError, HostError, SwarmError."""
    limit = Deadline.after(LEAVE_TIMEOUT, clock)
    try:
        engine.swarm_leave(force=True)
    except EngineError as error:
        if "not part of a swarm" not in error.message:
            raise
    if limit.poll(lambda: True if local_swarm(engine.info()).state == "inactive" else None) is None:
        raise SwarmError(
            "leaving a swarm that forgot it", where=str(target), came_back="still not out", do_now="Run again."
        )
