"""Join tokens and the root CA, rotated by a number in settings: what the engines make of the old ones, and of faults."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxmox_swarm.swarm.tokens import ca_digest36
from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole, kill

PATIENCE = 60
MANAGER = ADDRESS["docker-app-1"]
#: A worker that is taken out of the swarm by hand to try old tokens on, or that is missing when the CA is rotated.
SPARE = "swarmpit-mgmt"


def cluster_of(swarm: Project) -> dict[str, Any]:
    """``GET /swarm`` as the engine gives it, which `docker info` shows all of but the tokens."""
    found: dict[str, Any] = json.loads(swarm.ssh(MANAGER, "docker info --format '{{json .Swarm.Cluster}}'"))
    return found


def token(swarm: Project, role: str) -> str:
    return swarm.ssh(MANAGER, f"docker swarm join-token -q {role}").strip()


def digest(swarm: Project) -> str:
    """Of the root CA that the engine has."""
    return ca_digest36(cluster_of(swarm)["TLSInfo"]["TrustRoot"])


def forced(swarm: Project) -> int:
    """How often a rotation was asked for, by the engine's count."""
    return int(cluster_of(swarm)["Spec"]["CAConfig"].get("ForceRotate", 0))


def ids(swarm: Project) -> dict[str, str]:
    return {name: node["ID"] for name, node in swarm.nodes().items()}


def assert_quiet(swarm: Project) -> None:
    """All is there, and neither another run nor a refresh finds anything to do or to tell."""
    assert_whole(swarm)
    swarm.up("--expect-no-changes")
    swarm.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")


def within(seconds: float, reached: Callable[[], object]) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, "the moment was never seen"
        time.sleep(0.2)


def test_tokens_rotate_apart_no_member_changes_and_the_old_ones_are_refused(swarm: Project) -> None:
    members, old = ids(swarm), {role: token(swarm, role) for role in ("worker", "manager")}
    swarm.declare(cluster={"rotate": {"worker": 2}})
    assert swarm.steps() == {"TokenRotation worker-token": "update"}
    swarm.up()
    assert token(swarm, "worker") != old["worker"] and token(swarm, "manager") == old["manager"]
    swarm.declare(cluster={"rotate": {"worker": 2, "manager": 7}})
    assert swarm.steps() == {"TokenRotation manager-token": "update"}
    swarm.up()
    new = {role: token(swarm, role) for role in old}
    assert all(new[role] != old[role] and new[role].split("-")[:3] == old[role].split("-")[:3] for role in old)
    assert_quiet(swarm)
    assert ids(swarm) == members

    swarm.ssh(ADDRESS[SPARE], "docker swarm leave")
    for role in old:
        said = swarm.ssh(ADDRESS[SPARE], f"docker swarm join --token {old[role]} {MANAGER}:2377 2>&1 || true")
        assert "A valid join token is necessary to join this cluster" in said, said
    assert swarm.engine(ADDRESS[SPARE])["LocalNodeState"] == "inactive"
    assert swarm.steps("--refresh")[f"Member {SPARE}"] == "update"
    swarm.up("--refresh")
    assert_whole(swarm)
    assert {role: token(swarm, role) for role in old} == new


def test_a_lower_number_is_refused_in_preview(swarm: Project) -> None:
    swarm.declare(cluster={"rotate": {"worker": 2, "manager": 6}})
    said = swarm.pulumi("preview", "--stack", "lab", check=False)
    assert said.returncode != 0
    assert "cluster.rotate.manager is 7 and cannot become 6" in said.stdout + said.stderr
    swarm.declare(cluster={"rotate": {"worker": 2, "manager": 7}})


def test_the_root_ca_is_rotated_again_and_again_while_services_go_on(swarm: Project) -> None:
    swarm.add_image()
    swarm.ssh(MANAGER, "docker service create --quiet --no-resolve-image --mode global --name web sleeper")
    within(PATIENCE, lambda: len(swarm.tasks("web", MANAGER)) == len(SEVEN))
    members, tasks, digests = ids(swarm), swarm.tasks("web", MANAGER), [swarm.outputs()["caDigest"]]
    assert digests == [digest(swarm)]
    for number in (2, 5):
        rotate(swarm, number)
        assert swarm.steps() == {"CaRotation ca": "update"}
        said = swarm.up().stdout
        assert all(f"{name}: certificate of the new CA" in said for name in SEVEN), said
        assert not cluster_of(swarm)["RootRotationInProgress"]
        digests.append(swarm.outputs()["caDigest"])
        assert digests[-1] == digest(swarm) == token(swarm, "worker").split("-")[2]
        roots = {node["Description"]["TLSInfo"]["TrustRoot"] for node in swarm.nodes().values()}
        assert [ca_digest36(root) for root in roots] == [digests[-1]]
    assert len(set(digests)) == 3 and forced(swarm) == 2
    assert_quiet(swarm)
    assert (ids(swarm), swarm.tasks("web", MANAGER)) == (members, tasks)
    swarm.ssh(MANAGER, "docker service rm web")


def rotate(swarm: Project, number: int, **more: Any) -> None:
    swarm.declare(cluster={"rotate": {"worker": 2, "manager": 7, "ca": number}, **more})


def test_the_root_ca_is_not_rotated_while_a_node_is_down(swarm: Project) -> None:
    swarm.faults.crash(VM_ID[SPARE])
    within(PATIENCE, lambda: swarm.nodes()[SPARE]["Status"]["State"] == "down")
    rotate(swarm, 6)
    said = swarm.refused()
    assert f"{SPARE} ({ADDRESS[SPARE]}, down)" in said, said
    assert "take them out of the declaration" in said, said
    assert forced(swarm) == 2 and not cluster_of(swarm)["RootRotationInProgress"]
    swarm.make("up")  # starts the machine, and then there is nothing in the way
    assert forced(swarm) == 3
    assert_whole(swarm)


def test_a_rotation_whose_run_was_killed_is_taken_to_its_end_and_not_begun_anew(swarm: Project, tmp_path: Path) -> None:
    """A worker that reaches no manager holds the rotation up; it counts as up for three heartbeats."""
    rotate(swarm, 6, dispatcherHeartbeat="60s")
    swarm.up()
    time.sleep(6)  # nodes learn the new interval with a heartbeat of the old one
    rotate(swarm, 7, dispatcherHeartbeat="60s")
    before = digest(swarm)
    begun = swarm.start("make", "--silent", "up", log=tmp_path / "killed.log")
    with swarm.rules({ADDRESS[SPARE]: [f"OUTPUT -p tcp -d {ADDRESS[name]} --dport 2377 -j DROP" for name in MANAGERS]}):
        within(PATIENCE, lambda: cluster_of(swarm)["RootRotationInProgress"])
        kill(swarm, begun.pid, whole_group=True)
        assert begun.wait(timeout=60) != 0
        assert cluster_of(swarm)["RootRotationInProgress"] and digest(swarm) == before
        again = swarm.start("make", "--silent", "up", log=tmp_path / "again.log")
        within(PATIENCE, lambda: "is under way; waiting for its end" in (tmp_path / "again.log").read_text())
        assert forced(swarm) == 4
    assert again.wait(timeout=120) == 0, (tmp_path / "again.log").read_text()
    assert forced(swarm) == 4 and not cluster_of(swarm)["RootRotationInProgress"]
    assert digest(swarm) != before
    assert_quiet(swarm)
