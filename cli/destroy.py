"""Destroy one stack from inside the lab: end leftovers of a killed run first, clear what it never finished, destroy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxmox_swarm.cli import away, leftovers
from proxmox_swarm.cli.converge import alone, refresh
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack, around_lost_endpoint
from proxmox_swarm.cli.stack_settings import read_settings


def destroy(stack: Stack, run: Path, say: Callable[[str], None]) -> None:
    """Remove everything the stack made. ``run`` is a private folder, the same as for `up`.

    Raises CommandError, ProxmoxError.
    """
    with alone(run):
        record = run / "session"
        leftovers.end_session(record)
        if not stack.exists():
            return
        leftovers.release_lock(stack)
        state = stack.deployment()
        if leftovers.unfinished(state):
            settings = read_settings(stack.project, stack.name)
            refresh(stack, state, settings, say, away.find(settings, state, declared=False), record=record)
        command = stack.command("destroy", "--yes", "--skip-preview", *around_lost_endpoint(state))
        with leftovers.session(record, command, stack) as process:
            process.wait()
        if process.returncode != 0:
            raise CommandError(f"pulumi destroy of stack {stack.name} failed{_why(stack)}")


def _why(stack: Stack) -> str:
    """What of the stack cannot be destroyed because its host is away; "" where that is not it."""
    left = away.find(read_settings(stack.project, stack.name), stack.deployment(), declared=False)
    if not left.nodes:
        return ""
    return f": {left} cannot be destroyed. Bring the host back (`lab fault clear`); `lab down --purge` deletes all there is"
