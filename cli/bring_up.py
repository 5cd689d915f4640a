"""``make up``: prerequisites, tools, image, lab, and then the stack."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from proxmox_swarm import toolchain
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.lab import Lab, image, prerequisites


def prepare(say: Callable[[str], None]) -> None:
    """What the lab needs of this machine, built or installed where it is absent: packages, Pulumi, the machine image."""
    if prerequisites.missing():
        prerequisites.install(say)
    toolchain.ensure(say)
    image.ensure(say)


def bring_up(stack: str, project: Path, say: Callable[[str], None]) -> None:
    """From a fresh Debian or Ubuntu machine to a running stack in the lab. Can be run again after a kill at any point."""
    if stack == "prod":
        raise CommandError(
            "`make up` brings stacks up in the lab. For production run `pulumi up -s prod`; docs/first-cluster-on-proxmox.md"
        )
    started = time.monotonic()
    prepare(say)
    lab = Lab()
    lab.up(say)
    code = subprocess.run(
        lab.command(["proxmox-swarm", "converge", "--stack", stack]), cwd=project, env=lab.environment(), check=False
    ).returncode
    if code != 0:
        raise CommandError(f"stack {stack} is not up (after {time.monotonic() - started:.0f} s)")
