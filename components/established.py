"""What stood at the end of the last ``up``: the stack asks its own last outputs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pulumi
import pulumi.runtime

OVERRIDE = "PROXMOX_SWARM_ESTABLISHED"


@dataclass(frozen=True)
class LastUp:
    """Whether there was a cluster, and the names of its nodes; None where that is not known."""

    established: bool
    nodes: frozenset[str] | None = None


async def last_up() -> LastUp:
    """What the last ``up`` ended with. ``PROXMOX_SWARM_ESTABLISHED=0`` or ``1`` says instead whether there is a cluster.

    What was last found besides the declaration, such as a drain by hand or a member nobody declared, is said as a warning.
    """
    override = os.environ.get(OVERRIDE)
    if override is not None:
        return LastUp(override not in ("", "0", "false"))
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    # Not a StackReference: that is a resource, and every change of an output would show as its drift in a refresh.
    outputs = (await pulumi.runtime.invoke_async("pulumi:pulumi:readStackOutputs", {"name": name})).get("outputs") or {}
    for node in outputs.get("nodes") or []:
        if detail := node.get("detail"):
            pulumi.log.warn(f"{node['name']}: {detail}")
    for node in outputs.get("undeclared") or []:
        pulumi.log.warn(
            f"{node['hostname']} ({node['address']}, id {node['id']}) is in the swarm, and nobody declared it"
        )
    nodes = outputs.get("nodes")
    return LastUp(bool(outputs.get("clusterId")), nodes and frozenset(node["name"] for node in nodes))
