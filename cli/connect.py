"""``proxmox-swarm connect``: OpenSSH to a node by its declared name, known by the stack's pinned host key alone."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.stack_nodes import stack_nodes
from proxmox_swarm.host.credentials import JUMP_VARIABLE, KEY_VARIABLE
from proxmox_swarm.host.target import Target


def connect(stack: str, project: Path, node: str, command: Sequence[str]) -> NoReturn:
    """Become ``ssh`` to a declared node; it ends with the status of ``command``. Raises CommandError."""
    target = stack_nodes(stack, project).target(node)
    words = ssh_command(target, command, os.environ, terminal=sys.stdin.isatty() and sys.stdout.isatty())
    sys.stdout.flush()
    try:
        os.execvp(words[0], words)  # noqa: S606 - no shell
    except OSError as error:
        raise CommandError("`ssh` (OpenSSH, 8.5 or newer) is needed here", str(error)) from None


def ssh_command(target: Target, command: Sequence[str], environment: Mapping[str, str], *, terminal: bool) -> list[str]:
    """The command line. ``command`` arrives on the node word for word, as it was given here."""
    words = [
        "ssh",
        # The pinned key comes from the stack's outputs, whatever known_hosts holds; nothing is written anywhere.
        *("-o", f"HostKeyAlias={target.node}"),
        *("-o", f"KnownHostsCommand=/bin/echo {target.node} {target.host_key}"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"),
    ]
    if key := environment.get(KEY_VARIABLE, "").strip():
        words += ["-i", str(Path(key).expanduser()), "-o", "IdentitiesOnly=yes"]
    if jump := environment.get(JUMP_VARIABLE, "").strip():
        words += ["-J", jump]
    if command and terminal:
        words.append("-t")  # a program that asks something, as `docker swarm unlock` does, can be answered
    words += ["-p", str(target.port), f"{target.user}@{target.address}"]
    return [*words, *(["--", shlex.join(command)] if command else [])]
