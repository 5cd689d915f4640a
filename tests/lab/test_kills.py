"""A first `up` killed at five moments, the CLI alone and with everything it started; then `make up` ends as always."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.lab import Lab
from tests.lab.support import Site, assert_whole, kill, pending, task_runs

PATIENCE = 120


MOMENTS: dict[str, Callable[[Site], bool]] = {
    "a VM's import": lambda site: task_runs(site, "qmcreate"),
    "a VM's start": lambda site: task_runs(site, "qmstart"),
    "init": lambda site: pending(site, "swarm:Cluster", "managers"),
    "the second manager's join": lambda site: pending(site, "swarm:Member", "docker-app-2"),
    "the workers' joins": lambda site: pending(site, "swarm:Member", "docker-infra-3"),
}


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    """The lab up and the stack without resources, whatever the test before left."""
    yield site
    site.make("down")


@pytest.mark.parametrize("whole_group", [False, True], ids=["the CLI alone", "its whole group"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_up_after_a_kill(clean: Site, tmp_path: Path, moment: str, whole_group: bool) -> None:
    site = clean
    site.run("lab", "up")
    for task in ("qmcreate", "qmstart"):  # tasks take milliseconds in the lab: too short to be met
        Lab(site.folder).faults.add("slow", task=task, seconds=1, count=99)
    log = tmp_path / "up.log"
    up = site.start("make", "--silent", "up", log=log)
    reached = MOMENTS[moment]
    limit = time.monotonic() + PATIENCE
    while not reached(site):
        assert up.poll() is None, f"`up` ended before {moment}:\n{log.read_text()}"
        assert time.monotonic() < limit, f"{moment} was never seen:\n{log.read_text()}"
        time.sleep(0.005)
    kill(site, up.pid, whole_group)
    up.wait(timeout=60)
    assert up.returncode != 0, log.read_text()

    Lab(site.folder).faults.clear()
    site.make("up")

    assert_whole(site)
    ids = {node["id"] for node in site.outputs()["nodes"]}
    assert ids == {node["ID"] for node in site.nodes().values()}
    swarms = {_swarm_of(site, f"192.168.4.{last}") for last in (30, 31, 32)}
    assert swarms == {site.outputs()["clusterId"]}
    assert site.steps() == {}


def _swarm_of(site: Site, address: str) -> Any:
    return json.loads(site.ssh(address, "docker info --format '{{json .Swarm}}'"))["Cluster"]["ID"]
