"""The first boot of a machine: the smallest cloud-init user-data that makes it reachable, and its host key.

Everything else is a day-two setting, because user-data cannot change without replacing the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncssh
import yaml

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import CommandFailed

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
INSTALL_AGENT = """\
command -v qemu-ga >/dev/null && exit 0
for attempt in 1 2 3 4 5; do
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends qemu-guest-agent && break
  sleep 10
done
systemctl start qemu-guest-agent
"""
#: Writes a file ($0) with its text ($1) where there is none.
WRITE_FIRST = '[ -e "$0" ] || { mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"; }'


@dataclass(frozen=True)
class HostKey:
    """An SSH host key: the private half in OpenSSH format, the public half as one line."""

    private: str
    public: str


def new_host_key() -> HostKey:
    """Make an Ed25519 host key."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = " ".join(key.export_public_key().decode().split()[:2])
    return HostKey(private=key.export_private_key().decode(), public=public)


def kept_host_key(conn: Connection) -> HostKey:
    """The host key of a machine that is about to be rebuilt, so that its successor shows the same. Raises HostError."""
    text = (conn.read_file(HOST_KEY) or b"").decode(errors="replace")
    try:
        key = asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise CommandFailed(
            f"reading the host key {HOST_KEY}",
            where=str(conn.target),
            came_back=str(error),
            do_now="Take hostKey out of this node's settings: then it gets a new one.",
        ) from None
    public = " ".join(key.export_public_key().decode().split()[:2])
    if public != conn.target.host_key:
        raise CommandFailed(
            f"reading the host key {HOST_KEY}",
            where=str(conn.target),
            came_back=f"its public half is {public}, declared is {conn.target.host_key}",
            do_now="Correct hostKey in this node's settings, or take it out: then it gets a new one.",
        )
    return HostKey(private=text, public=public)


def user_data(
    *,
    hostname: str,
    generation: int,
    user: str,
    keys: Sequence[str],
    host_key: HostKey,
    files: Mapping[str, str] | None = None,
) -> str:
    """Render the cloud-init user-data of one machine.

    ``user`` logs in with ``keys`` only and has sudo without a password. The machine presents ``host_key`` and no other, so
    that it is known before the first connection. ``files`` (path to text) are in place before the network is called
    online, and so before the engine starts; what is there already stays, because a machine whose network configuration
    changes is a new instance to cloud-init, which then does all of this again at its next start. ``generation`` is a
    comment: a preview cannot know whether a new rendering says anything else, so it shows a new file, and a new file it is.

    cloud-init's documentation: modules Users and Groups, SSH, Bootcmd, Runcmd.
    """
    document = {
        "hostname": hostname,
        "prefer_fqdn_over_hostname": False,
        "manage_etc_hosts": "localhost",  # or sudo waits on DNS for its own host name
        "users": [
            {
                "name": user,
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": True,
                "ssh_authorized_keys": list(keys),
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key.private, "ed25519_public": host_key.public},
        "bootcmd": [["sh", "-c", WRITE_FIRST, path, text] for path, text in sorted((files or {}).items())],
        "runcmd": [["sh", "-c", INSTALL_AGENT]],
    }
    return f"#cloud-config\n# generation {generation}\n" + yaml.safe_dump(document, sort_keys=False, width=10_000)
