"""``make down``: the lab's stack destroyed, the lab stopped, nothing left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.lab import Lab

STACK = "lab"
MARKER = "swarm-lab"


def down(lab: Lab, stack: str, project: Path, say: Callable[[str], None]) -> None:
    """Destroy stack ``lab`` and stop the lab. Refused for any other stack, and while another has machines in the lab."""
    if stack != STACK:
        raise CommandError(
            f"`make down` works on stack `{STACK}` only, not on `{stack}`. If you mean it: `pulumi destroy -s {stack}`"
        )
    if not lab.paths.state.exists():
        say("lab       there is none")
        return
    lab.up(say)  # destroying needs the API; starting it twice is harmless
    machines = lab.status()["machines"]
    others = sorted({tag for machine in machines for tag in _markers(machine)} - {MARKER})
    if others:
        raise CommandError(
            f"other stacks still have machines in the lab: {', '.join(others)}. Destroy those first: "
            f"lab exec -- pulumi destroy -s {others[0].removeprefix('swarm-')}"
        )
    strangers = [f"{machine['vmid']} '{machine['name']}'" for machine in machines if not _markers(machine)]
    if strangers:
        raise CommandError(
            f"machines of no stack are in the lab: {', '.join(strangers)}. Remove them first; "
            "`lab down --purge` ends the lab with all that is in it"
        )
    command = ["proxmox-swarm", "destroy", "--stack", STACK]
    if subprocess.run(lab.command(command), cwd=project, env=lab.environment(), check=False).returncode != 0:
        raise CommandError("the stack was not destroyed, so the lab is left running; see above")
    lab.down()
    say("lab       down; nothing of it runs or is mounted")


def _markers(machine: dict[str, Any]) -> list[str]:
    return [tag for tag in (machine["tags"] or "").split(";") if tag]
