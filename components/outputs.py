"""What a stack says about itself, for people and for other projects. Names are stable; secret are the unlock keys alone."""

from __future__ import annotations

from typing import Any

import pulumi

from proxmox_swarm.components.swarm_cluster import SwarmCluster
from proxmox_swarm.settings.model import Node


def outputs(cluster: SwarmCluster) -> dict[str, Any]:
    """The stack outputs; docs/outputs.md describes each."""
    settings = cluster.settings
    return {
        "clusterId": cluster.cluster.cluster_id,
        "caDigest": cluster.ca.ca_digest,
        "managerAddresses": [node.address for node in settings.managers],
        "ingressAddresses": [node.address for node in settings.nodes.values()],
        "nodes": [_node(cluster, node) for node in settings.nodes.values()],
        "undeclared": cluster.undeclared.nodes,
        "sshUser": settings.access.user,
        "sshHostKeys": cluster.host_keys,
        "sshKnownHosts": [
            pulumi.Output.concat(node.address, " ", cluster.host_keys[node.name]) for node in settings.nodes.values()
        ],
        "unlockKey": pulumi.Output.secret(cluster.autolock.key),
        "previousUnlockKey": pulumi.Output.secret(cluster.autolock.previous_key),
        "dockerContext": f"docker context create {settings.marker} "
        f"--docker host=ssh://{settings.access.user}@{settings.managers[0].address}",
    }


def _node(cluster: SwarmCluster, node: Node) -> dict[str, Any]:
    member = cluster.members[node.name]
    return {
        "name": node.name,
        "id": member.node_id,
        "role": member.role,
        "availability": member.availability,
        "address": node.address,
        "host": node.host,
        "pool": node.pool,
        "vmId": node.vm_id,
        "labels": member.labels,
        "verdict": member.verdict,
        "detail": member.detail,
    }
