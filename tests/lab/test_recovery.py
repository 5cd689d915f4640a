"""Managers lost: a backup of raft's state, a quorum that comes back by itself, one that is forced, one that is restored."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import ELECTION, SEVEN, assert_whole, until
from tests.lab.watch import QuorumWatch

WORKERS = [name for name in SEVEN if name not in MANAGERS]
LABELS = {name: {"storage": "ssd"} if "infra" in name else {} for name in SEVEN} | {
    "swarmpit-mgmt": {"portainer.data": "true"}
}
KINDS = {
    "services": "docker service ls -q",
    "networks": "docker network ls -q --no-trunc --filter scope=swarm",
    "secrets": "docker secret ls -q",
    "configs": "docker config ls -q",
}


@pytest.fixture(scope="module")
def filled(swarm: Project) -> Project:
    """The swarm with something in it: a service on every worker with a secret, a network of its own, a config."""
    swarm.add_image()
    swarm.ssh(
        ADDRESS["docker-app-1"],
        "docker network create --driver overlay inner && echo secret | docker secret create word - &&"
        " echo config | docker config create text - && docker service create --quiet --detach --no-resolve-image"
        " --mode global --constraint node.role==worker --stop-signal KILL --endpoint-mode dnsrr --network inner"
        " --secret word --name web sleeper",
    )
    until(lambda: len(swarm.tasks("web", ADDRESS["docker-app-1"])) == len(WORKERS), 60, "a task on every worker")
    return swarm


def contents(swarm: Project, address: str) -> dict[str, list[str]]:
    """The ids of all that the swarm has, by kind."""
    return {kind: sorted(swarm.ssh(address, command).split()) for kind, command in KINDS.items()}


def assert_as_before(swarm: Project, before: dict[str, Any], address: str) -> None:
    """The same swarm, with all that was in it, and its workers' tasks running on."""
    assert swarm.engine(address)["Cluster"]["ID"] == before["cluster"]
    assert contents(swarm, address) == before["contents"]
    nodes = swarm.nodes(address)
    assert {name: nodes[name]["Spec"].get("Labels", {}) for name in WORKERS} == {n: LABELS[n] for n in WORKERS}
    until(lambda: swarm.tasks("web", address) == before["tasks"], 60, "the workers' tasks of before")


def known(swarm: Project, address: str = ADDRESS["docker-app-1"]) -> dict[str, Any]:
    """What has to be there afterwards too."""
    return {
        "cluster": swarm.outputs()["clusterId"],
        "contents": contents(swarm, address),
        "tasks": swarm.tasks("web", address),
    }


def ours(swarm: Project, *words: str, check: bool = True) -> tuple[str, int]:
    """A command of ours, as it is typed in the project's folder; all it said."""
    done = swarm.exec("proxmox-swarm", *words, check=check)
    return done.stdout + done.stderr, done.returncode


def refused(swarm: Project, *words: str) -> str:
    """What a command of ours that must fail gives as its reason."""
    said, code = ours(swarm, *words, check=False)
    assert code != 0, said
    return next(line for line in said.splitlines() if line.startswith("error:"))


def killed(swarm: Project, line: str, *words: str) -> None:
    """A command of ours, killed when it has said a line that begins so."""
    process = swarm.open("proxmox-swarm", *words)
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith(line):
            break
    else:
        raise AssertionError(f"it never said {line}")
    process.kill()
    process.wait()


def leader(swarm: Project, address: str) -> str:
    return next(n for n, node in swarm.nodes(address).items() if (node.get("ManagerStatus") or {}).get("Leader"))


def all_reachable(swarm: Project, address: str) -> bool:
    managers = [m for _, _, _, m in swarm.summary(address) if m]
    return sorted(managers) == ["Leader", "Reachable", "Reachable"]


@pytest.fixture(scope="module")
def file(filled: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the swarm as it is at the beginning."""
    return tmp_path_factory.mktemp("backups") / "first.backup"


def test_a_backup_costs_no_quorum_and_leaves_the_swarm_as_it_was(filled: Project, file: Path) -> None:
    swarm = filled
    before = known(swarm)
    led = leader(swarm, ADDRESS["docker-app-1"])
    with QuorumWatch(swarm) as watch:
        begun = time.time()
        said, _ = ours(swarm, "backup", "--to", str(file))
        until(lambda: all_reachable(swarm, ADDRESS[led]), ELECTION, "all managers back")
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
        assert watch.leaderless(begun) < 3, watch.told(begun)
    assert str(file) in said and "private keys" in said

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        packed = archive.extractfile("swarm.tar.gz").read()  # type: ignore[union-attr]
    assert manifest["node"] in MANAGERS and manifest["node"] != led
    nodes = swarm.nodes()
    assert manifest["cluster_id"] == before["cluster"]
    assert manifest["node_id"] == nodes[manifest["node"]]["ID"]
    assert manifest["sha256"] == hashlib.sha256(packed).hexdigest()
    assert manifest["contents"] == {**{kind: len(ids) for kind, ids in before["contents"].items()}, "nodes": 7}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {"./certificates/swarm-node.key", "./docker-state.json"} <= set(archive.getnames())

    assert_as_before(swarm, before, ADDRESS[led])
    assert {node["Spec"]["Availability"] for node in nodes.values()} == {"active"}
    left = swarm.ssh(ADDRESS[manifest["node"]], "ls /var/lib/docker; systemctl list-timers --all --no-legend")
    assert "swarm." not in left and "proxmox-swarm" not in left
    assert swarm.steps("--refresh") == {}


def test_a_leader_whose_engine_restarts_is_a_manager_again(filled: Project) -> None:
    swarm = filled
    before = known(swarm)
    led = leader(swarm, ADDRESS["docker-app-1"])
    other = next(name for name in MANAGERS if name != led)
    swarm.ssh(ADDRESS[led], "systemctl restart docker")
    until(lambda: all_reachable(swarm, ADDRESS[other]), 2 * ELECTION, "all managers back")
    assert_as_before(swarm, before, ADDRESS[other])
    assert_whole(swarm, address=ADDRESS[other])


def test_a_quorum_that_is_cut_off_is_not_forced_and_comes_back_by_itself(filled: Project) -> None:
    """Two of three managers run on unseen: were they forced out, the swarm would be split in two."""
    swarm = filled
    before = known(swarm)
    assert "has a leader and takes decisions" in refused(swarm, "recover", "--yes")
    lost = ("docker-app-2", "docker-app-3")
    for name in lost:
        swarm.faults.cut(VM_ID[name])
    try:
        said = refused(swarm, "recover", "--yes")
        assert all(name in said for name in lost), said
        assert "not shown to be off" in said and "running" in said and "--others-are-gone" in said, said
        assert (
            swarm.engine(ADDRESS["docker-app-1"])["Cluster"] is None or swarm.engine(ADDRESS["docker-app-1"])["Error"]
        )
    finally:
        for name in lost:
            swarm.faults.mend(VM_ID[name])
    until(lambda: all_reachable(swarm, ADDRESS["docker-app-1"]), 2 * ELECTION, "the quorum back")
    assert_as_before(swarm, before, ADDRESS["docker-app-1"])


def test_two_of_three_managers_lost_for_good(filled: Project, tmp_path: Path) -> None:
    """One machine is destroyed, one is off and starts again later with its old state; `recover` is killed once."""
    swarm = filled
    before = known(swarm)
    gone, off, survivor = "docker-app-1", "docker-app-2", "docker-app-3"
    swarm.destroy_machine(VM_ID[gone])
    assert "has a leader and takes decisions" in refused(swarm, "recover", "--yes"), "two of three are a majority"
    swarm.faults.crash(VM_ID[off])

    kept = tmp_path / "survivor.backup"
    killed(swarm, "forced", "recover", "--yes", "--to", str(kept))
    said, code = ours(swarm, "recover", "--yes", "--to", str(kept), check=False)
    # The restart that was begun on the node ends by itself: the second run finds it at work, or done.
    assert "next: make up" in said if code == 0 else "nothing to recover" in said, said

    assert_as_before(swarm, before, ADDRESS[survivor])
    told = swarm.engine(ADDRESS[survivor])
    assert (told["Nodes"], told["Managers"]) == (7, 1)
    assert {status for name, status, _, _ in swarm.summary(ADDRESS[survivor]) if name in WORKERS} == {"Ready"}
    until(
        lambda: not swarm.ssh(ADDRESS[survivor], "ls /var/lib/docker/swarm | grep -e recovery -e detached || true"),
        30,
        "done",
    )
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    swarm.make("up")
    assert_whole(swarm, address=ADDRESS[survivor])
    assert swarm.engine(ADDRESS[survivor])["Nodes"] == 7
    assert_as_before(swarm, before, ADDRESS[survivor])
    assert swarm.verdicts() == {}
    assert swarm.steps() == {}


def test_all_managers_lost_and_a_backup_restored(filled: Project, file: Path) -> None:
    swarm = filled
    node = json.loads(tarfile.open(file).extractfile("manifest.json").read())["node"]  # type: ignore[union-attr] # noqa: SIM115
    other = next(name for name in MANAGERS if name != node)
    address = ADDRESS[node]
    before = known(swarm)
    assert "has a leader" in refused(swarm, "restore", str(file), "--node", node, "--yes")
    assert f"taken on {node}" in refused(swarm, "restore", str(file), "--node", other, "--yes")
    for name in MANAGERS:
        swarm.destroy_machine(VM_ID[name])
    said = refused(swarm, "restore", str(file), "--node", node, "--yes")
    command = f"PROXMOX_SWARM_FIRST={node} pulumi up --refresh -s lab"
    assert command in said, said
    made = swarm.exec("env", *command.split(), "--yes", "--skip-preview", "--non-interactive", check=False)
    assert made.returncode != 0 and "looking for a manager" in made.stdout + made.stderr, made.stdout + made.stderr

    killed(swarm, "backup", "restore", str(file), "--node", node, "--yes")
    said, _ = ours(swarm, "restore", str(file), "--node", node, "--yes")
    assert "next: make up" in said, said
    assert_as_before(swarm, before, address)

    swarm.make("up")
    assert_whole(swarm, address=address)
    assert swarm.engine(address)["Nodes"] == 7
    assert_as_before(swarm, before, address)
    assert swarm.verdicts() == {}
