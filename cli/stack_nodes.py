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
class RecordedManager:
    """A manager as the last `up` that ended has left it, whatever settings say since. ``vm_id`` None: no machine of ours."""

    target: Target
    vm_id: int | None


@dataclass(frozen=True)
class StackNodes:
    """A stack that was brought up at least once. ``targets`` has the nodes whose host key is known.

    ``ids`` are the nodes' ids in the swarm, as far as they are recorded; ``recorded`` are the managers as they are.
    """

    settings: Settings
    cluster_id: str
    targets: Mapping[str, Target]
    ids: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[RecordedManager, ...] = ()

    @property
    def managers(self) -> list[Target]:
        """The declared managers that can be reached."""
        return [self.targets[node.name] for node in self.settings.managers if node.name in self.targets]

    @property
    def all_managers(self) -> list[Target]:
        """Every place where a manager may be at work: the declared ones, then recorded ones that are not declared there.

        One that no `up` has brought up has no host key.
        """
        user = self.settings.access.user
        places = [self.targets.get(n.name, Target(n.name, n.address, user, "")) for n in self.settings.managers]
        known = {(place.node, place.address) for place in places}
        return places + [r.target for r in self.recorded if (r.target.node, r.target.address) not in known]

    @property
    def manager_machines(self) -> list[tuple[str, int]]:
        """Name and VM id of every machine that a manager may be at work on: the recorded ones first, each once."""
        recorded = [(manager.target.node, manager.vm_id) for manager in self.recorded if manager.vm_id is not None]
        return list(dict.fromkeys([*recorded, *((node.name, node.vm_id) for node in self.settings.managers)]))

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

    def data_path(self, target: Target) -> str:
        """A node's address for overlay traffic where that is another one, else "".

        Raises CommandError where overlay traffic has a network of its own and the node is not declared at its address.
        """
        network = self.settings.cluster.data_path
        node = self.settings.nodes.get(target.node)
        if node is not None and node.address == target.address:
            return node.data_path_address(network)
        if any(other.data_path_address(network) for other in self.settings.nodes.values()):
            raise CommandError(
                f"{target} is not declared there any more, and overlay traffic goes by addresses that only the declaration "
                f"tells. Nothing was changed: put the node back in Pulumi.{self.settings.stack}.yaml as it was, run again"
            )
        return ""

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
    keys = outputs["sshHostKeys"]
    recorded = tuple(
        RecordedManager(
            Target(node["name"], node["address"], settings.access.user, keys.get(node["name"], "")), node["vmId"]
        )
        for node in outputs.get("nodes") or []
        if node["role"] == "manager"
    )
    return StackNodes(settings, outputs["clusterId"], node_targets(settings, outputs), ids, recorded)


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
