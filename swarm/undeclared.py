"""Members of a swarm that nobody declared: found by their address, and taken out where a policy says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.drain import drain
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.removal import drop_node
from proxmox_swarm.swarm.retry import persist

PATIENCE = 20.0


def find(
    managers: Sequence[Target],
    cluster_id: str,
    addresses: Collection[str],
    members: Collection[str] = (),
    *,
    access: Access = SSH,
) -> list[dict[str, str]] | None:
    """The nodes at none of the declared ``addresses`` with none of the ids in ``members``; None when no manager answers.

    Each has ``id``, ``hostname``, ``address`` and ``role``. What an earlier machine left at a declared address is no part
    of it: that member's own verdict tells of it.
    """
    limit = Deadline.after(PATIENCE, access.clock)
    try:
        engine = find_manager(access, managers, cluster_id, limit).engine
        everyone = persist(engine.nodes, limit)
    except Failure:
        return None
    found = [
        {
            "id": str(node["ID"]),
            "hostname": nodes.hostname_of(node),
            "address": nodes.address_of(node),
            "role": nodes.role_of(node),
        }
        for node in everyone
        if _is_foreign(node, addresses, members)
    ]
    return sorted(found, key=lambda node: (node["hostname"], node["id"]))


def remove(
    managers: Sequence[Target],
    cluster_id: str,
    ids: Iterable[str],
    addresses: Collection[str],
    members: Collection[str] = (),
    *,
    drain_timeout: float,
    role_timeout: float,
    access: Access = SSH,
) -> list[str]:
    """Drain, demote and remove these nodes, one after the other, as far as they are there and still nobody's.

    Their machines cannot be reached from here: an engine that runs there goes on believing that it is a member, and
    nothing is scheduled on it any more. Returns what was removed, in words. Raises QuorumAtRisk, DrainTimeout, NoManager,
    RoleTimeout, EngineError, LockBusy.
    """
    removed = []
    for node_id in ids:
        limit = Deadline.after(role_timeout, access.clock)
        manager = find_manager(access, managers, cluster_id, limit, avoid=node_id)
        node = nodes.get(manager.engine, node_id, limit)
        if node is None or not _is_foreign(node, addresses, members):
            continue
        name = f"{nodes.hostname_of(node)} ({nodes.address_of(node)}, id {node_id})"
        if nodes.is_ready(node):
            drain(access, manager.engine, node, name, cluster_id, drain_timeout)
        drop_node(access, managers, node, cluster_id, role_timeout, surely_dead=False)
        removed.append(name)
    return removed


def _is_foreign(node: Json, addresses: Collection[str], members: Collection[str]) -> bool:
    # A node whose address the swarm does not know could be anybody's.
    address = nodes.address_of(node)
    return bool(address) and address not in addresses and node["ID"] not in members
