"""The data disk of a host: found by its serial number, formatted only when blank, mounted before dockerd starts."""

from __future__ import annotations

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import DiskAbsent
from proxmox_swarm.host.script import run_script


def ensure(conn: Connection, serial: str, mount: str, size: int, *, timeout: float = 30) -> bool:
    """Have the disk mounted at ``mount``, now and at each boot; whether it was blank and has been formatted.

    A disk that holds anything but ext4 or xfs is not touched. The file system grows with the disk, which has ``size`` GiB.
    Raises HostError; DiskAbsent where the disk does not show within ``timeout`` seconds, or is smaller.
    """
    what = f"mounting the data disk {serial}"
    args = {"serial": serial, "mount": mount, "size": size, "timeout": timeout}
    result = run_script(conn, "data_disk", args, what=what, timeout=timeout + 330)
    if absent := result.get("absent"):
        raise DiskAbsent(
            what,
            where=str(conn.target),
            came_back=absent,
            do_now="Look at the machine's disks in Proxmox VE: changes that are pending there come with its next start.",
        )
    return bool(result["formatted"])


def release(conn: Connection, mount: str) -> bool:
    """Have nothing mounted at ``mount`` any more, where we had; whether there was anything to do. Raises HostError."""
    result = run_script(conn, "data_disk", {"release": mount}, what=f"unmounting {mount}", timeout=330)
    return bool(result["released"])
