"""How nodes are printed: one table, after ``up`` as in ``status``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.inside import STACK
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_nodes import of_outputs
from proxmox_swarm.settings.model import Settings
from proxmox_swarm.swarm import hand_drain
from proxmox_swarm.swarm.look import look
from proxmox_swarm.swarm.status import GIB, NodeStatus, Status

#: Where nobody looks at a screen, lines are as long as they are.
UNBOUNDED = 1000
WORDS = {"whole": "WHOLE", "degraded": "DEGRADED", "no-quorum": "NO QUORUM"}


def print_cluster(stack: Stack, settings: Settings) -> None:
    """Ask a manager for the nodes, print them in declared order, then one line of verdict. Raises CommandError."""
    outputs = stack.outputs()
    nodes = of_outputs(settings, outputs)
    found = look(nodes.declared, nodes.cluster_id, hosts=False)
    if found.quorum is None:
        raise CommandError("the nodes could not be listed after `up`", found.why)
    out = console()
    out.print(nodes_table(found.nodes))
    out.print(verdict_line(found))
    look_again = "proxmox-swarm status"
    if stack.name != STACK:
        look_again = f"lab exec -- {look_again} --stack {stack.name}"
    out.print(f"next: {look_again} | lab exec -- docker node ls | make preview | make down")
    out.print(f"from any machine that reaches the nodes: {outputs['dockerContext']}")


def console() -> Console:
    """Where people read; lines are not broken for a program that does."""
    made = Console(highlight=False, soft_wrap=True, markup=False)
    if not made.is_terminal:
        made.width = UNBOUNDED
    return made


def verdict_line(status: Status) -> str:
    """The verdict with its reasons in numbers."""
    return f"{WORDS[status.verdict]}  swarm {status.cluster_id[:4]}: {status.summary}"


def nodes_table(nodes: Sequence[NodeStatus], *, hosts: bool = False) -> Table:
    """The nodes as they are; with what their ``hosts`` told of themselves, if they were asked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["NODE", "ADDRESS", "HOST", "ROLE", "STATE", *(["CERT", "FREE"] if hosts else []), "LABELS"]
    for column in columns:
        table.add_column(column, no_wrap=column != "LABELS", overflow="fold")
    for node in nodes:
        labels = " ".join(f"{key}={value}" for key, value in sorted(node.labels.items()) if key != hand_drain.LABEL)
        host = node.declared.host if node.declared is not None else "?"
        told = [_certificate(node), _room(node)] if hosts else []
        table.add_row(node.name, node.address, host, node.role, node.state, *told, labels)
    return table


def _certificate(node: NodeStatus) -> str:
    """The time a certificate has left."""
    if node.certificate is None:
        return "?"
    return f"{node.certificate.left / 86400:.0f} d" if not node.certificate.expired else "EXPIRED"


def _room(node: NodeStatus) -> str:
    """The disk with the least room."""
    disks = [disk for disk in node.disks if disk.mounted and disk.size]
    if not disks:
        return "?"
    least = min(disks, key=lambda disk: disk.free / disk.size)
    return f"{least.free / GIB:.0f} GiB ({100 * least.free / least.size:.0f} %) {least.path}"
