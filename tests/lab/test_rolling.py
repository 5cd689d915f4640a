"""Changes that take every node out, in one `pulumi up`: one node is away at a time, and nobody who uses the swarm notices.

Two witnesses look on all through (tests/lab/watch.py): the managers' engines say who is reachable, and a replicated service
on the data disks is written to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from proxmox_swarm.lab import Lab
from tests.lab.probe import IMAGE
from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole, until
from tests.lab.watch import Probe, QuorumWatch

DISKS = [name for name in SEVEN if "infra" in name]
KEPT = "/var/lib/data/kept"
#: A global service that no node with a data disk may have, by its label; of the workers one is left.
UNLABELLED = (
    "docker service create --quiet --detach --no-resolve-image --mode global --stop-signal KILL --name unlabelled"
    " --constraint node.role==worker --constraint node.labels.storage!=ssd"
    f" --mount type=bind,source=/usr,target=/usr,readonly {IMAGE} /usr/bin/sleep infinity"
)
#: Replicas that answer and one that is away: a client finds another in a second. A node takes ten times as long.
NOTICED = 5.0
#: A watch that saw nothing for so long would miss what it is there for.
BLIND = 5.0


@pytest.fixture(scope="module")
def watched(swarm: Project) -> Iterator[tuple[Project, QuorumWatch, Probe]]:
    """The seven nodes with a file on each data disk, and both witnesses at work until the end."""
    for name in DISKS:
        swarm.ssh(ADDRESS[name], f"echo {name} > {KEPT} && sync")
    with QuorumWatch(swarm) as quorum, Probe(swarm) as probe:
        swarm.ssh(ADDRESS["docker-app-1"], UNLABELLED)
        until(lambda: unlabelled(swarm) == ["swarmpit-mgmt"], 60, "a task on the worker without the label")
        yield swarm, quorum, probe


def test_all_seven_are_rebuilt_in_one_run(watched: tuple[Project, QuorumWatch, Probe]) -> None:
    swarm, quorum, probe = watched
    before = ids(swarm)
    begun = time.time()
    swarm.declare(nodes=generation(2, SEVEN))
    assert {key for key, op in swarm.steps().items() if "replace" in op and key.startswith("Member")} == {
        f"Member {name}" for name in SEVEN
    }

    swarm.up()

    assert not set(ids(swarm).values()) & set(before.values())
    assert out_and_back(swarm, begun, "qmdestroy") == [VM_ID[name] for name in SEVEN]
    assert_unnoticed(swarm, quorum, probe, begun)
    # A node that took tasks before it was labelled would have got one of these.
    until(lambda: unlabelled(swarm) == ["swarmpit-mgmt"], 60, "a task on the worker without the label")
    assert not swarm.placed("unlabelled", ADDRESS["docker-app-1"]) & set(DISKS)


def test_all_seven_are_power_cycled_in_one_run(watched: tuple[Project, QuorumWatch, Probe]) -> None:
    swarm, quorum, probe = watched
    before, booted = ids(swarm), boots(swarm)
    begun = time.time()
    swarm.declare(nodes=generation(2, SEVEN), pools={"default": {"cpu": 2}})
    steps = swarm.steps()
    assert steps == {f"{kind} {name}": "update" for kind in ("VmLegacy", "Member") for name in SEVEN}, steps

    swarm.up()

    assert ids(swarm) == before
    assert all(booted[name] != now for name, now in boots(swarm).items())
    assert out_and_back(swarm, begun, "qmshutdown") == [VM_ID[name] for name in SEVEN]
    assert_unnoticed(swarm, quorum, probe, begun)


def test_a_manager_that_is_down_is_rebuilt_before_the_healthy_ones(
    watched: tuple[Project, QuorumWatch, Probe],
) -> None:
    swarm, quorum, probe = watched
    begun = time.time()
    swarm.faults.crash(VM_ID["docker-app-3"])
    swarm.declare(nodes={**generation(2, SEVEN), **generation(3, MANAGERS)}, pools={"default": {"cpu": 2}})

    # In the order of the stack file it would be a healthy one's turn: the engines are asked, and it stays.
    assert "docker-app-3" in swarm.refused()
    assert out_and_back(swarm, begun, "qmdestroy") == []
    swarm.make("up")

    rebuilt = out_and_back(swarm, begun, "qmdestroy")
    assert rebuilt == [VM_ID[name] for name in ("docker-app-3", "docker-app-1", "docker-app-2")]
    assert_unnoticed(swarm, quorum, probe, begun)


def assert_unnoticed(swarm: Project, quorum: QuorumWatch, probe: Probe, begun: float) -> None:
    """Quorum with at most one manager away, a service that answered, nothing lost, nothing left to do."""
    told = f"{quorum.told(begun)}; {probe.told(begun)}"
    print(told)
    assert quorum.unseen(begun) < BLIND, told
    assert len(quorum.fewest(begun).reachable) >= 2, told
    assert len(quorum.most_away(begun)) <= 1, told
    assert probe.gaps(begun) < NOTICED, told
    assert_whole(swarm)
    probe.await_all()
    assert probe.lost() == [], told
    for name in DISKS:
        assert swarm.ssh(ADDRESS[name], f"cat {KEPT}").strip() == name
    swarm.up("--expect-no-changes")


def unlabelled(swarm: Project) -> list[str]:
    """The nodes on which a task of that service runs."""
    return list(swarm.tasks("unlabelled", ADDRESS["docker-app-1"]).values())


def generation(number: int, names: list[str]) -> dict[str, dict[str, int]]:
    """These nodes at this generation, for the stack file."""
    return {name: {"generation": number} for name in names}


def ids(swarm: Project) -> dict[str, str]:
    """The engines' own ids of the nodes."""
    return {name: node["ID"] for name, node in swarm.nodes().items()}


def boots(swarm: Project) -> dict[str, str]:
    """When the first process of each machine was started."""
    found: dict[str, str] = {}
    swarm.everywhere(lambda address: found.update({address: swarm.ssh(address, "stat -c %Y /proc/1")}))
    return {name: found[ADDRESS[name]] for name in SEVEN}


def out_and_back(swarm: Project, since: float, out: str) -> list[int]:
    """The machines that task ``out`` took away, in order, by Proxmox VE's record; each was started before the next went."""
    found: list[int] = []
    away: int | None = None
    for entry in Lab(swarm.folder).record():
        if entry["event"] != "task-start" or entry["time"] < since or entry["type"] not in (out, "qmstart"):
            continue
        vm_id = int(entry["id"])
        if entry["type"] == out:
            assert away is None, f"{vm_id} went while {away} was away"
            found.append(vm_id)
            away = vm_id
        else:
            assert away == vm_id, f"{vm_id} was started while {away} was away"
            away = None
    assert away is None, away
    return found
