"""``proxmox-swarm drain`` and ``undrain``: run where the nodes can be reached, for the lab inside ``lab exec``."""

from __future__ import annotations

import os
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.cli.table import node_targets
from proxmox_swarm.host.target import Target
from proxmox_swarm.settings import Settings
from proxmox_swarm.swarm import hand_drain


def drain(stack: str, project: Path, node: str, reason: str) -> None:
    """Drain a declared node by hand and wait for its tasks. Raises CommandError, Failure."""
    if not reason.strip():
        raise CommandError("say why, for whoever meets it at night: --reason 'new power supply'")
    settings, managers, target, cluster_id = _found(stack, project, node)
    hand_drain.drain(managers, cluster_id, target, reason.strip(), timeout=settings.deadlines.drain)


def undrain(stack: str, project: Path, node: str) -> str | None:
    """Give a node its declared availability again; the reason it was drained for, None if it was not."""
    settings, managers, target, cluster_id = _found(stack, project, node)
    return hand_drain.undrain(managers, cluster_id, target, settings.nodes[node].availability)


def _found(stack: str, project: Path, node: str) -> tuple[Settings, list[Target], Target, str]:
    settings = read_settings(project, stack)
    if node not in settings.nodes:
        raise CommandError(f"stack {stack} declares no node {node}; it has: {', '.join(settings.nodes)}")
    outputs = Stack(stack, project, os.environ).outputs()
    if "clusterId" not in outputs:
        raise CommandError(f"stack {stack} has no cluster yet: run `up` first")
    targets = node_targets(settings, outputs)
    managers = [targets[manager.name] for manager in settings.managers]
    return settings, managers, targets[node], outputs["clusterId"]
