"""What only a host itself can tell about a swarm node: the room on its disks, its node certificate, how dockerd is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.script import run_script


@dataclass(frozen=True)
class Disk:
    """A file system: bytes in all and free for those who are not root. One that is not ``mounted`` has neither."""

    path: str
    size: int
    free: int
    mounted: bool = True


@dataclass(frozen=True)
class HostFacts:
    """``now`` is the host's own clock in seconds; ``certificate`` the node certificate in PEM, "" without one.

    ``dockerd`` is systemd's word for it: active, inactive, failed (it ended several times as it started); "" if it gave none.
    """

    now: float
    disks: tuple[Disk, ...]
    certificate: str
    dockerd: str = ""


def read_facts(conn: Connection, mounts: Sequence[str], *, timeout: float) -> HostFacts:
    """Disks at ``/``, at Docker's data and at ``mounts`` (whether a disk of its own is there), the certificate, dockerd.

    Answers whether dockerd runs or not. Raises HostError.
    """
    found = run_script(conn, "facts", {"mounts": list(mounts)}, what="reading disks and certificate", timeout=timeout)
    disks = tuple(Disk(**disk) for disk in found["disks"])
    return HostFacts(found["now"], disks, found["certificate"] or "", found["dockerd"])
