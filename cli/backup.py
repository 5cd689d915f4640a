"""``proxmox-swarm backup``: raft's state in a private file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.stack_nodes import StackNodes, stack_nodes
from proxmox_swarm.swarm import backup
from proxmox_swarm.swarm.backup_file import write_backup

Say = Callable[[str], None]


def take_backup(stack: str, project: Path, to: Path | None, node: str, *, stop_decisions: bool, say: Say) -> None:
    """Take a backup and write it to a private file. Raises CommandError, Failure.

    A file that is there already is refused before anything is stopped.
    """
    if to is not None and to.exists():
        raise CommandError(f"{to} is there already, and no backup is overwritten: name another file. Nothing was done")
    nodes = stack_nodes(stack, project)
    managers = [target.node for target in nodes.managers]
    if node and node not in managers:
        raise CommandError(f"{node} is no declared manager; those are {', '.join(managers)}")
    deadlines = nodes.settings.deadlines
    taken = backup.take(
        nodes.managers,
        nodes.cluster_id,
        node=node,
        stop_decisions=stop_decisions,
        drain_timeout=deadlines.drain,
        back_timeout=deadlines.boot,
    )
    manifest = taken.manifest
    file = write_backup(to or default_file(nodes, manifest.node), manifest, taken.content)
    say(f"backup    {file}")
    say(f"of        {manifest.node}, {told(manifest.contents)}; dockerd was away there for {taken.down:.0f} s")
    say("          It holds the swarm's private keys and the values of its secrets: keep it as you keep those.")
    if manifest.autolock:
        say("          The managers are locked: without today's unlock key it is of no use. Keep both, apart.")


def default_file(nodes: StackNodes, node: str) -> Path:
    """Where a backup of a node goes when nobody says."""
    return Path.cwd() / f"swarm-{nodes.settings.stack}-{node}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.backup"


def told(contents: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{count} {kind}" for kind, count in contents.items()) or "contents not counted"
