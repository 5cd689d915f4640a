"""A swarm as it is, told by one of its managers: what has to be declared of one that was made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import hand_drain, nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.errors import SwarmError
from proxmox_swarm.swarm.local import local_swarm
from proxmox_swarm.swarm.retry import persist

PATIENCE = 30.0


@dataclass(frozen=True)
class FoundNode:
    """One member. ``address`` is the one it advertises."""

    name: str
    address: str
    role: str
    availability: str
    labels: Mapping[str, str]
    state: str


@dataclass(frozen=True)
class FoundSwarm:
    """A swarm, what it was initialised with, whether its managers lock themselves, and its members by name."""

    cluster_id: str
    address_pool: tuple[str, ...]
    subnet_size: int
    data_path_port: int
    autolock: bool
    nodes: tuple[FoundNode, ...]


def read_swarm(manager: Target, *, access: Access = SSH) -> FoundSwarm:
    """Ask a manager. Raises SwarmError where it is none, EngineError, HostError."""
    limit = Deadline.after(PATIENCE, access.clock)
    engine = access.engine(manager)
    local = local_swarm(engine.info())
    if local.state != "active" or not local.control:
        raise SwarmError(
            "reading the swarm",
            where=str(manager),
            came_back=f"its engine is no manager that works: {local.state} {local.error}".strip(),
            do_now=f"Ask one of its managers: {', '.join(local.managers) or '`docker info` on any node names them'}.",
        )
    swarm = persist(engine.swarm_inspect, limit)
    found = [
        FoundNode(
            name=nodes.hostname_of(node),
            address=nodes.address_of(node),
            role=nodes.role_of(node),
            availability=nodes.availability_of(node),
            labels={key: value for key, value in sorted(nodes.labels_of(node).items()) if key != hand_drain.LABEL},
            state=nodes.state_of(node),
        )
        for node in persist(engine.nodes, limit)
    ]
    return FoundSwarm(
        cluster_id=swarm["ID"],
        address_pool=tuple(swarm.get("DefaultAddrPool") or ()),
        subnet_size=int(swarm.get("SubnetSize") or 24),
        data_path_port=int(swarm.get("DataPathPort") or 4789),
        autolock=bool((swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers")),
        nodes=tuple(sorted(found, key=lambda node: node.name)),
    )
