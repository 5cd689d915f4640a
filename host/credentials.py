"""How this operator logs in: from the environment alone, so that no key path or jump host is ever part of a resource.

``PROXMOX_SWARM_SSH_KEY``   path of a private key file without passphrase; else
``SSH_AUTH_SOCK``           an agent, and besides it the usual files ``~/.ssh/id_ed25519``, …
``PROXMOX_SWARM_SSH_JUMP``  ``user@host[:port]`` to go through; its host key must be in ``~/.ssh/known_hosts``
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from proxmox_swarm.host.errors import AuthenticationFailed

KEY_VARIABLE = "PROXMOX_SWARM_SSH_KEY"
JUMP_VARIABLE = "PROXMOX_SWARM_SSH_JUMP"
_JUMP = re.compile(r"(?P<user>[^@\s]+)@(?:\[(?P<v6>[0-9a-fA-F:]+)\]|(?P<host>[^:\s\[\]]+))(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Jump:
    """A host to go through."""

    user: str
    host: str
    port: int


def jump_host() -> Jump | None:
    """The jump host of the environment, if any. Raises AuthenticationFailed when it is not written user@host[:port]."""
    text = os.environ.get(JUMP_VARIABLE, "").strip()
    if not text:
        return None
    match = _JUMP.fullmatch(text)
    if match is None:
        raise AuthenticationFailed(
            f"reading {JUMP_VARIABLE}", came_back=f"{text!r} is not user@host[:port]", do_now="Correct it or unset it."
        )
    return Jump(match["user"], match["v6"] or match["host"], int(match["port"] or 22))


def known_hosts() -> Path:
    """The operator's own list of host keys, used for the jump host and for managers that no setting declares."""
    return Path.home() / ".ssh" / "known_hosts"


def login_options() -> dict[str, Any]:
    """asyncssh's options for the keys to log in with. Raises AuthenticationFailed when the named key cannot be read."""
    path = os.environ.get(KEY_VARIABLE, "").strip()
    if path:
        try:
            key = asyncssh.read_private_key(Path(path).expanduser())
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise AuthenticationFailed(
                f"reading the private key that {KEY_VARIABLE} names ({path})",
                came_back=str(error),
                do_now="Name a private key file without passphrase, or unset the variable and use ssh-agent.",
            ) from error
        return {"client_keys": [key], "agent_path": None}
    return {}
