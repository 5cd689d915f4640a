"""Rotating join tokens and the root CA: once each time it is asked for, judged by what the swarm has afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import Failure, RotationFailed
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.tokens import ca_digest36

TIMEOUT = 90.0
#: After a change of leader nodes are unknown to the managers until their next heartbeat (swarmkit dispatcher).
SETTLE = 45.0
#: Role: the token in ``JoinTokens``, and the engine's flag that rotates it.
TOKENS = {"worker": ("Worker", "rotateWorkerToken"), "manager": ("Manager", "rotateManagerToken")}


def rotate_token(managers: Sequence[Target], cluster_id: str, role: str, *, access: Access = SSH) -> None:
    """Give the swarm another join token for a role; the old one is refused from then on, members notice nothing.

    The token is seen by nobody. Raises NoManager, EngineError, LockBusy, RotationFailed where the engine kept the old one.
    """
    kind, flag = TOKENS[role]
    with cluster_lock(cluster_id, f"rotating the join token of {role}s", access.clock):
        limit = Deadline.after(TIMEOUT, access.clock)
        manager = find_manager(access, managers, cluster_id, limit)
        engine = manager.engine
        before = _secret(persist(engine.swarm_inspect, limit), kind)

        def once() -> None:
            swarm = engine.swarm_inspect()
            # A request that ended with an error may have been taken all the same.
            if _secret(swarm, kind) == before:
                engine.swarm_update(swarm["Version"]["Index"], swarm["Spec"], **{flag: True})

        persist(once, limit)
        if _secret(persist(engine.swarm_inspect, limit), kind) == before:
            raise RotationFailed(
                f"rotating the join token of {role}s",
                where=str(manager.target),
                came_back="the engine took the request and still gives the old one",
                do_now="Look at `journalctl -u docker` there, then run again.",
            )


def ca_digest(managers: Sequence[Target], cluster_id: str, *, patience: float = TIMEOUT, access: Access = SSH) -> str:
    """The digest of the swarm's root CA, as join tokens carry it. Raises NoManager, EngineError."""
    limit = Deadline.after(patience, access.clock)
    return _digest(persist(find_manager(access, managers, cluster_id, limit).engine.swarm_inspect, limit))


def rotate_ca(
    managers: Sequence[Target],
    cluster_id: str,
    *,
    timeout: float,
    told: Callable[[str, str], None],
    access: Access = SSH,
) -> str:
    """Give the swarm a new root CA and wait until every node has a certificate of it; the new CA's digest.

    A rotation that is under way already, from a run that was killed or by hand, is waited for, not begun anew. Both join
    tokens change at its end. ``told`` gets the name of what it is about, a node or "swarm", and how far that is. While a
    node is down a rotation would not end: that is refused. Raises RotationFailed, NoManager, EngineError, LockBusy.
    """
    with cluster_lock(cluster_id, "rotating the root CA", access.clock):
        limit = Deadline.after(timeout, access.clock)
        engine = find_manager(access, managers, cluster_id, limit).engine
        _refuse_unless_all_are_up(engine, access)
        before = persist(engine.swarm_inspect, limit)
        if before["RootRotationInProgress"]:
            told("swarm", "a rotation of the root CA is under way; waiting for its end")
        else:
            _begin(engine, _force_rotate(before), limit)
        return _await_end(access, managers, cluster_id, limit, told)


def _begin(engine: EngineApi, count: int, limit: Deadline) -> None:
    def once() -> None:
        swarm = engine.swarm_inspect()
        if swarm["RootRotationInProgress"] or _force_rotate(swarm) != count:
            return
        spec = copy.deepcopy(swarm["Spec"])
        spec["CAConfig"] = {**(spec.get("CAConfig") or {}), "ForceRotate": count + 1}
        engine.swarm_update(swarm["Version"]["Index"], spec)

    persist(once, limit)


def _await_end(
    access: Access, managers: Sequence[Target], cluster_id: str, limit: Deadline, told: Callable[[str, str], None]
) -> str:
    done: set[str] = set()
    missing: list[Json] = []

    def ended() -> str | None:
        try:
            engine = find_manager(access, managers, cluster_id, Deadline.after(5, access.clock)).engine
            swarm, everyone = engine.swarm_inspect(), engine.nodes()
        except Failure:
            return None  # managers get new certificates too, and one of them may be lost meanwhile
        issuer = swarm["TLSInfo"]["CertIssuerPublicKey"]
        missing[:] = [node for node in everyone if _issuer(node) != issuer]
        for node in everyone:
            if node not in missing and node["ID"] not in done:
                done.add(node["ID"])
                told(nodes.hostname_of(node), "certificate of the new CA")
        return None if swarm["RootRotationInProgress"] else _digest(swarm)

    digest = limit.poll(ended, 0.5)
    if digest is None:
        names = ", ".join(f"{nodes.hostname_of(node)} ({nodes.state_of(node)})" for node in missing)
        raise RotationFailed(
            "waiting for the new root CA to reach every node",
            came_back=f"after {limit.seconds:.0f} s it is not done; without its certificate: {names or 'none'}",
            do_now="It goes on by itself once they are up, or removed. Run again to wait for its end.",
        )
    return digest


def _refuse_unless_all_are_up(engine: EngineApi, access: Access) -> None:
    limit = Deadline.after(SETTLE, access.clock)

    def not_ready() -> list[Json] | None:
        found = [node for node in persist(engine.nodes, limit) if not nodes.is_ready(node)]
        down = [node for node in found if nodes.state_of(node) == "down"]
        return found if down or not found or limit.over else None

    found = limit.poll(not_ready, 0.5) or []
    if found:
        names = ", ".join(f"{nodes.hostname_of(n)} ({nodes.address_of(n)}, {nodes.state_of(n)})" for n in found)
        raise RotationFailed(
            "rotating the root CA",
            came_back=f"nodes are down, and it would wait for them for ever: {names}",
            do_now="Bring them back; or put the former number of cluster.rotate.ca back, take them out of the declaration, "
            "run `up`, and then raise the number.",
        )


def _secret(swarm: Json, kind: str) -> str:
    return str(swarm["JoinTokens"][kind]).rpartition("-")[2]


def _digest(swarm: Json) -> str:
    return ca_digest36(swarm["TLSInfo"]["TrustRoot"])


def _force_rotate(swarm: Json) -> int:
    return int((swarm["Spec"].get("CAConfig") or {}).get("ForceRotate") or 0)


def _issuer(node: Json) -> Any:
    return ((node.get("Description") or {}).get("TLSInfo") or {}).get("CertIssuerPublicKey")
