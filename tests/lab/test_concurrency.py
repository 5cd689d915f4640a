"""Several writers, elections and deaths in the middle of what we do, on real engines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import SETTLE, SEVEN, assert_whole, pending, until
from tests.lab.watch import QuorumWatch

FIVE = [*MANAGERS, "docker-infra-1", "docker-infra-2"]
PATIENCE = 180

#: Writes on and on as long as a file is there, and keeps what it last wrote with success: a person's own loop.
WRITER = """
touch /run/writing
while [ -e /run/writing ]; do
  n=$((n + 1))
  docker node update --label-add hand=$n docker-infra-3 >/dev/null 2>&1 && echo $n >/run/label
  docker swarm update --task-history-limit $((n % 50 + 1)) >/dev/null 2>&1 && echo $((n % 50 + 1)) >/run/limit
done
"""

#: A process of its own that takes one manager after the other out for a restart of its engine, and says when.
RESTARTS = """
import json, sys, time
from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import maintenance
sys.stderr = sys.stdout  # what the test shows should this end badly
given = json.load(sys.stdin)
targets = [Target(**entry) for entry in given["managers"]]
for target in targets:
    def restart():
        begun = time.time()
        ssh = connect(target, 20)
        ssh.check(["systemctl", "reset-failed", "docker"], sudo=True, timeout=60)
        ssh.check(["systemctl", "restart", "docker"], sudo=True, timeout=60)
        print(json.dumps([target.node, begun, time.time()]), flush=True)
    maintenance.restart_engine(target, targets, restart, drain_timeout=60, back_timeout=120)
"""


@pytest.fixture(autouse=True)
def declared_as_before(swarm: Project) -> Iterator[None]:
    """Each test starts from, and leaves, the stack file as it is in the repository."""
    yield
    swarm.declare()


def declare_managers(swarm: Project, managers: list[str], **more: Any) -> None:
    swarm.declare(nodes={name: {"role": "manager" if name in managers else "worker"} for name in SEVEN}, **more)


def leader(swarm: Project) -> str:
    return next(row[0] for row in swarm.summary() if row[3] == "Leader")


class Up:
    """`pulumi up` that goes on while the test does something; it must end well by itself."""

    def __init__(self, swarm: Project, *words: str) -> None:
        self._swarm = swarm
        self._process = swarm.open(
            "pulumi", "up", "--yes", "--skip-preview", "--stack", "lab", "--non-interactive", *words
        )

    def when(self, name: str, kind: str = "swarm:Member", operation: str = "updating") -> None:
        """Wait until this is being done to a node."""
        limit = time.monotonic() + PATIENCE
        while not pending(self._swarm, kind, name, operation):
            assert self._process.poll() is None, f"`up` ended before {name} was {operation}: {self._said()}"
            assert time.monotonic() < limit
            time.sleep(0.01)

    def ends_well(self) -> None:
        said = self._said()
        assert self._process.returncode == 0 or self._swarm.mend(), said

    def _said(self) -> str:
        return self._process.communicate(timeout=600)[0]


@contextmanager
def writing(swarm: Project) -> Iterator[dict[str, int]]:
    """Somebody else writes to docker-infra-3 and to the swarm's settings all the time; what they wrote last, at the end."""
    address = ADDRESS["docker-app-3"]
    last: dict[str, int] = {}
    process = swarm.open("ssh", f"ansible@{address}", f"sudo -n sh -c '{WRITER}'")
    try:
        limit = time.monotonic() + 30
        while swarm.ssh(address, "cat /run/limit 2>/dev/null; true").strip() == "":
            assert time.monotonic() < limit
        yield last
    finally:
        swarm.ssh(address, "rm /run/writing")
        process.wait(60)
        for name in ("label", "limit"):
            last[name] = int(swarm.ssh(address, f"cat /run/{name}; rm /run/{name}"))


def test_two_writers_to_a_node_and_to_the_swarm_lose_nothing_of_each_other(swarm: Project) -> None:
    with writing(swarm) as theirs:
        for snapshots in (5000, 6000):
            swarm.exec("proxmox-swarm", "drain", "docker-infra-3", "--reason", "new fan")
            assert swarm.nodes()["docker-infra-3"]["Spec"]["Availability"] == "drain"
            swarm.declare(cluster={"snapshotInterval": snapshots})
            swarm.up()
            swarm.exec("proxmox-swarm", "undrain", "docker-infra-3")
    assert theirs["label"] > 10, "the other writer was at work"
    node = swarm.nodes()["docker-infra-3"]["Spec"]
    assert (node["Availability"], node["Labels"]) == ("active", {"storage": "ssd", "hand": str(theirs["label"])})
    spec = json.loads(swarm.ssh(ADDRESS["docker-app-1"], "docker info --format '{{json .Swarm.Cluster.Spec}}'"))
    assert spec["Raft"]["SnapshotInterval"] == 6000
    assert spec["Orchestration"]["TaskHistoryRetentionLimit"] == theirs["limit"]
    swarm.declare()
    swarm.make("up")
    assert swarm.nodes()["docker-infra-3"]["Spec"]["Labels"] == {"storage": "ssd"}


def test_the_leader_restarts_and_all_is_as_before(swarm: Project) -> None:
    former = leader(swarm)
    with QuorumWatch(swarm) as watch:
        begun = time.time()
        swarm.restart_engines(former)
        limit = time.monotonic() + 60
        while (now := _leader_elsewhere(swarm, former)) is None and time.monotonic() < limit:
            time.sleep(0.5)
        assert now is not None
        assert "no change" in swarm.make("up").stdout
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
    assert_whole(swarm)


def _leader_elsewhere(swarm: Project, former: str) -> str | None:
    """The leader, asked of another manager than the former one, once all managers are reachable again."""
    other = next(name for name in MANAGERS if name != former)
    rows = swarm.summary(ADDRESS[other])
    if sorted(row[3] for row in rows if row[3]) != ["Leader", "Reachable", "Reachable"]:
        return None
    return next(row[0] for row in rows if row[3] == "Leader")


def test_promotions_and_demotions_outlive_the_leader_s_restart(swarm: Project) -> None:
    ids = {name: node["ID"] for name, node in swarm.nodes().items()}
    for managers in (FIVE, MANAGERS):
        declare_managers(swarm, managers)
        at_work = leader(swarm)
        up = Up(swarm)
        up.when("docker-infra-1")
        swarm.restart_engines(at_work)
        up.ends_well()
        assert_whole(swarm, managers=len(managers))
    assert {name: node["ID"] for name, node in swarm.nodes().items()} == ids
    swarm.declare()
    swarm.make("up")
    assert swarm.steps() == {}


def test_a_drain_and_a_join_outlive_the_leader_s_restart(swarm: Project) -> None:
    swarm.ssh(ADDRESS["swarmpit-mgmt"], "docker swarm leave")
    swarm.declare(nodes={"docker-infra-2": {"availability": "drain"}})
    up = Up(swarm, "--refresh")
    up.when("docker-infra-2")
    swarm.restart_engines(leader(swarm))
    up.ends_well()
    # All are unknown to a new leader until they have registered with it.
    until(lambda: {row[1] for row in swarm.summary()} == {"Ready"}, SETTLE, "all ready")
    rows = {row[0]: row[1:] for row in swarm.summary()}
    assert rows["docker-infra-2"] == ("Ready", "Drain", "")
    assert rows["swarmpit-mgmt"] == ("Ready", "Active", "")
    assert len(rows) == len(SEVEN)
    swarm.declare()
    swarm.make("up")
    assert_whole(swarm)


def test_a_manager_dies_while_another_joins(swarm: Project) -> None:
    declare_managers(swarm, FIVE)
    swarm.make("up")
    swarm.ssh(ADDRESS["docker-app-3"], "docker swarm leave --force")
    up = Up(swarm, "--refresh")
    up.when("docker-app-3")
    swarm.faults.crash(VM_ID["docker-app-2"])
    up.ends_well()
    rows = {row[0]: row[3] for row in swarm.summary()}
    assert rows["docker-app-3"] == "Reachable" and len(rows) == len(SEVEN), rows
    swarm.power_on(VM_ID["docker-app-2"])
    swarm.make("up")
    assert_whole(swarm, managers=5)
    swarm.declare()
    swarm.make("up")
    assert_whole(swarm)


def test_a_join_that_hangs_is_left_and_done_again(swarm: Project) -> None:
    """The port answers and nothing else gets through: the handshake's small packets pass, what follows does not."""
    name = "swarmpit-mgmt"
    address = ADDRESS[name]
    token = swarm.ssh(ADDRESS["docker-app-1"], "docker swarm join-token -q worker").strip()
    swarm.ssh(address, "docker swarm leave")
    dropped = f"INPUT -s {address} -p tcp --dport 2377 -m length --length 100:65535 -j DROP"
    swarm.declare(deadlines={"join": "25s"})
    with swarm.rules({ADDRESS[manager]: [dropped] for manager in MANAGERS}):
        by_hand = swarm.ssh(
            address, f"docker swarm join --token {token} {ADDRESS['docker-app-1']}:2377 2>&1", check=False
        )
        assert "Timeout was reached" in by_hand
        assert swarm.engine(address)["LocalNodeState"] == "pending"
        said = swarm.refused("--refresh")
        assert name in said and "not a member after 25 s" in said, said
        assert token not in said
        assert swarm.engine(address)["LocalNodeState"] == "inactive", "left: it would go on trying"
    swarm.up("--refresh")
    assert_whole(swarm)
    swarm.declare()
    swarm.make("up")


def test_two_processes_take_turns_with_one_cluster(swarm: Project) -> None:
    """An `up` restarts every engine while another process takes the managers out one by one: never two at once."""
    outputs = swarm.outputs()
    given = {
        "managers": [
            {"node": name, "address": ADDRESS[name], "user": "ansible", "host_key": outputs["sshHostKeys"][name]}
            for name in MANAGERS
        ]
    }
    swarm.declare(docker={"daemon": {"default-shm-size": "96M"}})
    with QuorumWatch(swarm) as watch:
        begun = time.time()
        other = swarm.open(
            sys.executable, "-c", f"import io, sys; sys.stdin = io.StringIO({json.dumps(given)!r}){RESTARTS}"
        )
        up = Up(swarm)
        up.ends_well()
        said = other.communicate(timeout=600)[0]
        assert other.returncode == 0, said
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
    assert [json.loads(line)[0] for line in said.splitlines()] == MANAGERS
    assert_whole(swarm)
    swarm.declare()
    swarm.make("up")
    assert_whole(swarm)
