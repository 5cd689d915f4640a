"""A Proxmox VE host that is away: everything else is worked on. It comes back, or it is gone for good."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.project import ADDRESS, Project
from tests.lab.support import SEVEN, assert_whole
from tests.lab.watch import QuorumWatch

THERE = ("docker-app-2", "docker-infra-2")
#: A worker before one of those in the rolling order goes, one on a living host comes, and a label changes.
ELSEWHERE: dict[str, Any] = {
    "docker-infra-1": None,
    "docker-infra-9": {"pool": "infra", "host": "pve03", "id": 4209, "ip": 49},
    "swarmpit-mgmt": {"labels": {"rack": "2"}},
}
CHANGED = sorted({*SEVEN, "docker-infra-9"} - {"docker-infra-1"})
#: Two hosts cannot spread three managers.
GUARDS = {"managersOnOneHost": True}
PATIENCE = 120


def wait_for(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.5)


def states(swarm: Project) -> dict[str, str]:
    return {name: node["Status"]["State"] for name, node in swarm.nodes().items()}


def ids(swarm: Project) -> dict[str, str]:
    return {name: node["ID"] for name, node in swarm.nodes().items()}


@pytest.fixture(scope="module")
def away(swarm: Project) -> Project:
    """Host pve02 without power, with a manager and a worker that has a data disk on it."""
    swarm.up()  # from now on each node is recorded as one that comes after another
    swarm.faults.add("host-down", host="pve02")
    wait_for(lambda: all(states(swarm)[name] == "down" for name in THERE))
    return swarm


def test_everything_else_is_worked_on_and_what_is_left_alone_is_told(away: Project) -> None:
    before = ids(away)
    away.declare(nodes=ELSEWHERE)
    shown = json.loads(away.run("proxmox-swarm", "around", "--stack", "lab", "preview", "--json").stdout)
    steps = {
        (step["op"], step["urn"].split("::")[-1])
        for step in shown["steps"]
        if step["urn"].endswith(tuple(f"swarm:Member::{name}" for name in CHANGED + SEVEN)) and step["op"] != "same"
    }
    assert steps == {("delete", "docker-infra-1"), ("create", "docker-infra-9"), ("update", "swarmpit-mgmt")}

    said = away.make("up").stdout

    assert "pve02 is offline: docker-app-2, docker-infra-2" in said
    assert "left alone" in said
    assert sorted(states(away)) == CHANGED
    assert {name for name, state in states(away).items() if state != "ready"} == set(THERE)
    assert away.nodes()["swarmpit-mgmt"]["Spec"]["Labels"]["rack"] == "2"
    assert {name: found for name, found in ids(away).items() if name in before} == {
        name: found for name, found in before.items() if name != "docker-infra-1"
    }
    assert "docker-infra-1" not in away.machines() and away.machines()["docker-infra-9"] == "running"
    assert "no change" in away.make("up").stdout


def test_a_manager_is_not_taken_down_beside_one_that_is_away(away: Project) -> None:
    away.declare(
        nodes=ELSEWHERE, docker={"daemon": {"shutdown-timeout": 20, "max-concurrent-downloads": 5, "mtu": 1400}}
    )
    failed = away.make("up", check=False)
    assert failed.returncode != 0
    assert "docker-app-1" in failed.stdout and "no majority" in failed.stdout, failed.stdout
    away.declare(nodes=ELSEWHERE)
    away.make("up")
    assert {name for name, state in states(away).items() if state != "ready"} == set(THERE)


def test_a_node_that_may_come_back_with_its_host_is_not_taken_out(away: Project) -> None:
    away.declare(nodes={**ELSEWHERE, "docker-infra-2": None})
    failed = away.make("up", check=False)
    assert failed.returncode != 0
    assert "docker-infra-2 is declared no more, but its machine is on pve02, which is offline" in failed.stderr
    assert "proxmox-swarm forget-host pve02" in failed.stderr
    assert sorted(states(away)) == CHANGED


def test_a_host_that_is_there_is_not_forgotten(away: Project) -> None:
    failed = away.run("proxmox-swarm", "forget-host", "pve03", "--stack", "lab", "--yes", check=False)
    assert failed.returncode != 0 and "pve03 is online, says Proxmox VE" in failed.stderr


def test_when_the_host_is_back_everything_is_taken_again_and_nothing_replaced(away: Project) -> None:
    before = ids(away)
    away.declare(nodes=ELSEWHERE)
    away.faults.host_up("pve02")
    wait_for(lambda: set(states(away).values()) == {"ready"})
    wait_for(lambda: away.nodes()["docker-app-2"]["ManagerStatus"]["Reachability"] == "reachable")
    said = away.make("up").stdout
    assert "no change" in said and "left alone" not in said
    assert ids(away) == before
    assert_whole(away, names=CHANGED)
    assert away.steps() == {}


def test_a_host_whose_api_alone_is_dead_is_gone_around_as_well(away: Project) -> None:
    """The one that the state names as the endpoint; its machines run."""
    away.faults.add("api-down", host="pve01")
    try:
        said = away.make("up").stdout
    finally:
        away.faults.clear()
    assert "pve01 does not answer (status 595): docker-app-1, swarmpit-mgmt" in said
    assert_whole(away, names=CHANGED)
    away.make("up")
    assert away.steps() == {}


def test_nodes_of_a_host_that_is_gone_for_good_are_made_on_another(away: Project) -> None:
    swarm, elsewhere = away, {**ELSEWHERE, **{name: {"host": "pve03"} for name in THERE}}
    before = ids(swarm)
    swarm.ssh(ADDRESS["docker-infra-2"], "touch /var/lib/data/lost")
    swarm.faults.add("host-down", host="pve02")
    swarm.declare(nodes=elsewhere, guards=GUARDS)
    refused = swarm.make("up", check=False)
    assert "docker-app-2 is declared on pve03 now, but its machine is on pve02" in refused.stderr

    state = swarm.state()
    wait_for(lambda: all(states(swarm)[name] == "down" for name in THERE))
    asked = swarm.run("proxmox-swarm", "forget-host", "pve02", "--stack", "lab", check=False)
    assert asked.returncode != 0 and swarm.state() == state and ids(swarm) == before
    said = swarm.run("proxmox-swarm", "forget-host", "pve02", "--stack", "lab", "--yes").stdout
    assert "pve02 is offline" in said and "data disk of VM 4701: ITS FILES ARE LOST" in said
    rows = {row[0]: row[3] for row in swarm.summary()}
    assert sorted(rows) == sorted(set(CHANGED) - set(THERE))
    assert sorted(filter(None, rows.values())) == ["Leader", "Reachable"]
    assert "Proxmox VE still lists VM 4101, 4201, 4701 on pve02" in said and "pvecm delnode pve02" in said
    (kept,) = [Path(line.rpartition(" ")[2]) for line in said.splitlines() if line.startswith("state before this")]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["deployment"]["resources"] == state["resources"]
    assert "nothing to forget" in swarm.run("proxmox-swarm", "forget-host", "pve02", "--stack", "lab", "--yes").stdout

    failed = swarm.make("up", check=False)
    assert failed.returncode != 0
    assert "VM id 4101, wanted for docker-app-2, is taken by VM 4101 on pve02: pve02 is offline" in failed.stdout
    assert "`pvecm delnode pve02`" in failed.stdout
    assert "docker-app-2" not in {machine["name"] for machine in swarm.resources() if "name" in machine}

    swarm.faults.add("host-lost", host="pve02")  # as those commands do
    with QuorumWatch(swarm, ["docker-app-1", "docker-app-3"]) as watch:
        swarm.make("up")
        assert len(watch.fewest().reachable) >= 2, watch.told()

    assert_whole(swarm, names=CHANGED)
    found = swarm.engine(ADDRESS["docker-app-1"])
    assert (found["Nodes"], found["Managers"]) == (7, 3)
    after = ids(swarm)
    assert {name for name in CHANGED if after[name] != before[name]} == set(THERE)
    hosts = {machine["name"]: machine["node"] for machine in swarm.resources()}
    assert {hosts[name] for name in (*THERE, "docker-infra-2-data")} == {"pve03"}
    assert swarm.ssh(ADDRESS["docker-infra-2"], "ls -A /var/lib/data").split() in ([], ["lost+found"])
    assert swarm.verdicts() == {}
    assert swarm.steps() == {}


def test_nodes_of_a_lost_host_may_be_dropped_and_others_take_their_part(away: Project) -> None:
    """The host of the first endpoint, of a manager and a worker: another worker becomes a manager in its place."""
    swarm, address = away, ADDRESS["docker-app-3"]
    swarm.faults.add("host-lost", host="pve01")
    gone = ("docker-app-1", "swarmpit-mgmt")
    swarm.declare(
        nodes={
            **ELSEWHERE,
            **{name: {"host": "pve03"} for name in THERE},
            **dict.fromkeys(gone),
            "docker-infra-3": {"role": "manager"},
        },
        guards=GUARDS,
    )
    wait_for(lambda: swarm.nodes(address)["swarmpit-mgmt"]["Status"]["State"] == "down")
    said = swarm.run("proxmox-swarm", "forget-host", "pve01", "--stack", "lab", "--yes").stdout
    assert "pve01 is no member of the Proxmox VE cluster" in said and "still lists" not in said

    swarm.make("up")

    left = sorted(set(CHANGED) - set(gone))
    assert_whole(swarm, names=left, address=address)
    found = swarm.engine(address)
    assert (found["Nodes"], found["Managers"]) == (len(left), 3)
    assert set(swarm.members()) == set(left)
    assert swarm.steps() == {}
