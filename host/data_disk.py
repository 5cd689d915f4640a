"""The data disk of a host: found by its serial number, formatted only when blank, mounted before dockerd starts."""

from __future__ import annotations

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.script import run_script


def ensure(conn: Connection, serial: str, mount: str, *, timeout: float = 30) -> bool:
    """Have the disk mounted at ``mount``, now and at each boot; whether it was blank and has been formatted.

    A disk that holds anything but ext4 or xfs is not touched. Raises HostError.
    """
    args = {"serial": serial, "mount": mount, "timeout": timeout}
    result = run_script(conn, "data_disk", args, what=f"mounting the data disk {serial}", timeout=timeout + 330)
    return bool(result["formatted"])
