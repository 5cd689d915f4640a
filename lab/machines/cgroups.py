"""One cgroup a machine in every hierarchy the kernel has mounted: cgroup v2, v1, or both (hybrid).

The kernel keeps empty cgroup directories when their processes die, so all of a lab's hang below one directory whose
name comes from the lab's run directory: `remove` finds and deletes them, also for a lab that was killed.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
REMOVE_DEADLINE = 5.0  # seconds; a killed process leaves its cgroup when the kernel has reaped it


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy."""

    path: Path
    unified: bool


def hierarchies(mountinfo: Path = MOUNTINFO) -> list[Hierarchy]:
    """Every cgroup hierarchy mounted here, each once."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind = right.split()[0]
        if kind in ("cgroup", "cgroup2"):
            device, path = left.split()[2], Path(left.split()[4])
            found.setdefault(device, Hierarchy(path, kind == "cgroup2"))
    return list(found.values())


def unified() -> bool:
    """Is cgroup v2 the only one? Then a machine's systemd uses it; else it needs the legacy layout."""
    return all(hierarchy.unified for hierarchy in hierarchies())


class Cgroups:
    """The cgroups of one lab."""

    def __init__(self, run: Path) -> None:
        self._name = "proxmox-swarm-" + hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:8]

    def create(self, vmid: int) -> list[Path]:
        """Makes a machine's cgroups; returns the files that take a process id to move it there."""
        files = []
        for hierarchy in hierarchies():
            parent = hierarchy.path
            for name in (self._name, str(vmid)):
                if hierarchy.unified:
                    _enable_controllers(parent)
                child = parent / name
                child.mkdir(exist_ok=True)
                for setting in ("cpuset.cpus", "cpuset.mems"):  # v1 takes no process while they are empty
                    if (
                        not hierarchy.unified
                        and (child / setting).exists()
                        and not (child / setting).read_text().strip()
                    ):
                        (child / setting).write_text((parent / setting).read_text())
                parent = child
            files.append(parent / "cgroup.procs")
        return files

    def remove(self, vmid: int | None = None) -> None:
        """Deletes a machine's cgroups, or all of the lab's. Raises OSError while a process is still in one."""
        for hierarchy in hierarchies():
            top = hierarchy.path / self._name
            if vmid is not None:
                top /= str(vmid)
            _remove(top, time.monotonic() + REMOVE_DEADLINE)


def _enable_controllers(directory: Path) -> None:
    available = (directory / "cgroup.controllers").read_text().split()
    for controller in available:
        try:
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:  # one that cannot be delegated here (cpu with real-time processes): machines go without it
            continue


def _remove(top: Path, deadline: float) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        while True:
            try:
                os.rmdir(directory)  # noqa: PTH106 (walked as strings)
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
