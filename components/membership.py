"""What managers and workers have in common: how a declared node becomes a ``Member`` resource."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pulumi

from proxmox_swarm.providers.cluster import Cluster
from proxmox_swarm.providers.member import Member
from proxmox_swarm.settings.model import Node, Settings

#: Component types a member may hang under. A URN holds its parent's type, so a node that moves between them is aliased.
PARENTS = ("swarm:index:ManagerQuorum", "swarm:index:WorkerPool")


@dataclass(frozen=True)
class NodeArgs:
    """One node, the host key it presents, its machine's id, and the managers it can reach."""

    settings: Settings
    node: Node
    host_key: pulumi.Input[str]
    machine: pulumi.Output[str]
    managers: list[dict[str, pulumi.Input[str]]]


def make_member(
    args: NodeArgs, parent: pulumi.ComponentResource, cluster: Cluster, after: Sequence[pulumi.Resource]
) -> Member:
    """A member under its quorum or pool. Destroying the cluster skips it; removing the node alone does not."""
    settings, node = args.settings, args.node
    return Member(
        node.name,
        node=node.name,
        address=node.address,
        user=settings.access.user,
        host_key=args.host_key,
        managers=args.managers,
        cluster_id=cluster.cluster_id,
        role=node.role,
        availability=node.availability,
        labels=dict(node.labels),
        machine=args.machine,
        hardware=_hardware(node),
        data_path_port=settings.cluster.data_path_port,
        data_path=node.data_path_address(settings.cluster.data_path),
        deadlines=asdict(settings.deadlines),
        proxmox=machine_api(settings, node),
        adopted=node.adopted,
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=list(after),
            deleted_with=cluster,
            delete_before_replace=True,
            aliases=[pulumi.Alias(parent=urn) for urn in _other_parents(node)],
        ),
    )


def _hardware(node: Node) -> dict[str, Any]:
    """What a machine takes over at its next start only; of an adopted one, what is not left as it was found."""
    sizes = {"cpu": node.cpu, "memory": node.memory}
    if node.adopted:
        return sizes
    return {
        **sizes,
        "boot": node.boot,
        "gateways": [nic.gateway or "" for nic in node.nics],
        "mtus": [nic.mtu or 0 for nic in node.nics],
    }


def machine_api(settings: Settings, node: Node) -> dict[str, Any]:
    """Where a node's machine is found in Proxmox VE, for what switches it off and on."""
    return {
        "endpoints": list(settings.proxmox.endpoints),
        "insecure": settings.proxmox.insecure,
        "vm_id": node.vm_id,
    }


def _other_parents(node: Node) -> list[str]:
    mine = PARENTS[0] if node.role == "manager" else PARENTS[1]
    prefix = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::swarm:index:SwarmCluster"
    return [f"{prefix}${other}::any" for other in PARENTS if other != mine]
