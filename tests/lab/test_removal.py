"""Nodes taken out of the declaration, one after the other, down to a single manager: in health, dead, and killed midway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.lab.project import ADDRESS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole, kill, pending, task_runs

PATIENCE = 60
FIRST = ADDRESS["docker-app-1"]
#: docker-infra-3 becomes a manager, so that one may go and three remain.
PROMOTED = {"docker-infra-3": {"role": "manager"}}
GUARDS = {"evenManagers": True}


def declare_without(swarm: Project, *gone: str) -> None:
    """The stack file without these nodes."""
    promoted = {} if "docker-infra-3" in gone else PROMOTED
    swarm.declare(nodes={**promoted, **dict.fromkeys(gone)}, guards=GUARDS)


def assert_left(swarm: Project, names: list[str], managers: int) -> None:
    """These nodes and no others: in the swarm, in raft, on Proxmox VE, in state."""
    assert_whole(swarm, names=names, managers=managers, address=FIRST)
    told = swarm.engine(FIRST)
    assert (told["Nodes"], told["Managers"]) == (len(names), managers)
    assert {name.removesuffix("-data") for name in swarm.machines()} == set(names)
    assert set(swarm.members()) == set(names)
    assert swarm.verdicts() == {}
    assert [node["name"] for node in swarm.outputs()["nodes"]] == [name for name in SEVEN if name in names]
    assert swarm.steps() == {}


def test_a_worker_and_a_manager_leave_in_good_order(swarm: Project) -> None:
    for address in ADDRESS.values():
        swarm.add_image(address)
    swarm.ssh(
        FIRST,
        "docker service create --quiet --detach --no-resolve-image --replicas 7 --stop-grace-period 3s --name web sleeper",
    )
    assert "swarmpit-mgmt" in set(_running(swarm, 7).values())
    declare_without(swarm, "swarmpit-mgmt", "docker-app-3")

    shown = swarm.make("up").stdout

    left = ["docker-app-1", "docker-app-2", "docker-infra-1", "docker-infra-2", "docker-infra-3"]
    assert_left(swarm, left, managers=3)
    assert set(_running(swarm, 7).values()) <= set(left)
    assert "3 of 3 managers reachable" in shown


def test_managers_are_not_removed_where_the_quorum_would_be_lost(swarm: Project) -> None:
    """One manager is dead; of the other two, one is taken out as well."""
    for name in ("docker-app-2", "docker-infra-2"):
        swarm.faults.crash(VM_ID[name])
    assert swarm.steps("--refresh") == {
        f"{kind} {name}": "update" for kind in ("VmLegacy", "Member") for name in ("docker-app-2", "docker-infra-2")
    }
    declare_without(swarm, "swarmpit-mgmt", "docker-app-3", "docker-infra-2", "docker-app-2", "docker-infra-3")
    said = swarm.refused()
    assert "docker-infra-3" in said and ADDRESS["docker-infra-3"] in said, said
    assert "1 of 2 would be reachable, 2 needed" in said, said
    assert "docker-app-2" in said, said
    managers = {name: node.get("ManagerStatus") for name, node in swarm.nodes(FIRST).items()}
    assert {name for name, status in managers.items() if status} == {"docker-app-1", "docker-app-2", "docker-infra-3"}
    assert swarm.machines()["docker-infra-3"] == "running"


def test_dead_machines_are_removed_too(swarm: Project) -> None:
    declare_without(swarm, "swarmpit-mgmt", "docker-app-3", "docker-infra-2", "docker-app-2")
    swarm.make("up")
    assert_left(swarm, ["docker-app-1", "docker-infra-1", "docker-infra-3"], managers=2)
    assert len(_running(swarm, 7)) == 7


def test_a_removal_whose_command_line_was_killed_while_tasks_ended_is_completed(swarm: Project, tmp_path: Path) -> None:
    swarm.ssh(FIRST, "docker service update --quiet --detach --stop-grace-period 15s web")
    declare_without(swarm, "swarmpit-mgmt", "docker-app-3", "docker-infra-2", "docker-app-2", "docker-infra-1")

    def draining() -> bool:
        return pending(swarm, "swarm:Member", "docker-infra-1", "deleting") and (
            swarm.nodes(FIRST)["docker-infra-1"]["Spec"]["Availability"] == "drain"
        )

    _kill_when(swarm, draining, tmp_path, whole_group=False)
    assert "docker-infra-1" in swarm.nodes(FIRST)
    swarm.make("up")
    assert_left(swarm, ["docker-app-1", "docker-infra-3"], managers=2)


def test_a_removal_killed_with_all_its_processes_while_the_machine_was_deleted_is_completed(
    swarm: Project, tmp_path: Path
) -> None:
    faults = swarm.faults
    faults.add("slow", task="qmdestroy", seconds=2, count=99)
    declare_without(swarm, *(name for name in SEVEN if name != "docker-app-1"))
    _kill_when(swarm, lambda: task_runs(swarm, "qmdestroy"), tmp_path, whole_group=True)
    faults.clear()
    swarm.make("up")
    assert_left(swarm, ["docker-app-1"], managers=1)


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
    while len(found := swarm.tasks("web", FIRST)) != count and time.monotonic() < limit:
        time.sleep(0.2)
    return found
