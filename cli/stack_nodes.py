"""The nodes of a stack and the way to each: what settings declare, with the host keys and the swarm's id of its outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.host.target import Target
from proxmox_swarm.settings import Settings
from proxmox_swarm.settings.model import Node
from proxmox_swarm.swarm.status import DeclaredNode


@dataclass(frozen=True)
class StackNodes:
    """A stack that was brought up at least once. ``targets`` has the nodes whose host key is known.

    ``ids`` are the nodes' ids in the swarm, as far as they are recorded.
    """

    settings: Settings
    cluster_id: str
    targets: Mapping[str, Target]
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def managers(self) -> list[Target]:
        """The declared managers that can be reached."""
        return [self.targets[node.name] for node in self.settings.managers if node.name in self.targets]

    @property
    def declared(self) -> list[DeclaredNode]:
        """Every declared node."""
        return [self._declared(node) for node in self.settings.nodes.values()]

    def target(self, name: str) -> Target:
        """The way to one node. Raises CommandError for a name that is not declared, or has no known host key."""
        if name not in self.settings.nodes:
            known = ", ".join(self.settings.nodes)
            raise CommandError(f"stack {self.settings.stack} declares no node {name}; it has: {known}")
        if name not in self.targets:
            raise CommandError(f"{name} has no known host key yet: it is brought up by the next `up`")
        return self.targets[name]

    def data_path(self, name: str) -> str:
        """A node's address for overlay traffic where that is another one, else ""."""
        return self.settings.nodes[name].data_path_address(self.settings.cluster.data_path)

    def _declared(self, node: Node) -> DeclaredNode:
        return DeclaredNode(
            name=node.name,
            address=node.address,
            host=node.host,
            vm_id=node.vm_id,
            role=node.role,
            availability=node.availability,
            labels=dict(node.labels),
            target=self.targets.get(node.name),
            mounts=(node.data.mount,) if node.data is not None else (),
            adopted=node.adopted,
            node_id=self.ids.get(node.name, ""),
        )


def stack_nodes(stack: str, project: Path) -> StackNodes:
    """The nodes of a stack, in whichever backend the environment names. Raises CommandError."""
    settings = read_settings(project, stack)
    return of_outputs(settings, stack_here(stack, project).outputs())


def of_outputs(settings: Settings, outputs: Mapping[str, Any]) -> StackNodes:
    """The same from outputs that were read already. Raises CommandError where there is no cluster in them."""
    if "clusterId" not in outputs:
        raise CommandError(f"stack {settings.stack} has no cluster yet: run `up` first")
    ids = {node["name"]: node["id"] for node in outputs.get("nodes") or [] if node.get("id")}
    return StackNodes(settings, outputs["clusterId"], node_targets(settings, outputs), ids)


def node_targets(settings: Settings, outputs: Mapping[str, Any]) -> dict[str, Target]:
    """Each declared node's SSH address with the host key in the stack's outputs."""
    keys = outputs["sshHostKeys"]
    return {
        node.name: Target(node.name, node.address, settings.access.user, keys[node.name])
        for node in settings.nodes.values()
        if node.name in keys
    }


def stack_here(stack: str, project: Path) -> Stack:
    """A stack as this shell means it, with the Pulumi on its path, else with our own."""
    if shutil.which("pulumi"):
        return Stack(stack, project, os.environ)
    from proxmox_swarm.cli.repair import stack_here as with_our_tools

    return with_our_tools(stack, project)
