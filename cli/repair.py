"""After a `pulumi up` that was killed, outside of the lab: what it left behind is cleared, so that the next one can go on.

In the lab ``make up`` does this by itself. The same steps, for any stack and any backend that the environment names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from proxmox_swarm import toolchain
from proxmox_swarm.cli import away, leftovers
from proxmox_swarm.cli.converge import refresh
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.progress import line
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_settings import read_settings


def stack_here(name: str, project: Path) -> Stack:
    """A stack as this shell means it, with our own tools on the path. Raises CommandError when they are not here."""
    tools = toolchain.locate()
    if tools is None:
        raise CommandError("Pulumi and its plugins are not here yet. Run `make toolchain`")
    tools.link_plugins(Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi"))
    return Stack(name, project, {**os.environ, **tools.env()})


def repair(stack: Stack, say: Callable[[str], None], *, cancelled: bool) -> None:
    """Release the lock of a dead run, end what it left working, remove half-made machines, clear what was pending.

    Nothing is touched while the lock's owner lives. In a backend of files that can be seen; for any other a person has to
    say so, by ``pulumi cancel`` and ``cancelled``. Can be run again after a kill at any point. Raises CommandError,
    ProxmoxError.
    """
    if stack.name == "lab":
        raise CommandError("`make up` does this by itself for the lab")
    settings = read_settings(stack.project, stack.name)
    folder = stack.state_folder()
    if folder is not None:
        if not (folder / ".pulumi").is_dir():
            raise CommandError(f"there is no Pulumi state in {folder}: look at PULUMI_BACKEND_URL")
        if leftovers.release_lock(stack):
            say(line("lock", "released: the process that held it is dead", 0))
    elif not cancelled:
        raise CommandError(
            f"the state of stack {stack.name} is in {stack.backend().partition(':')[0]}, where nobody can see from here "
            f"whether a lock's owner is dead. Make sure that no run works on it, then: `pulumi cancel {stack.name}`, "
            f"`proxmox-swarm repair --stack {stack.name} --cancelled`"
        )
    started = time.monotonic()
    ended = leftovers.end_orphans(stack.project)
    if ended:
        say(line("processes", f"of the killed run ended: {', '.join(map(str, ended))}", time.monotonic() - started))
    state = stack.deployment()
    left = away.find(settings, state, declared=False)
    if left.nodes:
        say(f"{'away':<9} {left}; left alone")
    refresh(stack, state, settings, say, left)
    say(f"next: pulumi up -s {stack.name}")
