"""What can happen to a member, and what the program makes of it: found, refused, told, put right."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole

LABELS = {name: {"storage": "ssd"} if "infra" in name else {} for name in SEVEN} | {
    "swarmpit-mgmt": {"portainer.data": "true"}
}
#: What a machine that was made anew behind our back looks like to the swarm: the same address, an engine never seen before.
EMPTY_ENGINE = (
    "systemctl stop docker.socket docker && find /var/lib/docker -mindepth 1 -maxdepth 1 -exec rm -rf {} +"
    " && rm -f /etc/docker/key.json && systemctl start docker"
)


@pytest.fixture(autouse=True)
def declared_as_before(swarm: Project) -> Iterator[None]:
    """Each test starts from, and leaves, the stack file as it is in the repository."""
    yield
    swarm.declare()


def assert_as_declared(swarm: Project) -> None:
    """The engines agree with the stack file, and so does state."""
    assert_whole(swarm)
    assert {name: node["Spec"].get("Labels", {}) for name, node in swarm.nodes().items()} == LABELS
    assert swarm.verdicts() == {}


def test_a_swarm_that_state_has_forgotten_is_adopted(swarm: Project) -> None:
    swarm.add_image()
    swarm.ssh(
        ADDRESS["docker-app-1"],
        "docker service create --quiet --no-resolve-image --mode global --stop-signal KILL --name web sleeper",
    )
    before = {"nodes": _ids(swarm), "cluster": swarm.outputs()["clusterId"], "tasks": _tasks(swarm)}
    assert sorted(before["tasks"].values()) == sorted(SEVEN)
    swarm.forget_swarm()
    assert swarm.members() == {}
    steps = swarm.steps()
    assert steps == {
        **{f"Member {name}": "create" for name in SEVEN},
        "Cluster managers": "create",
        "Autolock managers": "create",
        "ClusterSettings managers": "create",
        "TokenRotation worker-token": "create",
        "TokenRotation manager-token": "create",
        "Undeclared undeclared": "create",
        "CaRotation ca": "create",
    }

    swarm.make("up")

    assert {"nodes": _ids(swarm), "cluster": swarm.outputs()["clusterId"], "tasks": _tasks(swarm)} == before
    assert_as_declared(swarm)
    assert swarm.steps() == {}
    swarm.ssh(ADDRESS["docker-app-1"], "docker service rm web")


def test_a_host_that_is_cut_off_is_kept_and_told_and_quiet_when_it_is_back(swarm: Project) -> None:
    node_id = swarm.members()["docker-infra-2"]["node_id"]
    swarm.faults.cut(VM_ID["docker-infra-2"])
    try:
        swarm.refresh()
        found = swarm.members()["docker-infra-2"]
        assert swarm.verdicts() == {"docker-infra-2": "unreachable"}
        assert found["node_id"] == node_id
        assert found["labels"] == LABELS["docker-infra-2"]
        assert "192.168.4.41" in found["detail"] or "port 22" in found["detail"], found["detail"]
        assert swarm.steps() == {"Member docker-infra-2": "update"}
    finally:
        swarm.faults.mend(VM_ID["docker-infra-2"])
    assert "no change" in swarm.make("up").stdout
    assert_as_declared(swarm)
    assert swarm.steps() == {}


def test_preview_says_what_becomes_of_a_machine_that_is_off(swarm: Project) -> None:
    swarm.faults.crash(VM_ID["swarmpit-mgmt"])
    assert swarm.steps() == {}  # state knows nothing of it, and nothing asks
    assert swarm.steps("--refresh") == {"VmLegacy swarmpit-mgmt": "update", "Member swarmpit-mgmt": "update"}
    assert swarm.machines()["swarmpit-mgmt"] == "stopped"
    swarm.make("up")
    assert_as_declared(swarm)


def test_a_host_key_that_changed_on_the_machine_is_refused(swarm: Project) -> None:
    address = ADDRESS["docker-infra-1"]
    careless = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
    before = _ids(swarm)
    swarm.ssh(
        address,
        "cd /etc/ssh && mkdir kept && cp -p ssh_host_ed25519_key* kept/ && rm ssh_host_ed25519_key* &&"
        " ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key && systemctl restart ssh",
    )
    try:
        swarm.refresh()
        assert swarm.verdicts() == {"docker-infra-1": "unreachable"}
        assert "not the pinned" in swarm.members()["docker-infra-1"]["detail"]
        said = swarm.refused()
        assert "docker-infra-1" in said and address in said, said
        assert "host key" in said and "not the pinned" in said, said
    finally:
        script = "cd /etc/ssh && mv -f kept/* . && rmdir kept && systemctl restart ssh"
        swarm.exec("ssh", *careless, f"ansible@{address}", "sudo", "-n", "sh", "-c", f"'{script}'")
    swarm.up("--refresh")
    assert _ids(swarm) == before
    assert_as_declared(swarm)


def test_a_member_that_left_and_one_that_was_removed_are_told_apart_and_repaired(swarm: Project) -> None:
    ids = _ids(swarm)
    swarm.ssh(ADDRESS["docker-infra-1"], "docker swarm leave")
    swarm.ssh(ADDRESS["docker-app-3"], "docker swarm leave --force")
    swarm.ssh(ADDRESS["docker-app-1"], f"docker node rm --force {ids['docker-infra-2']}")

    swarm.refresh()
    assert swarm.verdicts() == {"docker-infra-1": "left", "docker-app-3": "left", "docker-infra-2": "removed"}
    assert swarm.steps() == {f"Member {n}": "update" for n in ("docker-app-3", "docker-infra-1", "docker-infra-2")}

    swarm.make("up")

    assert_as_declared(swarm)
    changed = {name for name, node_id in _ids(swarm).items() if node_id != ids[name]}
    assert changed == {"docker-infra-1", "docker-app-3", "docker-infra-2"}


def test_rebuilt_machines_are_told_and_repaired_and_no_ghost_stays(swarm: Project) -> None:
    """A worker and a manager that came back empty, and a worker that somebody joined again by hand."""
    ids = _ids(swarm)
    rebuilt, joined, manager = "docker-infra-1", "docker-infra-2", "docker-app-2"
    for name in (rebuilt, joined, manager):
        swarm.ssh(ADDRESS[name], EMPTY_ENGINE)
    token = swarm.ssh(ADDRESS["docker-app-1"], "docker swarm join-token -q worker").strip()
    swarm.ssh(ADDRESS[joined], f"docker swarm join --token {token} {ADDRESS['docker-app-1']}:2377")

    expected = {rebuilt: "rebuilt", joined: "drifted", manager: "rebuilt"}
    for _ in range(2):  # a second look says the same
        swarm.refresh()
        assert swarm.verdicts() == expected
    shown = swarm.pulumi("preview", "--stack", "lab").stdout
    assert f"{rebuilt}: rebuilt (another machine answers at its address, in no swarm): joins" in shown
    assert f"{joined}: drifted (an earlier machine's node is left behind: {ids[joined]}" in shown
    assert swarm.steps() == {f"Member {name}": "update" for name in expected}

    swarm.up("--refresh")

    listed = swarm.ssh(ADDRESS["docker-app-1"], "docker node ls -q").split()
    assert len(listed) == len(SEVEN) and not {ids[name] for name in expected} & set(listed)
    assert_as_declared(swarm)
    assert swarm.steps() == {}


def test_each_closed_port_is_named_with_its_direction_before_a_join_that_would_hang(swarm: Project) -> None:
    joiner, address = "swarmpit-mgmt", ADDRESS["swarmpit-mgmt"]
    swarm.ssh(address, "docker swarm leave")
    at_managers = f"INPUT -s {address} -p tcp --dport 2377 -j DROP"
    at_joiner = [f"INPUT -p {kind} -j DROP" for kind in ("tcp --dport 7946", "udp --dport 7946", "udp --dport 4789")]
    with swarm.rules({**{ADDRESS[name]: [at_managers] for name in MANAGERS}, address: at_joiner}):
        begun = time.monotonic()
        said = swarm.refused("--refresh")
        assert time.monotonic() - begun < 30, said
        through = next(name for name in MANAGERS if f"2377/tcp {joiner} → {name}" in said)
        for port in ("7946/tcp", "7946/udp", "4789/udp"):
            assert f"{port} {through} → {joiner}" in said, said
        assert f"{joiner} ({address})" in said or address in said, said
        assert swarm.engine(address)["LocalNodeState"] == "inactive"
    swarm.up("--refresh")
    assert_as_declared(swarm)


def test_a_manager_that_others_cannot_reach_does_not_join(swarm: Project) -> None:
    joiner, address = "docker-app-3", ADDRESS["docker-app-3"]
    swarm.ssh(address, "docker swarm leave --force")
    with swarm.rules({address: ["INPUT -p tcp --dport 2377 -j DROP"]}):
        said = swarm.refused("--refresh")
        assert any(f"2377/tcp {name} → {joiner}: no answer" in said for name in MANAGERS[:2]), said
        assert swarm.engine(address)["LocalNodeState"] == "inactive"
    swarm.up("--refresh")
    assert_as_declared(swarm)


def test_members_of_another_swarm_are_refused_with_its_id_and_left_alone(swarm: Project) -> None:
    manager, worker = ADDRESS["swarmpit-mgmt"], ADDRESS["docker-infra-3"]
    swarm.ssh(manager, f"docker swarm leave && docker swarm init --advertise-addr {manager}")
    token = swarm.ssh(manager, "docker swarm join-token -q worker").strip()
    swarm.ssh(worker, f"docker swarm leave && docker swarm join --token {token} {manager}:2377")
    theirs = swarm.engine(manager)["Cluster"]["ID"]
    other = swarm.nodes(manager)
    assert sorted(other) == ["docker-infra-3", "swarmpit-mgmt"]

    said = swarm.refused("--refresh")
    assert swarm.verdicts() == {"docker-infra-3": "foreign", "swarmpit-mgmt": "foreign"}
    assert f"worker of swarm {theirs}" in said and manager in said, said
    assert "docker-infra-3" in said and worker in said, said
    assert _specs(swarm.nodes(manager)) == _specs(other)

    swarm.ssh(worker, "docker swarm leave")
    said = swarm.refused("--refresh")
    assert f"manager of swarm {theirs}" in said, said
    assert "swarmpit-mgmt" in said and manager in said, said
    assert _specs(swarm.nodes(manager)) == _specs(other)
    assert "docker-infra-3" in swarm.nodes()

    swarm.ssh(manager, "docker swarm leave --force")
    swarm.up("--refresh")
    assert_as_declared(swarm)


def test_no_swarm_is_made_while_a_declared_manager_does_not_answer(swarm: Project) -> None:
    former = swarm.outputs()["clusterId"]
    missing, address = "docker-app-2", ADDRESS["docker-app-2"]
    swarm.everywhere(lambda node: swarm.ssh(node, "docker swarm leave --force"))
    swarm.forget_swarm()
    swarm.declare(deadlines={"join": "5s"})
    swarm.faults.crash(VM_ID[missing])

    begun = time.monotonic()
    said = swarm.refused()
    assert time.monotonic() - begun < 30
    assert "initialising the swarm" in said, said
    assert f"{missing} ({address})" in said, said
    states = {name: swarm.engine(ADDRESS[name])["LocalNodeState"] for name in SEVEN if name != missing}
    assert set(states.values()) == {"inactive"}, states

    swarm.power_on(VM_ID[missing])
    swarm.declare()
    swarm.make("up")

    assert swarm.outputs()["clusterId"] != former
    assert {swarm.engine(ADDRESS[name])["Cluster"]["ID"] for name in MANAGERS} == {swarm.outputs()["clusterId"]}
    assert_as_declared(swarm)


def test_a_member_nobody_declared_is_told_and_removed_by_policy_only(swarm: Project) -> None:
    """A manager and a worker: the fourth in raft is demoted under the guard before it is removed."""
    strangers = manager, worker = "docker-infra-3", "swarmpit-mgmt"
    rest = [name for name in SEVEN if name not in strangers]
    swarm.ssh(ADDRESS["docker-app-1"], f"docker node promote {manager}")
    assert_whole(swarm, managers=4)
    for stranger in strangers:
        swarm.forget_node(stranger)
    swarm.declare(nodes=dict.fromkeys(strangers))
    swarm.up()
    swarm.up("--refresh")  # what leaves by a plan is no stranger yet; what is still there at the next look is one
    told = {node["hostname"]: node["role"] for node in swarm.outputs()["undeclared"]}
    assert told == {manager: "manager", worker: "worker"}
    shown = swarm.pulumi("preview", "--stack", "lab").stdout
    assert all(f"{stranger} ({ADDRESS[stranger]}, id " in shown for stranger in strangers), shown
    assert swarm.steps() == {}
    assert_whole(swarm, managers=4)
    assert " -- docker node " in _next_step(swarm)

    swarm.declare(nodes=dict.fromkeys(strangers), cluster={"undeclared": "remove"})
    assert _next_step(swarm).startswith("make up    removes ")
    shown = swarm.pulumi("preview", "--stack", "lab").stdout
    for stranger, steps in ((manager, "drain, demote, remove"), (worker, "drain, remove")):
        assert re.search(rf"{stranger}: {ADDRESS[stranger]}, id \w+: nobody declared it: {steps}", shown), shown
    assert swarm.steps() == {"Undeclared undeclared": "update"}
    swarm.up()
    assert_whole(swarm, rest)
    engine = swarm.engine(ADDRESS["docker-app-1"])
    assert (engine["Nodes"], engine["Managers"]) == (len(rest), 3)
    assert swarm.steps() == {}


def _next_step(swarm: Project) -> str:
    """What `status` says to do."""
    found = json.loads(swarm.run("proxmox-swarm", "status", "--json", check=False).stdout)
    assert {problem["kind"] for problem in found["problems"]} == {"undeclared"}, found["problems"]
    return str(found["next"])


def _ids(swarm: Project) -> dict[str, str]:
    return {name: node["ID"] for name, node in swarm.nodes().items()}


def _specs(nodes: dict[str, dict[str, object]]) -> dict[str, object]:
    return {name: (node["ID"], node["Spec"]) for name, node in nodes.items()}


def _tasks(swarm: Project) -> dict[str, str]:
    """The tasks of service ``web`` once all seven run."""
    limit = time.monotonic() + 30
    while len(found := swarm.tasks("web", ADDRESS["docker-app-1"])) < len(SEVEN) and time.monotonic() < limit:
        time.sleep(0.2)
    return found
