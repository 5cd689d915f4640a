"""Commands that talk to nodes run where those can be reached: for the lab's own stack they go there by themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.lab import Lab

STACK = "lab"


def enter_lab(stack: str) -> None:
    """Start this command anew inside the lab's network, as ``lab exec`` would, unless it runs there already.

    Other stacks are reached from where the command was started; for one that lives in the lab too, that is
    ``lab exec -- proxmox-swarm …``. Raises CommandError when the lab does not run.
    """
    if stack != STACK:
        return
    lab = Lab()
    try:
        running = lab.running()
    except OSError as error:
        raise CommandError(f"the lab in {lab.paths.root} belongs to root: use sudo", str(error)) from None
    if not running:
        raise CommandError("the lab is not running, and its stack lives in it. Run `make up` first")
    if lab.entered():
        return
    program = str(Path(sys.argv[0]).absolute())
    command = lab.command([program, *sys.argv[1:]])
    sys.stdout.flush()
    os.execvpe(command[0], command, lab.environment())  # noqa: S606 - no shell
