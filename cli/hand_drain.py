"""``proxmox-swarm drain`` and ``undrain``: run where the nodes can be reached, for the lab inside ``lab exec``."""

from __future__ import annotations

from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.stack_nodes import stack_nodes
from proxmox_swarm.swarm import hand_drain


def drain(stack: str, project: Path, node: str, reason: str) -> None:
    """Drain a declared node by hand and wait for its tasks. Raises CommandError, Failure."""
    if not reason.strip():
        raise CommandError("say why, for whoever meets it at night: --reason 'new power supply'")
    nodes = stack_nodes(stack, project)
    timeout = nodes.settings.deadlines.drain
    hand_drain.drain(nodes.managers, nodes.cluster_id, nodes.target(node), reason.strip(), timeout=timeout)


def undrain(stack: str, project: Path, node: str) -> str | None:
    """Give a node its declared availability again; the reason it was drained for, None if it was not."""
    nodes = stack_nodes(stack, project)
    target = nodes.target(node)
    return hand_drain.undrain(nodes.managers, nodes.cluster_id, target, nodes.settings.nodes[node].availability)
