"""The systemd-nspawn command that runs a machine, and the process that is its init."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from proxmox_swarm.lab.machines.command import run

# The machine's own network settings are writable, the host's other settings are not; "1" (all of them) hangs the boot.
ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}

NSPID = re.compile(r"^NSpid:.*\s1$", re.MULTILINE)

# What Docker needs beyond nspawn's default list.
SYSTEM_CALLS = "@keyring bpf @mount @module"

# Moves this shell into the machine's cgroups ($1, lines), then becomes nspawn.
ENTER_CGROUPS = 'echo "$1" | while read -r file; do echo $$ >"$file" || exit 1; done || exit 1; shift; exec "$@"'


# Where nspawn keeps a directory for every running container.
STATE = Path("/run/systemd/nspawn")


async def hide_state() -> None:
    """Gives nspawn an empty state directory of this mount namespace, so that it leaves nothing in the host's."""
    await run("mkdir", "-p", str(STATE))
    await run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(STATE))


def command(
    root: Path,
    machine: str,
    name: str,
    docker: Path,
    namespace: Path,
    devices: Iterable[tuple[Path, Path]],
    cgroups: Iterable[Path],
    legacy: bool,
) -> list[str]:
    """The arguments that boot the tree at ``root``.

    ``machine`` tells it from others here, ``name`` is its host name; ``devices`` are pairs (here, inside); ``cgroups``
    are the files to enter; ``legacy`` says that cgroup v1 is in use.
    """
    binds = [f"--bind={here}:{inside}" for here, inside in devices]
    return [
        *("sh", "-c", ENTER_CGROUPS, "sh", "\n".join(map(str, cgroups))),
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--capability=all",
        f"--system-call-filter={SYSTEM_CALLS}",
        f"--network-namespace-path={namespace}",
        f"--directory={root}",
        f"--machine={machine}",
        f"--bind={docker}:/var/lib/docker",
        *binds,
        f"--hostname={name}",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--boot",
        # systemd 256 and later refuse cgroup v1 without it
        *(["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"] if legacy else []),
    ]


def init_of(supervisor: int) -> int | None:
    """The process that is init inside the machine run by nspawn process ``supervisor``; None when there is none."""
    try:
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    except FileNotFoundError:
        return None
    for child in children:
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        # its ids from the outermost PID namespace to its own
        if NSPID.search(status):
            return int(child)
    return None


def is_alive(pid: int) -> bool:
    """Does the process exist?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
