"""Nodes taken out of the declaration, one after the other, down to a single manager: in health, dead, and killed midway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.lab.project import ADDRESS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole, kill, pending, task_runs

PATIENCE = 60
#: The manager that stays to the end. The first one, where the swarm was made, is the first to go.
LAST = ADDRESS["docker-app-2"]
#: A worker becomes a manager, so that the first may go and three remain.
PROMOTED = {"docker-infra-1": {"role": "manager"}}
GUARDS = {"evenManagers": True}


def declare_only(swarm: Project, *names: str) -> None:
    """The stack file with these nodes alone."""
    gone = dict.fromkeys(name for name in SEVEN if name not in names)
    swarm.declare(nodes={**PROMOTED, **gone}, guards=GUARDS)


def assert_left(swarm: Project, names: list[str], managers: int) -> None:
    """These nodes and no others: in the swarm, in raft, on Proxmox VE, in state."""
    assert_whole(swarm, names=names, managers=managers, address=LAST)
    told = swarm.engine(LAST)
    assert (told["Nodes"], told["Managers"]) == (len(names), managers)
    assert {name.removesuffix("-data") for name in swarm.machines()} == set(names)
    assert set(swarm.members()) == set(names)
    assert swarm.verdicts() == {}


def test_a_worker_and_the_leader_leave_in_good_order(swarm: Project) -> None:
    swarm.add_image()
    swarm.ssh(
        LAST,
        "docker service create --quiet --detach --no-resolve-image --replicas 7 --stop-grace-period 3s --name web sleeper",
    )
    assert {"swarmpit-mgmt", "docker-app-1"} <= set(_running(swarm, 7).values())
    left = ("docker-app-2", "docker-app-3", "docker-infra-1", "docker-infra-2", "docker-infra-3")
    declare_only(swarm, *left)

    swarm.up()

    assert_left(swarm, list(left), managers=3)
    assert set(_running(swarm, 7).values()) <= set(left)
    assert [node["name"] for node in swarm.outputs()["nodes"]] == list(left)
    assert swarm.steps() == {}


def test_managers_are_not_removed_where_the_quorum_would_be_lost(swarm: Project) -> None:
    """One manager is dead; of the other two, one is taken out as well, together with it or alone."""
    swarm.faults.crash(VM_ID["docker-app-3"])
    assert swarm.steps("--refresh") == {f"{kind} docker-app-3": "update" for kind in ("VmLegacy", "Member")}
    declare_only(swarm, "docker-app-2", "docker-infra-2", "docker-infra-3")
    said = swarm.refused()
    assert "2 of the 3 managers would be removed or demoted (docker-app-3, docker-infra-1)" in said, said
    declare_only(swarm, "docker-app-2", "docker-app-3", "docker-infra-2", "docker-infra-3")
    said = swarm.refused()
    assert "docker-infra-1" in said and ADDRESS["docker-infra-1"] in said, said
    assert "1 of 2 would be reachable, 2 needed" in said, said
    assert "PROXMOX_SWARM_FIRST='docker-app-3' pulumi up --refresh" in said, said
    managers = {name for name, node in swarm.nodes(LAST).items() if node.get("ManagerStatus")}
    assert managers == {"docker-app-2", "docker-app-3", "docker-infra-1"}
    assert {"docker-app-3", "docker-infra-1"} <= set(swarm.machines())


def test_dead_machines_are_removed_too(swarm: Project) -> None:
    """A manager that has been dead for a while, and a worker that dies with its tasks when it is to be drained."""
    declare_only(swarm, "docker-app-2", "docker-infra-1", "docker-infra-3")
    assert "docker-infra-2" in _running(swarm, 7).values()
    swarm.faults.crash(VM_ID["docker-infra-2"])
    begun = time.monotonic()
    swarm.up()
    assert time.monotonic() - begun < 90  # its tasks count as running for a day, and a drain may take 10 minutes
    assert_left(swarm, ["docker-app-2", "docker-infra-1", "docker-infra-3"], managers=2)
    assert len(_running(swarm, 7)) == 7


def test_a_removal_whose_command_line_was_killed_while_tasks_ended_is_completed(swarm: Project, tmp_path: Path) -> None:
    swarm.ssh(LAST, "docker service update --quiet --detach --stop-grace-period 6s web")
    assert "docker-infra-3" in _running(swarm, 7).values()
    declare_only(swarm, "docker-app-2", "docker-infra-1")

    def draining() -> bool:
        return pending(swarm, "swarm:Member", "docker-infra-3", "deleting") and (
            swarm.nodes(LAST)["docker-infra-3"]["Spec"]["Availability"] == "drain"
        )

    _kill_when(swarm, draining, tmp_path, whole_group=False)
    assert "docker-infra-3" in swarm.nodes(LAST)
    swarm.make("up")
    assert_left(swarm, ["docker-app-2", "docker-infra-1"], managers=2)


def test_a_removal_killed_with_all_its_processes_while_the_machine_was_deleted_is_completed(
    swarm: Project, tmp_path: Path
) -> None:
    swarm.faults.add("slow", task="qmdestroy", seconds=2, count=99)
    declare_only(swarm, "docker-app-2")
    _kill_when(swarm, lambda: task_runs(swarm, "qmdestroy"), tmp_path, whole_group=True)
    swarm.faults.clear()
    swarm.make("up")
    assert_left(swarm, ["docker-app-2"], managers=1)


def _kill_when(swarm: Project, reached: Any, tmp_path: Path, *, whole_group: bool) -> None:
    log = tmp_path / "up.log"
    up = swarm.start("make", "--silent", "up", log=log)
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert up.poll() is None, f"`up` ended too early:\n{log.read_text()}"
        assert time.monotonic() < limit, f"the moment was never seen:\n{log.read_text()}"
        time.sleep(0.05)
    kill(swarm, up.pid, whole_group)
    up.wait(timeout=60)
    assert up.returncode != 0, log.read_text()


def _running(swarm: Project, count: int) -> dict[str, str]:
    """The running tasks of service ``web`` once there are so many: node by task id."""
    limit = time.monotonic() + PATIENCE
    while len(found := swarm.tasks("web", LAST)) != count and time.monotonic() < limit:
        time.sleep(0.2)
    return found
