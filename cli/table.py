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
from proxmox_swarm.swarm import inventory, quorum


def print_cluster(stack: Stack, settings: Settings) -> None:
    """Ask a manager for the nodes, print them in declared order, then one line of verdict."""
    outputs = stack.outputs()
    try:
        seen = {node.name: node for node in inventory.nodes(_managers(settings, outputs))}
    except Failure as error:
        raise CommandError("the nodes could not be listed after `up`", str(error)) from None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "ADDRESS", "HOST", "ROLE", "STATE", "LABELS"):
        table.add_column(column, no_wrap=column != "LABELS")
    for node in settings.nodes.values():
        found = seen.get(node.name)
        labels = " ".join(f"{key}={value}" for key, value in sorted(found.labels.items())) if found else ""
        table.add_row(node.name, node.address, node.host, node.role, found.summary if found else "missing", labels)
    for name in sorted(set(seen) - set(settings.nodes)):
        table.add_row(name, seen[name].address, "?", seen[name].role, f"{seen[name].summary}, not declared", "")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    managers = [node for node in seen.values() if node.role == "manager"]
    reachable = sum(1 for node in managers if node.reachable)
    console.print(
        f"swarm {outputs['clusterId'][:4]}  {reachable} of {len(managers)} managers reachable, can lose "
        f"{quorum.margin(len(managers), reachable)}      next: lab exec -- docker node ls | make preview | make down"
    )
    console.print(f"from any machine that reaches the nodes: {outputs['dockerContext']}")


def _managers(settings: Settings, outputs: dict[str, Any]) -> list[Target]:
    keys = outputs["sshHostKeys"]
    return [Target(node.name, node.address, settings.access.user, keys[node.name]) for node in settings.managers]
