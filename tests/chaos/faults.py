"""What breaks, and what a person mends afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random

from proxmox_swarm.lab.control import ControlError
from tests.chaos.declaration import Declaration
from tests.lab.project import Project

HOSTS = ("pve01", "pve02", "pve03")
#: Faults of what drives the change, of the nodes, and of Proxmox VE; how often each is drawn.
KINDS = {"cli": 2, "group": 2, "terminal": 1, "machine": 4, "dockerd": 3, "link": 3, "api": 2, "all-apis": 1}
OF_NODES = ("machine", "dockerd", "link")


@dataclass(frozen=True)
class Fault:
    """``victim`` is a node or a Proxmox VE host. ``lasts``: so many seconds; None until ``up`` has ended.

    ``left``: a machine that is off is left to ``up``, which starts it.
    """

    kind: str
    victim: str = ""
    lasts: float | None = None
    left: bool = False

    def __str__(self) -> str:
        until = "" if self.lasts is None else f" for {self.lasts:.0f} s"
        return {
            "cli": "pulumi killed",
            "group": "everything of `up` killed",
            "terminal": "`make up` killed, its pulumi goes on",
            "machine": f"{self.victim} loses its power{' for good' if self.left else ''}",
            "dockerd": f"dockerd of {self.victim} killed",
            "link": f"{self.victim} is cut off{until}",
            "api": f"the API of {self.victim} is down{until}",
            "all-apis": f"the API of every host is down{until}",
        }[self.kind]


def draw(rng: Random, now: Declaration, nodes: tuple[str, ...]) -> Fault:
    """One fault; of a node that is worked on (``nodes``) in half of the cases."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    lasts = rng.choice((None, round(rng.uniform(3, 20))))
    if kind in OF_NODES:
        worked_on = sorted(name for name in nodes if name in now.nodes)
        victim = rng.choice(worked_on if worked_on and rng.random() < 0.5 else sorted(now.nodes))
        return Fault(kind, victim, lasts if kind == "link" else None, left=kind == "machine" and rng.random() < 0.4)
    if kind in ("api", "all-apis"):
        return Fault(kind, rng.choice(HOSTS) if kind == "api" else "", lasts)
    return Fault(kind)


def strike(fault: Fault, project: Project, declared: Declaration, up: int | None) -> str:
    """Do it, ``up`` being the process of `make up` while it runs; what could not be done, in words."""
    if fault.kind in ("cli", "group", "terminal"):
        return kill(fault.kind, up) if up is not None else "`up` had ended"
    if fault.kind in ("api", "all-apis"):
        for host in (fault.victim,) if fault.victim else HOSTS:
            project.faults.add("api-down", host=host)
        return ""
    node = declared.nodes[fault.victim]
    if fault.kind == "dockerd":
        script = "kill -9 $(systemctl show -p MainPID --value docker)"
        argv = ("ssh", "-o", "ConnectTimeout=3", f"ansible@{node.address}", "sudo", "-n", "sh", "-c", f"'{script}'")
        done = project.exec(*argv, check=False, timeout=20)
        return "" if done.returncode == 0 else f"it did not answer: {done.stderr.strip()}"
    try:
        if fault.kind == "machine":
            project.faults.crash(node.id)
        else:
            project.faults.cut(node.id)
    except ControlError as error:
        return f"there was no such machine at that moment ({error})"
    return ""


def mend(fault: Fault, project: Project, declared: Declaration) -> None:
    """What a person mends: API, cables, and the power of a machine unless it is left to ``up``."""
    project.faults.clear()
    if fault.kind != "machine" or fault.left:
        return
    if project.machines().get(fault.victim) == "stopped":
        project.power_on(declared.nodes[fault.victim].id)


def kill(kind: str, up: int) -> str:
    """End processes of `make up`: gathered first, for those of a dead parent are nobody's children."""
    family = _descendants(up)
    pulumi = [pid for pid in family if _name(pid) == "pulumi"]
    if kind == "cli":
        victims = pulumi[:1]
    elif kind == "terminal":
        theirs = {pid for top in pulumi for pid in (top, *_descendants(top))}
        victims = [pid for pid in (up, *family) if pid not in theirs]
    else:
        victims = [up, *family]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return "" if victims else "no pulumi was running at that moment"


def _descendants(of: int) -> list[int]:
    """All processes below one, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, line = [], [of]
    while line:
        line = sorted(child for parent in line for child in children.get(parent, []))
        found += line
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
