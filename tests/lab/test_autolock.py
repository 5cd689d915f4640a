"""Managers that lock themselves: turned on, met by everything that restarts them, another key, a cold start, turned off."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import assert_whole
from tests.lab.test_secrets import Watch, leaks

PATIENCE = 90
#: What each test adds to the declaration stays for those after it.
DECLARED: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def nothing_in_clear(swarm: Project) -> Iterator[None]:
    """Whatever the tests do, no unlock key is in state, its history, or a log."""
    yield
    searched = [file for folder in ("state", "log") for file in (swarm.folder / folder).rglob("*") if file.is_file()]
    assert len(searched) > 5
    assert {str(file): leak for file in searched if (leak := leaks(file.read_bytes()))} == {}


@pytest.fixture
def no_key_on_a_command_line(swarm: Project) -> Iterator[None]:
    """Neither the keys of before the test nor those of after it: other labs may have tests of their own."""
    watch = Watch()
    watch.start()
    known = keys(swarm)
    yield
    watch.done.set()
    watch.join()
    assert len(watch.seen) > 50
    secret = {key.removeprefix("SWMKEY-1-").encode() for key in (*known, *keys(swarm)) if key}
    assert secret and not [line[:80] for line in watch.seen for key in secret if key in line]


def declare(swarm: Project, **more: Any) -> None:
    DECLARED.update(more)
    swarm.declare(**DECLARED)


def up(swarm: Project, *words: str) -> str:
    said = swarm.up(*words).stdout
    assert not leaks(said.encode())
    return said


def state(swarm: Project, name: str) -> str:
    """An engine's own word, once it has made up its mind after a restart."""
    limit = time.monotonic() + 20
    while (found := swarm.engine(ADDRESS[name])["LocalNodeState"]) == "pending" and time.monotonic() < limit:
        time.sleep(0.2)
    return str(found)


def states(swarm: Project) -> set[str]:
    return {state(swarm, name) for name in MANAGERS}


def engine_key(swarm: Project) -> str:
    return swarm.ssh(ADDRESS["docker-app-1"], "docker swarm unlock-key -q").strip()


def keys(swarm: Project) -> tuple[str, str]:
    """The key and the one before it, as the stack gives them to those who may see secrets."""
    told = json.loads(swarm.pulumi("stack", "output", "--json", "--show-secrets", "--stack", "lab").stdout)
    return told["unlockKey"], told["previousUnlockKey"]


def reset(swarm: Project, *names: str) -> None:
    """The machines lose their power and get it back; then their engines are waited for."""
    for name in names:
        swarm.faults.crash(VM_ID[name])
    for name in names:
        swarm.power_on(VM_ID[name])
    for name in names:
        within(PATIENCE, lambda name=name: _answers(swarm, name))


def _answers(swarm: Project, name: str) -> bool:
    try:
        return bool(state(swarm, name))
    except AssertionError:
        return False


def within(seconds: float, reached: Callable[[], object]) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, "the moment was never seen"
        time.sleep(0.5)


def assert_quiet(swarm: Project, **whole: Any) -> None:
    assert_whole(swarm, **whole)
    assert swarm.verdicts() == {}
    assert swarm.steps() == {}


@pytest.mark.usefixtures("no_key_on_a_command_line")
def test_it_is_turned_on_and_the_key_is_a_secret_of_the_stack(swarm: Project) -> None:
    assert keys(swarm) == ("", "")
    declare(swarm, cluster={"autolock": True})
    assert swarm.steps() == {"Autolock managers": "update"}
    up(swarm)
    assert keys(swarm) == (engine_key(swarm), "") and keys(swarm)[0].startswith("SWMKEY-1-")
    assert swarm.outputs()["unlockKey"] == "[secret]"
    assert states(swarm) == {"active"}
    assert_quiet(swarm)
    swarm.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")


def test_a_manager_that_restarts_is_locked_and_up_unlocks_it(swarm: Project) -> None:
    swarm.restart_engines("docker-app-2", "docker-infra-1")
    assert (state(swarm, "docker-app-2"), state(swarm, "docker-infra-1")) == ("locked", "active")
    swarm.refresh()
    assert swarm.verdicts() == {"docker-app-2": "locked"}
    assert swarm.steps() == {"Autolock managers": "update", "Member docker-app-2": "update"}
    assert "swarm: unlocked: docker-app-2" in up(swarm)
    assert_quiet(swarm)


def test_what_we_restart_ourselves_comes_back_by_itself(swarm: Project) -> None:
    """An engine setting on every node, a power cycle, a rebuild, and a promotion, in one run."""
    ids = {name: node["ID"] for name, node in swarm.nodes().items()}
    declare(
        swarm,
        docker={"daemon": {"default-shm-size": "128M"}},
        nodes={
            "docker-app-2": {"cpu": 3},
            "docker-app-3": {"generation": 2},
            "docker-infra-1": {"role": "manager"},
            "docker-infra-2": {"role": "manager"},
        },
    )
    up(swarm)
    assert_quiet(swarm, managers=5)
    assert {name for name, node in swarm.nodes().items() if node["ID"] != ids[name]} == {"docker-app-3"}
    assert all("128M" in swarm.ssh(address, "cat /etc/docker/daemon.json") for address in ADDRESS.values())
    # They have the key that the swarm's managers have: joined, and promoted.
    swarm.restart_engines("docker-app-3", "docker-infra-1")
    assert (state(swarm, "docker-app-3"), state(swarm, "docker-infra-1")) == ("locked", "locked")
    assert sorted(swarm.exec("proxmox-swarm", "unlock").stdout.split()[1:]) == ["docker-app-3,", "docker-infra-1"]
    assert_whole(swarm, managers=5)


def test_a_manager_that_became_a_worker_has_no_lock_when_up_ends(swarm: Project) -> None:
    declare(swarm, nodes={"docker-app-2": {"cpu": 3}, "docker-app-3": {"generation": 2}})
    up(swarm)
    swarm.restart_engines("docker-infra-1", "docker-infra-2")
    assert {state(swarm, name) for name in ("docker-infra-1", "docker-infra-2")} == {"active"}
    assert_quiet(swarm)


def test_a_demotion_that_a_restart_broke_off_is_put_right(swarm: Project) -> None:
    """Its engine takes itself for a manager and is locked; unlocked it would join raft once more."""
    for _ in range(3):  # a loaded machine may be too slow for the seconds in question
        swarm.ssh(ADDRESS["docker-app-1"], "docker node promote docker-infra-1")
        within(PATIENCE, lambda: ("docker-infra-1", "Ready", "Active", "Reachable") in swarm.summary())
        swarm.ssh(ADDRESS["docker-app-1"], "docker node demote docker-infra-1")
        swarm.restart_engines("docker-infra-1")
        if state(swarm, "docker-infra-1") == "locked":
            break
    else:
        pytest.fail("it was a worker before it could be restarted")
    former = swarm.nodes()["docker-infra-1"]["ID"]
    up(swarm, "--refresh")
    assert_quiet(swarm)
    assert swarm.nodes()["docker-infra-1"]["ID"] != former
    assert swarm.engine(ADDRESS["docker-app-1"])["Managers"] == 3


@pytest.mark.usefixtures("no_key_on_a_command_line")
def test_a_manager_that_was_off_when_the_key_was_rotated_is_unlocked_with_the_one_before(
    swarm: Project, tmp_path: Path
) -> None:
    first = engine_key(swarm)
    swarm.faults.crash(VM_ID["docker-app-3"])
    declare(swarm, cluster={"autolock": True, "rotate": {"unlockKey": 2}})
    up(swarm)
    second = engine_key(swarm)
    assert second != first and keys(swarm) == (second, first)
    swarm.power_on(VM_ID["docker-app-3"])
    within(PATIENCE, lambda: _answers(swarm, "docker-app-3"))
    assert state(swarm, "docker-app-3") == "locked"
    wrong = _unlock_with(swarm, second, tmp_path)
    assert wrong.returncode != 0 and "docker-app-3 (192.168.4.32): no key fits" in wrong.stderr, wrong.stderr
    assert not leaks((wrong.stdout + wrong.stderr).encode())
    assert state(swarm, "docker-app-3") == "locked"
    right = _unlock_with(swarm, first, tmp_path)
    assert right.stdout.strip() == "unlocked: docker-app-3"
    assert_whole(swarm)
    swarm.restart_engines("docker-app-3")
    up(swarm, "--refresh")
    assert_quiet(swarm)


def _unlock_with(swarm: Project, key: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"{key}\n")
    return swarm.run("sh", "-c", f"proxmox-swarm unlock --key-from-stdin < {file}", check=False)


def test_after_a_cold_start_of_all_managers_up_unlocks_them_and_goes_on(swarm: Project) -> None:
    swarm.add_image()
    swarm.ssh(
        ADDRESS["docker-app-1"],
        "docker service create --quiet --detach --no-resolve-image --replicas 2 --constraint node.role==worker"
        " --name web sleeper",
    )
    reset(swarm, *MANAGERS)
    assert states(swarm) == {"locked"}
    swarm.refresh()
    verdicts = swarm.verdicts()
    assert {name: verdicts[name] for name in MANAGERS} == dict.fromkeys(MANAGERS, "locked")
    steps = swarm.steps()
    assert steps["Autolock managers"] == "update"
    assert set(steps) - {"Autolock managers"} == {f"Member {name}" for name in verdicts}
    assert "proxmox-swarm unlock" in swarm.exec("proxmox-swarm", "status", check=False).stdout
    shown = swarm.make("up").stdout
    assert "unlocked: docker-app-1, docker-app-2, docker-app-3" in shown
    assert_quiet(swarm)
    within(PATIENCE, lambda: len(swarm.tasks("web", ADDRESS["docker-app-1"])) == 2)
    swarm.ssh(ADDRESS["docker-app-1"], "docker service rm web")


def test_it_is_turned_off_and_managers_restart_by_themselves(swarm: Project) -> None:
    key = engine_key(swarm)
    declare(swarm, cluster={"autolock": False, "rotate": {"unlockKey": 2}})
    assert swarm.steps() == {"Autolock managers": "update"}
    up(swarm)
    assert keys(swarm) == ("", key)
    swarm.restart_engines("docker-app-1")
    within(PATIENCE, lambda: state(swarm, "docker-app-1") == "active")
    up(swarm, "--refresh")
    assert_quiet(swarm)
