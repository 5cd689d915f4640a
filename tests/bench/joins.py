"""What it costs to let many workers join."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tests.bench import stack, times
from tests.lab.project import ADDRESS, MANAGERS, Project
from tests.lab.support import SEVEN

ALLOWED = 1.3
FLOOR = Path(__file__).with_name("join.sh")
LEADER = ADDRESS[MANAGERS[0]]


def main(given: argparse.Namespace) -> None:
    """Twenty-five workers join a swarm of three managers, against the shortest shell script on the same machines.

    Ours is the time from the first to the last event of a worker's `Member`, with the graph as it is in bring-up; to start
    Pulumi and to compare the machines comes on top, and is told beside it.
    """
    with times.project() as project:
        workers = stack.workers(given.workers)
        project.declare(nodes={**dict.fromkeys(SEVEN[len(MANAGERS) :]), **workers})
        project.make("up")
        ours, whole, floor = [], [], []
        for _ in range(given.rounds):
            _leave(project, list(workers))
            taken, altogether = _join(project, list(workers))
            ours.append(taken)
            whole.append(altogether)
            _leave(project, list(workers))
            floor.append(_floor(project, list(workers)))
    print(f"   ours           {times.told(ours)}")
    print(f"   all of `up`    {times.told(whole)}")
    print(f"   shell script   {times.told(floor)}")
    print(times.ratio(f"{given.workers} joins, ours/shell", ours, floor, ALLOWED))


def _leave(project: Project, workers: list[str]) -> None:
    """The workers are out, for the swarm, for themselves and for Pulumi's state."""
    project.everywhere(
        lambda address: project.ssh(address, "docker swarm leave >/dev/null 2>&1 || true"),
        [stack.address(name) for name in workers],
    )
    project.ssh(LEADER, 'ids=$(docker node ls -q --filter role=worker) && [ -z "$ids" ] || docker node rm --force $ids')
    project.forget("Member", workers)


def _join(project: Project, workers: list[str]) -> tuple[float, float]:
    """Seconds of all joins, and of the whole run."""
    log = project.folder / "events"
    log.unlink(missing_ok=True)
    begun = time.monotonic()
    up = project.open(
        "env", "PROXMOX_SWARM_ESTABLISHED=0", "PULUMI_DEBUG_COMMANDS=1",
        "pulumi", "up", "--yes", "--skip-preview", "--stack", "lab", "--non-interactive", "--event-log", str(log),
    )  # fmt: skip
    first, last, joined, position = 0.0, 0.0, 0, 0
    while joined < len(workers):
        assert up.poll() in (None, 0), up.communicate()[0]
        time.sleep(0.02)
        if not log.exists():
            continue
        with log.open("rb") as events:
            events.seek(position)
            lines = events.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                break
            position += len(line)
            event: dict[str, Any] = json.loads(line)
            if _is_join(event.get("resourcePreEvent")):
                first = first or time.monotonic()
            if _is_join(event.get("resOutputsEvent")):
                joined, last = joined + 1, time.monotonic()
    up.communicate()
    return last - first, time.monotonic() - begun


def _is_join(event: dict[str, Any] | None) -> bool:
    return (
        event is not None and event["metadata"]["op"] == "create" and event["metadata"]["type"].endswith("swarm:Member")
    )


def _floor(project: Project, workers: list[str]) -> float:
    begun = time.monotonic()
    addresses = " ".join(stack.address(name) for name in workers)
    project.exec("sh", str(FLOOR), LEADER, addresses, str(len(MANAGERS) + len(workers)))
    return time.monotonic() - begun
