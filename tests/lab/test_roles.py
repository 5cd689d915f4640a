"""Who manages changes in every way, and nodes take their turns: one manager at a time, dead ones first, workers in lanes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxmox_swarm.lab import Lab
from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole, until
from tests.lab.watch import QuorumWatch

#: Each manager has a worker on its own Proxmox VE host, so that they may change places.
PARTNER = dict(zip(MANAGERS, ("docker-infra-1", "docker-infra-2", "docker-infra-3"), strict=True))
MANAGER, WORKER = {"role": "manager"}, {"role": "worker"}
POWER = {"qmshutdown", "qmstop", "qmstart"}
#: Seconds that a machine takes at least from power on until it is a node again.
BOOT = 2.0


@pytest.fixture(autouse=True)
def declared_as_before(swarm: Project) -> Iterator[None]:
    """Each test starts from, and leaves, the stack file as it is in the repository."""
    yield
    swarm.declare()


def assert_managers(swarm: Project, *names: str, address: str = "") -> None:
    """These manage and no others, on all sides: raft, each engine, the certificate on its disk, and state."""
    assert_whole(swarm, managers=len(names), address=address or ADDRESS[names[0]])
    for name, at in ADDRESS.items():
        engine = swarm.engine(at)
        assert engine["ControlAvailable"] is (name in names), name
        assert not engine["Error"], engine
        assert _certified(swarm, at) == ("swarm-manager" if name in names else "swarm-worker"), name
    found = swarm.members()
    assert {name for name in found if found[name]["role"] == "manager"} == set(names)
    assert swarm.verdicts() == {}


def test_the_leader_and_a_worker_change_places_in_one_up(swarm: Project) -> None:
    ids = _ids(swarm)
    leader = _leader(swarm)
    partner = PARTNER[leader]
    others = [name for name in MANAGERS if name != leader]
    swarm.declare(nodes={leader: WORKER, partner: MANAGER})
    steps = swarm.steps()
    assert steps[f"Member {leader}"] == steps[f"Member {partner}"] == "update"
    assert {op for key, op in steps.items() if not key.startswith("WorkerPool")} == {"update"}, steps

    with QuorumWatch(swarm, [*others, partner]) as watch:
        swarm.up()
        seen = {moment.in_raft for moment in watch.moments() if moment.in_raft}
    assert seen == {3, 4}, "promoted first, demoted then"

    assert_managers(swarm, *others, partner)
    assert _ids(swarm, ADDRESS[partner]) == ids
    assert swarm.steps() == {}

    # At once back again: the engines themselves take half a minute for it.
    swarm.declare()
    swarm.up()
    assert_managers(swarm, *MANAGERS)
    assert _ids(swarm) == ids


def test_a_majority_is_demoted_only_where_that_is_meant_and_then_one_by_one(swarm: Project) -> None:
    before = _specs(swarm)
    fewer: dict[str, Any] = {
        "nodes": {"docker-app-1": WORKER, "docker-app-3": WORKER},
        "rolling": {"maxUnavailable": 2},  # both are workers of their own lanes then
    }
    swarm.declare(**fewer)
    said = _objection(swarm)
    assert "2 of the 3 managers would be removed or demoted (docker-app-1, docker-app-3)" in said, said
    assert "Take out docker-app-1, `up`; then take out docker-app-3, `up`" in said, said
    assert "guards: {fewerManagers: true}" in said, said
    assert "2 of the 3 managers" in swarm.refused()
    assert _specs(swarm) == before

    swarm.declare(**fewer, guards={"fewerManagers": True})
    swarm.up()
    assert_managers(swarm, "docker-app-2")

    swarm.declare()
    swarm.up()
    assert_managers(swarm, *MANAGERS)


def test_several_managers_do_not_change_their_addresses_at_once(swarm: Project) -> None:
    before = _specs(swarm)
    swarm.declare(nodes={"docker-app-1": {"ip": 60}, "docker-app-2": {"ip": 61}})
    said = _objection(swarm)
    assert "2 managers would get other addresses at once (docker-app-1 from 192.168.4.30 to 192.168.4.60" in said, said
    assert "Change docker-app-1, `up`, then docker-app-2" in said, said
    assert _specs(swarm) == before


def test_a_manager_that_is_cut_off_leaves_raft_when_it_is_demoted_and_comes_back_as_a_worker(swarm: Project) -> None:
    ids = _ids(swarm)
    swarm.declare(nodes={"docker-app-3": WORKER, "docker-infra-3": MANAGER}, deadlines={"join": "10s"})
    swarm.faults.cut(VM_ID["docker-app-3"])
    try:
        said = swarm.refused()
        assert "docker-app-3" in said and ADDRESS["docker-app-3"] in said, said
        raft = {name for name, node in swarm.nodes().items() if node.get("ManagerStatus")}
        assert raft == {"docker-app-1", "docker-app-2", "docker-infra-3"}
    finally:
        swarm.faults.mend(VM_ID["docker-app-3"])
    swarm.make("up")
    assert_managers(swarm, "docker-app-1", "docker-app-2", "docker-infra-3")
    assert _ids(swarm) == ids

    swarm.declare()
    swarm.up()
    assert_managers(swarm, *MANAGERS)


def test_a_node_that_joins_drained_never_gets_a_task(swarm: Project) -> None:
    name = "docker-infra-2"
    swarm.add_image()
    create = (
        "docker service create --quiet --detach --no-resolve-image --mode global --stop-signal KILL --name web sleeper"
    )
    swarm.ssh(ADDRESS[name], "docker swarm leave")
    swarm.ssh(ADDRESS["docker-app-1"], create)
    swarm.declare(nodes={name: {"availability": "drain"}})
    swarm.up("--refresh")
    node = swarm.nodes()[name]
    assert (node["Spec"]["Availability"], node["Status"]["State"]) == ("drain", "ready")
    placed = swarm.ssh(ADDRESS["docker-app-1"], f"docker node ps --format '{{{{.Name}}}}' {node['ID']}")
    assert placed.split() == []
    assert swarm.ssh(ADDRESS[name], "docker ps -aq").split() == []

    swarm.declare()
    swarm.up()
    limit = time.monotonic() + 60
    while name not in swarm.tasks("web", ADDRESS["docker-app-1"]).values() and time.monotonic() < limit:
        time.sleep(0.2)
    assert name in swarm.tasks("web", ADDRESS["docker-app-1"]).values()
    swarm.ssh(ADDRESS["docker-app-1"], "docker service rm web")
    assert_managers(swarm, *MANAGERS)


def test_a_node_that_joins_has_its_labels_before_any_task(swarm: Project) -> None:
    """A global service for nodes without a label: one that takes tasks before it is labelled gets one of it."""
    name, manager = "docker-infra-1", ADDRESS["docker-app-1"]
    unlabelled = {node for node in SEVEN if "infra" not in node}
    swarm.add_image()
    create = "docker service create --quiet --detach --no-resolve-image --mode global --stop-signal KILL"
    swarm.ssh(
        manager,
        f"{create} --name anywhere sleeper && {create} --name elsewhere --constraint node.labels.storage!=ssd sleeper",
    )
    until(lambda: set(swarm.tasks("elsewhere", manager).values()) == unlabelled, 60, "a task on each unlabelled node")
    swarm.ssh(ADDRESS[name], "docker swarm leave")
    swarm.up("--refresh")
    until(lambda: name in swarm.tasks("anywhere", manager).values(), 60, "tasks on the node that joined")
    assert swarm.placed("elsewhere", manager) == unlabelled
    container = "docker ps -aq --filter label=com.docker.swarm.service.name="
    assert swarm.ssh(ADDRESS[name], f"{container}anywhere").split()
    assert swarm.ssh(ADDRESS[name], f"{container}elsewhere").split() == []
    swarm.ssh(manager, "docker service rm anywhere elsewhere")
    assert_managers(swarm, *MANAGERS)


def test_no_healthy_manager_is_touched_while_another_is_down_and_the_command_that_is_told_goes_by_turns(
    swarm: Project,
) -> None:
    """Every node's CPUs change, which takes a power cycle; a manager is off, and state does not know."""
    ids = _ids(swarm)
    swarm.declare(pools={"default": {"cpu": 3}}, rolling={"maxUnavailable": 2})
    swarm.faults.crash(VM_ID["docker-app-3"])
    _await_unreachable(swarm, "docker-app-3")
    begun = time.time()
    said = swarm.refused()
    assert "docker-app-1" in said and "NONE TO SPARE" in said, said
    command = re.search(r"`PROXMOX_SWARM_FIRST='([a-z0-9-]+)' pulumi up --refresh`", said)
    assert command is not None and command[1] == "docker-app-3", said
    assert _power_intervals(swarm, begun) == {}
    assert {row[1:3] for row in swarm.summary() if row[0] != "docker-app-3"} == {("Ready", "Active")}

    begun = time.time()
    words = "pulumi up --refresh --yes --skip-preview --stack lab --non-interactive"
    swarm.exec("env", f"PROXMOX_SWARM_FIRST={command[1]}", *words.split(), timeout=900)

    assert_managers(swarm, *MANAGERS)
    assert _ids(swarm) == ids
    out = _power_intervals(swarm, begun)
    assert set(out) == set(SEVEN)
    order = sorted(out, key=lambda name: out[name])
    assert order[:3] == ["docker-app-3", "docker-app-1", "docker-app-2"]
    for earlier, later in zip(MANAGERS[2:] + MANAGERS[:2], order[1:4], strict=True):
        assert out[earlier][1] <= out[later][0], f"{later} was out before {earlier} was back"
    # Off for a second, away until they have booted: two at a time, drained one after the other.
    assert _most_at_once([(off, on + BOOT) for off, on in (out[name] for name in order[3:])]) == 2
    assert swarm.steps() == {}


def test_a_manager_gets_another_address_by_a_rebuild_of_its_own(swarm: Project) -> None:
    name, address = "docker-app-3", "192.168.4.39"
    before = _ids(swarm)
    changed = {"nodes": {name: {"ip": 39}}, "pools": {"default": {"cpu": 3}}}
    swarm.declare(**changed)
    steps = swarm.steps()
    assert "replace" in steps[f"VmLegacy {name}"] and "replace" in steps[f"Member {name}"]
    assert [key for key, op in steps.items() if "replace" in op and name not in key] == []
    swarm.make("up")  # which pins the host key at the new address for the tests too
    after = _ids(swarm)
    assert {n for n in SEVEN if after[n] != before[n]} == {name}
    assert swarm.nodes()[name]["ManagerStatus"]["Addr"] == f"{address}:2377"
    assert swarm.engine(address)["NodeAddr"] == address
    kept = swarm.ssh(address, "cat /var/lib/docker/swarm/docker-state.json")
    assert f'"ListenAddr":"{address}:2377","AdvertiseAddr":"{address}:2377"' in kept
    assert_whole(swarm)
    assert swarm.steps() == {}


def test_a_dead_and_a_living_manager_leave_in_one_up_the_dead_one_first(swarm: Project) -> None:
    """Down to one manager by removal, on purpose; the one that stays does not lead."""
    keep = "docker-app-2"
    gone = [name for name in MANAGERS if name != keep]
    swarm.faults.crash(VM_ID["docker-app-3"])
    _await_unreachable(swarm, "docker-app-3")
    swarm.declare(nodes=dict.fromkeys(gone), pools={"default": {"cpu": 3}}, guards={"fewerManagers": True})
    swarm.up()
    left = [name for name in SEVEN if name not in gone]
    assert_whole(swarm, names=left, managers=1, address=ADDRESS[keep])
    told = swarm.engine(ADDRESS[keep])
    assert (told["Nodes"], told["Managers"]) == (len(left), 1)
    assert {name.removesuffix("-data") for name in swarm.machines()} == set(left)
    assert set(swarm.members()) == set(left)
    assert swarm.steps() == {}


def _certified(swarm: Project, address: str) -> str:
    """The role that the certificate on a node's disk is for."""
    file = "/var/lib/docker/swarm/certificates/swarm-node.crt"
    subject = swarm.ssh(address, f"openssl x509 -noout -subject -in {file}")
    found = re.search(r"OU\s*=\s*([a-z-]+)", subject)
    assert found is not None, subject
    return found[1]


def _leader(swarm: Project) -> str:
    return next(row[0] for row in swarm.summary() if row[3] == "Leader")


def _ids(swarm: Project, address: str = ADDRESS["docker-app-1"]) -> dict[str, str]:
    return {name: node["ID"] for name, node in swarm.nodes(address).items()}


def _specs(swarm: Project) -> dict[str, object]:
    return {name: (node["ID"], node["Spec"]) for name, node in swarm.nodes().items()}


def _objection(swarm: Project) -> str:
    """The line with which a preview refuses."""
    done = swarm.pulumi("preview", "--stack", "lab", check=False)
    assert done.returncode != 0, done.stdout
    return next(line for line in (done.stdout + done.stderr).splitlines() if "has a problem" in line)


def _await_unreachable(swarm: Project, name: str) -> None:
    limit = time.monotonic() + 60
    while (swarm.nodes()[name].get("ManagerStatus") or {}).get("Reachability") != "unreachable":
        assert time.monotonic() < limit
        time.sleep(0.2)


def _power_intervals(swarm: Project, since: float) -> dict[str, tuple[float, float]]:
    """When each machine was off, as Proxmox VE recorded it: from the first power task to the end of the last."""
    name_of = {str(vm_id): name for name, vm_id in VM_ID.items()}
    found: dict[str, tuple[float, float]] = {}
    for entry in Lab(swarm.folder).record():
        if entry.get("type") not in POWER or entry["time"] < since:
            continue
        name, at = name_of[entry["id"]], entry["time"]
        found[name] = (found.get(name, (at, at))[0], at)
    return found


def _most_at_once(intervals: list[tuple[float, float]]) -> int:
    return max(sum(begun <= at < ended for begun, ended in intervals) for at, _ in intervals)
