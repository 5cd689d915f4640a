"""``proxmox-swarm around``: Pulumi on one stack, around Proxmox VE hosts that are away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from proxmox_swarm.cli import away
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack, around_lost_endpoint
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.cli.state_copy import changed_copy

COMMANDS = ("preview", "refresh", "up")
#: Options that make any of them refresh.
REFRESH = {"--refresh", "-r", "--refresh=true"}


def around(stack: Stack, words: Sequence[str], say: Callable[[str], None]) -> int:
    """Run ``pulumi preview``, ``refresh`` or ``up`` with further options, leaving alone what is on hosts that are away.

    Returns Pulumi's exit status. Raises CommandError when the settings ask for something that cannot be done meanwhile.
    """
    command, *options = words or [""]
    if command not in COMMANDS:
        raise CommandError(f"say which of {', '.join(COMMANDS)} Pulumi is to do, and its options after that")
    settings = read_settings(stack.project, stack.name)
    # Reading the state takes a second: where every host is there, a preview needs nothing of it.
    needed = command != "preview" or away.hosts_away(settings, settings.proxmox.hosts)
    state = stack.deployment() if needed else {}
    left = away.find(settings, state) if needed else away.Away()
    if command != "refresh":
        away.require_possible(settings, state, left)
    if left.nodes:
        say(f"{left}; left alone")
    more = around_lost_endpoint(state) if command == "refresh" or REFRESH.intersection(options) else []

    def change(deployment: dict[str, Any]) -> bool:
        return away.without_order(deployment, left)

    if left.nodes and command == "up":
        stack.edit(change)
    with changed_copy(stack, change) if left.nodes and command == "preview" else nullcontext(stack) as used:
        line = ["pulumi", command, "--stack", stack.name, *left.options, *more, *options]
        return subprocess.run(line, cwd=used.project, env=used.environment, check=False).returncode
