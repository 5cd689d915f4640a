"""The swarm's own list of nodes, for status and outputs, and the members in it that nobody declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.quorum import Quorum


@dataclass(frozen=True)
class NodeEntry:
    """One node as the swarm has it. ``reachability`` is empty for workers."""

    node_id: str
    hostname: str
    address: str
    role: str
    availability: str
    state: str
    reachability: str
    leader: bool
    engine_version: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Inventory:
    """All nodes of a swarm and the state of its quorum."""

    cluster_id: str
    quorum: Quorum
    nodes: tuple[NodeEntry, ...]


def read_inventory(
    managers: Sequence[Target], cluster_id: str, *, patience: float = 10, access: Access = SSH
) -> Inventory:
    """The nodes, sorted by host name, from any manager that answers. Raises NoManager, EngineError."""
    limit = Deadline.after(patience, access.clock)
    manager = find_manager(access, managers, cluster_id, limit)
    return inventory_of(cluster_id, nodes.everyone(manager.engine, limit))


def out_of_reach(managers: Sequence[Target], cluster_id: str, *, access: Access = SSH) -> list[str]:
    """The names of those of ``managers`` that the leader does not reach, or that are in raft no more; [] if nobody tells."""
    try:
        found = read_inventory(managers, cluster_id, access=access)
    except Failure:
        return []
    reached = {node.address for node in found.nodes if node.reachability == "reachable"}
    return [target.node for target in managers if target.address not in reached]


def inventory_of(cluster_id: str, found: Sequence[Json]) -> Inventory:
    """The same from ``GET /nodes``."""
    entries = [
        NodeEntry(
            node_id=node["ID"],
            hostname=nodes.hostname_of(node),
            address=nodes.address_of(node),
            role=nodes.role_of(node),
            availability=nodes.availability_of(node),
            state=nodes.state_of(node),
            reachability=(node.get("ManagerStatus") or {}).get("Reachability") or "",
            leader=bool((node.get("ManagerStatus") or {}).get("Leader")),
            engine_version=((node.get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "",
            labels=nodes.labels_of(node),
        )
        for node in found
    ]
    return Inventory(cluster_id, nodes.quorum_of(found), tuple(sorted(entries, key=lambda n: n.hostname)))
