"""``proxmox-swarm unlock``: managers that wait for their key get it."""

from __future__ import annotations

from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.stack_nodes import of_outputs, stack_here
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.swarm import autolock

KEYS = ("unlockKey", "previousUnlockKey")


def unlock(stack: str, project: Path, key: str | None) -> list[str]:
    """Unlock every declared manager that is locked, with ``key`` or those in the stack's secret outputs; their names.

    Raises CommandError, SwarmLocked where no key fits.
    """
    if key == "":
        raise CommandError("no key came on standard input")
    outputs = stack_here(stack, project).outputs(secrets=key is None)
    nodes = of_outputs(read_settings(project, stack), outputs)
    keys = [str(outputs.get(name) or "") for name in KEYS] if key is None else [key]
    return autolock.unlock_managers(nodes.managers, nodes.cluster_id, keys)
