"""What a rolling rebuild costs beyond the machines' own boots."""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from proxmox_swarm.lab import Lab
from tests.bench import times
from tests.lab.project import ADDRESS, VM_ID, Project
from tests.lab.support import SEVEN

PATIENCE = 300.0


def main(given: argparse.Namespace) -> None:
    """Seven nodes are rebuilt in one run: the time a node takes beyond its machine's own boot.

    A machine's boot is from Proxmox VE's task that starts it until its engine answers over SSH, found by asking again and
    again from beside the run.
    """
    beyond: list[float] = []
    with times.project() as project:
        project.make("up")
        for number in range(2, given.rounds + 2):
            project.declare(nodes={name: {"generation": number} for name in SEVEN})
            watch = _Boots(project)
            begun = time.monotonic()
            project.up()
            whole = time.monotonic() - begun
            boots = watch.taken()
            beyond.append((whole - sum(boots)) / len(SEVEN))
            print(f"   {whole:.1f} s for {len(SEVEN)} nodes, boots {times.told(boots)}", flush=True)
    print(f"a node beyond its boot: {statistics.median(beyond):.1f} s ({min(beyond):.1f} to {max(beyond):.1f})")


class _Boots:
    """How long each machine takes from its start until its engine answers."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._since = time.time()
        self._found: dict[str, float] = {}
        self._threads = [threading.Thread(target=self._follow, args=(name,), daemon=True) for name in SEVEN]
        for thread in self._threads:
            thread.start()

    def _follow(self, name: str) -> None:
        limit = time.monotonic() + PATIENCE
        while (started := self._started(name)) is None:
            if time.monotonic() > limit:
                return
            time.sleep(0.5)
        ask = ("ssh", "-o", "ConnectTimeout=1", f"ansible@{ADDRESS[name]}", "sudo", "-n", "docker", "version")
        while self._project.exec(*ask, check=False).returncode != 0:
            time.sleep(0.1)
        self._found[name] = time.time() - started

    def _started(self, name: str) -> float | None:
        for entry in Lab(self._project.folder).record():
            mine = entry.get("event") == "task-start" and entry["type"] == "qmstart" and entry["id"] == str(VM_ID[name])
            if mine and entry["time"] >= self._since:
                return float(entry["time"])
        return None

    def taken(self) -> list[float]:
        """Seconds of each boot. Every machine was started."""
        for thread in self._threads:
            thread.join(PATIENCE)
        assert set(self._found) == set(SEVEN), self._found
        return list(self._found.values())
