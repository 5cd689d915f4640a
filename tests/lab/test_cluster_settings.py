"""What the swarm as a whole is set to, as its engines have it; and what can be set once only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.project import ADDRESS, Project

LEADER, MANAGER = ADDRESS["docker-app-1"], ADDRESS["docker-app-2"]
SECOND = 10**9
#: Overlay traffic has a network of its own here.
FIXED = {"dataPath": "storage", "dataPathPort": 7789, "subnetSize": 25}
DECLARED = {
    "electionTick": 20,
    "heartbeatTick": 2,
    "snapshotInterval": 5000,
    "keepOldSnapshots": 2,
    "taskHistory": 3,
    "certificateExpiry": "720h",
    "dispatcherHeartbeat": "4s",
    "labels": {"environment": "lab"},
}
#: Set by hand, through the engine's API, as nobody declares it.
BY_HAND = """
import http.client, json, socket, sys
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")
def ask(method, path, body=None):
    engine = Engine("engine")
    engine.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = engine.getresponse()
    text = answer.read()
    assert answer.status < 300, text
    return json.loads(text) if text.strip() else None
def merge(into, change):
    for key, value in change.items():
        into[key] = merge(into.get(key) or {}, value) if isinstance(value, dict) else value
    return into
swarm = ask("GET", "/swarm")
change = json.loads(sys.argv[1])
if change:
    ask("POST", "/swarm/update?version=%d" % swarm["Version"]["Index"], merge(swarm["Spec"], change))
print(json.dumps(ask("GET", "/swarm")))
"""


@pytest.fixture(scope="module")
def swarm(site: Any, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Seven nodes whose overlay traffic has a network of its own; two managers run no tasks."""
    project = Project(site.folder, tmp_path_factory.mktemp("declared") / "project")
    declare(project)
    project.make("up")
    return project


@pytest.fixture(autouse=True)
def declared_as_before(swarm: Project) -> Iterator[None]:
    """Each test starts from, and leaves, the same stack file."""
    yield
    declare(swarm)


def declare(swarm: Project, **cluster: Any) -> None:
    """The lab's stack file, with managers that are drained and these settings of the swarm."""
    swarm.declare(pools={"app": {"availability": "drain"}}, cluster={**FIXED, **cluster})


def test_every_node_listens_advertises_and_sends_overlay_traffic_as_declared(swarm: Project) -> None:
    for name, address in ADDRESS.items():
        kept = json.loads(swarm.ssh(address, "cat /var/lib/docker/swarm/docker-state.json"))
        assert kept["DataPathAddr"] == address.replace("192.168.4.", "192.168.12."), name
        assert kept["AdvertiseAddr"].partition(":")[0] == kept["ListenAddr"].partition(":")[0] == address, name
    cluster = swarm.engine(LEADER)["Cluster"]
    assert (cluster["DefaultAddrPool"], cluster["SubnetSize"], cluster["DataPathPort"]) == (["10.201.0.0/16"], 25, 7789)


def test_packets_between_containers_go_over_the_network_that_is_declared(swarm: Project) -> None:
    swarm.add_image()
    one, other = ADDRESS["docker-infra-1"], ADDRESS["docker-infra-2"]
    swarm.ssh(LEADER, "docker network create --driver overlay --attachable between")
    try:
        for address in (one, other):
            swarm.ssh(address, "docker run -d --name talker --network between --stop-signal KILL sleeper")
        inside = "docker inspect -f '{{(index .NetworkSettings.Networks \"between\").IPAddress}}' talker"
        target = swarm.ssh(other, inside).strip()
        assert target.startswith("10.201."), target
        for network in ("192.168.12", "192.168.4"):
            swarm.ssh(other, f"iptables -I INPUT -d {network}.0/24 -p udp --dport 7789")
        ping = "nsenter -n -t $(docker inspect -f '{{.State.Pid}}' talker) "
        knock = f"python3 -c 'import socket; s = socket.create_connection((\"{target}\", 9), 5)'"
        said = swarm.ssh(one, f"{ping} {knock} 2>&1 || true")
        assert "Connection refused" in said, said  # an answer of the other container's own
        counted = swarm.ssh(other, "iptables -nvxL INPUT")
        packets = dict(re.findall(r"^\s*(\d+) .* (192\.168\.\d+)\.0/24", counted, re.MULTILINE))
        by_network = {network: int(count) for count, network in packets.items()}
        assert by_network.get("192.168.12", 0) > 0, counted
        assert by_network.get("192.168.4", 0) == 0, counted
    finally:
        for address in (one, other):
            swarm.ssh(address, "docker rm -f talker", check=False)
        swarm.ssh(other, "iptables -F INPUT", check=False)
        swarm.ssh(LEADER, "docker network rm between", check=False)


def test_managers_may_be_drained(swarm: Project) -> None:
    rows = {row[0]: row[2:] for row in swarm.summary()}
    assert {rows[name][0] for name in rows if rows[name][1]} == {"Drain"}
    assert {rows[name][0] for name in rows if not rows[name][1]} == {"Active"}
    assert swarm.steps() == {}


def test_what_is_declared_reaches_the_engine_and_what_others_set_stays(swarm: Project) -> None:
    foreign = {
        "Labels": {"somebody": "else"},
        "CAConfig": {"ExternalCAs": [{"Protocol": "cfssl", "URL": "https://ca.example.org"}]},
        "EncryptionConfig": {"AutoLockManagers": True},
    }  # a default log driver is neither taken nor given by the engine's API (moby daemon/cluster/convert/swarm.go)
    before = _swarm(swarm, foreign)
    try:
        declare(swarm, **{key: value for key, value in DECLARED.items() if key != "labels"})
        assert swarm.steps() == {"ClusterSettings managers": "update"}
        swarm.up()
        spec = _swarm(swarm)["Spec"]
        assert spec["Raft"] == {
            **before["Spec"]["Raft"], "ElectionTick": 20, "HeartbeatTick": 2, "SnapshotInterval": 5000, "KeepOldSnapshots": 2,
        }  # fmt: skip
        assert spec["Orchestration"] == {"TaskHistoryRetentionLimit": 3}
        assert spec["CAConfig"] == {**before["Spec"]["CAConfig"], "NodeCertExpiry": 720 * 3600 * SECOND}
        assert spec["Dispatcher"] == {"HeartbeatPeriod": 4 * SECOND}
        assert spec["Labels"] == before["Spec"]["Labels"] == foreign["Labels"]
        assert spec["EncryptionConfig"] == foreign["EncryptionConfig"]
        assert spec["CAConfig"]["ExternalCAs"][0]["URL"] == "https://ca.example.org"
        told = swarm.engine(MANAGER)["Cluster"]["Spec"]
        assert (told["Raft"]["SnapshotInterval"], told["Orchestration"]["TaskHistoryRetentionLimit"]) == (5000, 3)

        declare(swarm, **DECLARED)
        swarm.up()
        spec = _swarm(swarm)["Spec"]
        assert spec["Labels"] == {"environment": "lab"}, "declared labels are all there are"
        assert spec["EncryptionConfig"] == foreign["EncryptionConfig"]
        assert swarm.steps() == {}
    finally:
        _swarm(swarm, {"CAConfig": {"ExternalCAs": []}, "EncryptionConfig": {"AutoLockManagers": False}})


def test_edits_by_hand_of_what_is_declared_are_seen_and_put_back_and_others_are_nobodys_business(
    swarm: Project,
) -> None:
    declare(swarm, **DECLARED)
    swarm.up()
    _swarm(swarm, {"Orchestration": {"TaskHistoryRetentionLimit": 9}, "Raft": {"LogEntriesForSlowFollowers": 600}})
    swarm.refresh()
    assert swarm.steps() == {"ClusterSettings managers": "update"}
    swarm.up()
    spec = _swarm(swarm)["Spec"]
    assert spec["Orchestration"]["TaskHistoryRetentionLimit"] == 3
    assert spec["Raft"]["LogEntriesForSlowFollowers"] == 600
    swarm.refresh()
    assert swarm.steps() == {}

    # What is declared no longer stays as it is.
    declare(swarm)
    swarm.up()
    assert _swarm(swarm)["Spec"] == spec


def test_what_is_fixed_is_refused_in_preview_with_what_it_would_take_and_nothing_is_done(swarm: Project) -> None:
    before = _swarm(swarm)["Version"], _versions(swarm)
    declare(swarm, addressPool="10.99.0.0/16", subnetSize=24, dataPathPort=4789, dataPath="main", taskHistory=7)
    done = swarm.pulumi("preview", "--stack", "lab", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for words in (
        "cluster.addressPool is ['10.201.0.0/16'] and cannot become ['10.99.0.0/16']: a swarm gets it when it is initialised",
        "cluster.subnetSize is 25 and cannot become 24: a swarm",
        "cluster.dataPathPort is 7789 and cannot become 4789: a swarm",
        "cluster.dataPath is storage and cannot become main: a node gets it when it joins and keeps it",
    ):
        lines = [line for line in said.splitlines() if words in line]
        assert lines, said
        assert all("Put the old value back, or build a new cluster and move the stacks over." in line for line in lines)
    assert "has a problem: cluster.addressPool" in swarm.refused()
    time.sleep(1)  # a heartbeat or a certificate may move a version, nothing else does
    assert (_swarm(swarm)["Version"], _versions(swarm)) == before


def _swarm(swarm: Project, change: dict[str, Any] | None = None) -> dict[str, Any]:
    """``GET /swarm`` of a manager, after this change of its spec by hand."""
    words = json.dumps(change or {}).replace('"', '\\"')
    found: dict[str, Any] = json.loads(swarm.ssh(MANAGER, f"python3 - \"{words}\" <<'END'\n{BY_HAND}\nEND"))
    return found


def _versions(swarm: Project) -> dict[str, object]:
    return {name: node["Spec"] for name, node in swarm.nodes().items()}
