"""``make down``: the lab's stack destroyed, the lab stopped, nothing left."""

from __future__ import annotations

from collections.abc import Callable

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.lab import Lab

STACK = "lab"


def down(lab: Lab, stack: str, say: Callable[[str], None]) -> None:
    """Destroy stack ``lab`` and stop the lab. Refused for any other stack, and while another has machines in the lab."""
    if stack != STACK:
        raise CommandError(
            f"`make down` works on stack `{STACK}` only, not on `{stack}`. If you mean it: `pulumi destroy -s {stack}`"
        )
    if not lab.exists():
        say("lab       there is none")
        return
    lab.up(say)  # destroying needs the API; starting it twice is harmless
    others = sorted({machine.stack for machine in lab.machines() if machine.stack != f"swarm-{STACK}"})
    if others:
        raise CommandError(
            f"other stacks still have machines in the lab: {', '.join(others)}. Destroy those first: "
            f"lab exec -- pulumi destroy -s {others[0].removeprefix('swarm-')}"
        )
    if lab.exec(["python", "-m", "proxmox_swarm.cli.destroy", STACK]) != 0:
        raise CommandError("the stack was not destroyed, so the lab is left running; see above")
    lab.down()
    say("lab       down; nothing of it runs or is mounted")
