"""The table of nodes that ``up`` ends with, as the engines themselves see them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.host.connection import Target
from proxmox_swarm.host.errors import Failure
from proxmox_swarm.settings.model import Settings
from proxmox_swarm.swarm import hand_drain, inventory

#: Where nobody looks at a screen, lines are as long as they are.
UNBOUNDED = 1000


def print_cluster(stack: Stack, settings: Settings) -> None:
    """Ask a manager for the nodes, print them in declared order, then one line of verdict."""
    outputs = stack.outputs()
    targets = node_targets(settings, outputs)
    managers = [targets[node.name] for node in settings.managers]
    try:
        found = inventory.read_inventory(managers, outputs["clusterId"])
    except Failure as error:
        raise CommandError("the nodes could not be listed after `up`", str(error)) from None
    seen = {entry.address: entry for entry in found.nodes}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "ADDRESS", "HOST", "ROLE", "STATE", "LABELS"):
        table.add_column(column, no_wrap=column != "LABELS", overflow="fold")
    for node in settings.nodes.values():
        entry = seen.get(node.address)
        table.add_row(node.name, node.address, node.host, node.role, *(_told(entry) if entry else ("missing", "")))
    for entry in found.undeclared(node.address for node in settings.nodes.values()):
        state, labels = _told(entry)
        table.add_row(entry.hostname, entry.address, "?", entry.role, f"{state}, not declared", labels)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNBOUNDED
    console.print(table)
    console.print(
        f"swarm {found.cluster_id[:4]}  {found.quorum}      next: lab exec -- docker node ls | make preview | make down"
    )
    console.print(f"from any machine that reaches the nodes: {outputs['dockerContext']}")


def _told(entry: inventory.NodeEntry) -> tuple[str, str]:
    """State and labels of a node in words."""
    labels = dict(entry.labels)
    reason = labels.pop(hand_drain.LABEL, None)
    words = [entry.state, entry.availability if entry.availability != "active" else ""]
    words.append("leader" if entry.leader else entry.reachability)
    words.append("" if reason is None else f"by hand: {reason}")
    return " ".join(filter(None, words)), " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def node_targets(settings: Settings, outputs: dict[str, Any]) -> dict[str, Target]:
    """Each declared node's SSH address with the host key in the stack's outputs."""
    keys = outputs["sshHostKeys"]
    return {
        node.name: Target(node.name, node.address, settings.access.user, keys[node.name])
        for node in settings.nodes.values()
        if node.name in keys
    }
