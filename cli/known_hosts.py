"""The nodes' pinned host keys, where ``ssh`` and ``docker`` look for them."""

from __future__ import annotations

import os
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack

LAB = "PROXMOX_SWARM_LAB"


def known_hosts_file() -> Path:
    """The lab's own file inside the lab, the user's elsewhere."""
    lab = os.environ.get(LAB)
    return Path(lab) / "known_hosts" if lab else Path.home() / ".ssh" / "known_hosts"


def write_known_hosts(stack: Stack) -> Path:
    """Put the stack's host keys into the known-hosts file, replacing lines of the same addresses. Returns the file."""
    wanted: list[str] = stack.outputs().get("sshKnownHosts", [])
    if not wanted:
        raise CommandError(f"stack {stack.name} has no host keys to pin: its last `up` did not end. Run it again")
    addresses = {entry.split()[0] for entry in wanted}
    file = known_hosts_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = [line for line in (file.read_text().splitlines() if file.exists() else []) if line.split()[:1] != []]
    kept = [line for line in kept if line.split()[0] not in addresses]
    temporary = file.with_name(file.name + ".new")
    temporary.touch(mode=0o600)
    temporary.write_text("".join(f"{line}\n" for line in [*kept, *wanted]))
    temporary.replace(file)
    return file
