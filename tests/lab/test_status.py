"""What an operator sees and does at night: status, the steps it names, rebalance, connect."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxmox_swarm.cli.connect import ssh_command
from proxmox_swarm.host.target import Target
from tests.lab.project import ADDRESS, MANAGERS, ROOT, VM_ID, Project
from tests.lab.support import SEVEN, assert_whole

LEADING = ADDRESS["docker-app-1"]
STORAGE = ("docker-infra-1", "docker-infra-2", "docker-infra-3")
CREATE = "docker service create --detach --quiet --no-resolve-image --stop-signal KILL --update-monitor 1s"
#: A node counts as down 13.5 to 16.5 s after its last heartbeat, and twice that after an election.
DOWN = 90


def look(swarm: Project) -> tuple[int, list[str]]:
    """Exit status and lines of `status` as a person types it."""
    done = swarm.run("proxmox-swarm", "status", check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def data(swarm: Project) -> dict[str, Any]:
    done = swarm.run("proxmox-swarm", "status", "--json", check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit"] == done.returncode
    return found


def until(swarm: Project, holds: Callable[[dict[str, Any]], object], seconds: float = DOWN) -> dict[str, Any]:
    """The first look at which something holds."""
    limit = time.monotonic() + seconds
    while not holds(found := data(swarm)):
        assert time.monotonic() < limit, json.dumps(found, indent=1)
    return found


def is_whole(found: dict[str, Any]) -> bool:
    return bool(found["verdict"] == "whole")


def problems(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(problem["kind"], problem["subject"]) for problem in found["problems"]}


def spread(swarm: Project, service: str) -> dict[str, str]:
    """Node by id of each task that is meant to run: the records of others on a node that is down say "running" for a day."""
    listed = swarm.ssh(
        LEADING,
        f"docker service ps --no-trunc --filter desired-state=running --format '{{{{.ID}}}} {{{{.Node}}}}' {service}",
    )
    return dict(line.split() for line in listed.splitlines())


def leader(swarm: Project) -> str:
    return str(data(swarm)["quorum"]["leader"])


def follower(swarm: Project) -> str:
    """A manager that does not lead: without it nothing waits for an election. Not the one that is asked here."""
    led = leader(swarm)
    return next(name for name in reversed(MANAGERS[1:]) if name != led)


def follow(swarm: Project, step: str) -> None:
    """Do what `next` says, as a person would paste it."""
    swarm.run("bash", "-c", step.split("    ")[0])


@pytest.fixture(scope="module")
def services(swarm: Project) -> Project:
    """A service on the storage nodes, one on the managers, a global one, and a job that has ended."""
    swarm.add_image()
    swarm.ssh(
        LEADING,
        f"{CREATE} --name web --replicas 6 --constraint node.labels.storage==ssd sleeper && "
        f"{CREATE} --name even --replicas 3 --replicas-max-per-node 1 --constraint node.role==manager sleeper && "
        f"{CREATE} --name agent --mode global sleeper && "
        "docker service create --detach --quiet --no-resolve-image --mode replicated-job --name once "
        "sleeper /usr/bin/sleep 0.1",
    )
    until(swarm, lambda found: is_whole(found) and all(s["completed"] in (None, 1) for s in found["services"]))
    return swarm


def test_a_whole_swarm(services: Project) -> None:
    code, lines = look(services)
    assert code == 0
    assert re.match(
        r"WHOLE  swarm \w{4}: managers 3 of 3, can lose 1; nodes 7 of 7 ok; services 4 of 4 whole$", lines[0]
    ), lines
    rows = {line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0] in SEVEN}
    assert list(rows) == SEVEN
    assert sum("leader" in row for row in rows.values()) == 1
    assert all(row[4] == "ready" and "d" in row and "GiB" in row for row in rows.values()), rows
    assert lines[-1] == "next: nothing needs doing"
    found = data(services)
    assert found["clusterId"] == services.outputs()["clusterId"]
    engines = services.nodes()
    assert {n["name"]: n["id"] for n in found["nodes"]} == {name: engine["ID"] for name, engine in engines.items()}
    assert {(n["verdict"], n["engine"], n["state"]) for n in found["nodes"]} == {("ok", "active", "ready")}
    for node in found["nodes"]:
        # 90 days, of which hardly anything is gone; the moments in a certificate are rounded to minutes.
        assert 89 < node["certificate"]["secondsLeft"] / 86400 < 90.01, node
        mounted = {disk["path"] for disk in node["disks"] if disk["mounted"]}
        assert mounted == {"/", "/var/lib/docker", *(["/var/lib/data"] if node["name"] in STORAGE else [])}
    told = {s["name"]: (s["mode"], s["running"], s["wanted"], s["completed"]) for s in found["services"]}
    assert told == {
        "web": ("replicated", 6, 6, None),
        "even": ("replicated", 3, 3, None),
        "agent": ("global", 7, 7, None),
        "once": ("replicated-job", 0, 1, 1),
    }


def test_the_keys_of_the_json_are_on_the_page(services: Project) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    found = data(services)

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for name, inner in value.items() if name != "labels" for key in keys(inner)}
        return {key for inner in value for key in keys(inner)} if isinstance(value, list) else set()

    assert {key for key in keys(found) if f"`{key}`" not in page} == set()


def test_a_stopped_worker_and_evening_out_when_it_is_back(services: Project) -> None:
    services.faults.crash(VM_ID["docker-infra-2"])
    off = {("machine", "docker-infra-2")}
    found = until(services, lambda found: problems(found) == off and "has it as down" in found["problems"][0]["text"])
    assert found["verdict"] == "degraded"
    assert found["quorum"]["margin"] == 1
    assert "its machine is stopped" in found["problems"][0]["text"]
    assert found["next"].startswith("proxmox-swarm start docker-infra-2    ")
    assert set(spread(services, "web").values()) == {"docker-infra-1", "docker-infra-3"}
    follow(services, found["next"])
    found = until(services, is_whole)
    assert found["uneven"] == ["web"]
    assert found["next"].startswith("proxmox-swarm rebalance ")
    before = {name: spread(services, name) for name in ("web", "even", "agent")}

    said = services.run("proxmox-swarm", "rebalance", "--dry-run").stdout
    assert "web: uneven (docker-infra-1 3, docker-infra-2 0, docker-infra-3 3); would restart all 6 tasks" in said
    assert {name: spread(services, name) for name in before} == before

    said = services.run("proxmox-swarm", "rebalance").stdout
    assert "restarting all 6 tasks, 1 at a time, stop-first" in said
    assert "of 6 tasks moved" in said and "docker-infra-2 0 → 2" in said, said
    assert "even: not touched, even" in said and "agent: not touched, global" in said, said
    web = spread(services, "web")
    assert sorted(web.values()) == sorted([*STORAGE, *STORAGE])
    assert not set(web) & set(before["web"]), "a forced update restarts every task"
    assert {name: spread(services, name) for name in ("even", "agent")} == {
        name: before[name] for name in ("even", "agent")
    }
    assert services.run("proxmox-swarm", "rebalance").stdout.splitlines()[-1] == "nothing to even out"
    assert spread(services, "web") == web


def test_a_service_that_cannot_start_is_told_with_its_reason(services: Project) -> None:
    services.ssh(LEADING, f"{CREATE} --name absent --replicas 2 nowhere:1")
    services.ssh(LEADING, f"{CREATE} --name nowhere --constraint node.labels.storage==tape sleeper")
    try:
        found = until(services, lambda found: all(problem["text"].endswith('"') for problem in found["problems"][:2]))
        assert problems(found) == {("service", "absent"), ("service", "nowhere")}
        texts = {problem["subject"]: problem["text"] for problem in found["problems"]}
        assert re.match(r'0 of 2 running: rejected on \S+ at .* UTC: "No such image: nowhere:1"$', texts["absent"])
        assert "scheduling constraints not satisfied on 7 nodes" in texts["nowhere"]
        follow(services, found["next"])
    finally:
        services.ssh(LEADING, "docker service rm absent nowhere")
    assert is_whole(data(services))


def test_a_drain_by_hand_is_told_and_no_fault(services: Project) -> None:
    services.run("proxmox-swarm", "drain", "swarmpit-mgmt", "--reason", "new fan")
    code, lines = look(services)
    assert code == 0, lines
    assert any("swarmpit-mgmt is drained by hand: new fan" in line for line in lines)
    assert any("ready drain by hand: new fan" in line for line in lines)
    assert lines[-1].startswith("next: proxmox-swarm undrain swarmpit-mgmt ")
    follow(services, lines[-1].removeprefix("next: "))
    until(services, is_whole)


def test_a_member_that_is_not_declared_and_one_that_is_not_as_declared(services: Project) -> None:
    try:
        services.declare(nodes={"swarmpit-mgmt": None, "docker-infra-1": {"labels": {"zone": "a"}}})
        found = data(services)
    finally:
        services.declare()
    assert problems(found) == {("undeclared", "swarmpit-mgmt"), ("drifted", "docker-infra-1")}
    assert [node["name"] for node in found["nodes"] if not node["declared"]] == ["swarmpit-mgmt"]


def test_an_engine_that_is_down_is_started_by_the_step_that_is_named(services: Project) -> None:
    services.ssh(ADDRESS["docker-infra-3"], "systemctl stop docker.socket docker")
    found = data(services)
    assert ("engine", "docker-infra-3") in problems(found)
    assert found["next"] == "proxmox-swarm connect docker-infra-3 -- sudo systemctl restart docker"
    follow(services, found["next"])
    until(services, is_whole)


def test_connect_knows_a_node_by_the_pinned_key_alone(services: Project) -> None:
    words = ("sh", "-c", 'hostname; echo "two  spaces"; exit 7')
    known = services.folder / "known_hosts"
    content = known.read_text()
    known.write_text("")
    try:
        done = services.run("proxmox-swarm", "connect", "docker-infra-1", "--", *words, check=False)
    finally:
        known.write_text(content)
    assert (done.returncode, done.stdout) == (7, "docker-infra-1\ntwo  spaces\n"), done.stderr
    keys = services.outputs()["sshHostKeys"]
    stranger = Target("docker-infra-1", ADDRESS["docker-infra-1"], "ansible", keys["docker-infra-2"])
    refused = services.exec(*ssh_command(stranger, ["hostname"], {}, terminal=False), check=False)
    assert refused.returncode == 255 and refused.stdout == ""
    assert "Host key verification failed" in refused.stderr
    unknown = services.run("proxmox-swarm", "connect", "docker-infra-9", check=False)
    assert unknown.returncode == 1
    assert f"declares no node docker-infra-9; it has: {', '.join(SEVEN)}" in unknown.stderr


def test_nothing_to_look_at_has_an_exit_status_of_its_own(services: Project) -> None:
    done = services.run("proxmox-swarm", "status", "--stack", "nosuch", "--json", check=False)
    assert done.returncode == 3
    assert json.loads(done.stdout)["verdict"] == "unknown"
    services.declare(nodes={"docker-app-1": {"ip": 31}})
    try:
        done = services.run("proxmox-swarm", "status", check=False)
    finally:
        services.declare()
    assert done.returncode == 3
    assert "docker-app-2 has it already" in done.stderr or "docker-app-1 has it already" in done.stderr, done.stderr


def test_the_leader_s_machine_dies_and_is_started_by_the_step_that_is_named(services: Project) -> None:
    led = leader(services)
    services.faults.crash(VM_ID[led])

    def another_leads(found: dict[str, Any]) -> bool:
        quorum = found["quorum"] or {"leader": ""}
        return quorum["leader"] not in ("", led) and quorum["reachable"] == 2 and ("machine", led) in problems(found)

    found = until(services, another_leads)
    assert found["exit"] == 1, found["summary"]
    assert found["next"] == f"proxmox-swarm start {led}    Proxmox VE says that {led} is off"
    follow(services, found["next"])
    until(services, is_whole, 180)
    assert_whole(services)


def test_managers_down_one_then_two_and_back_by_the_step_that_is_named(services: Project) -> None:
    third = follower(services)
    second = next(name for name in MANAGERS[1:] if name != third)
    services.ssh(
        LEADING,
        f"{CREATE} --name moves --replicas 3 --restart-delay 1s --constraint node.role==manager sleeper",
    )
    until(services, is_whole)
    assert sorted(spread(services, "moves").values()) == MANAGERS
    services.faults.crash(VM_ID[third])
    until(services, lambda found: ("machine", third) in problems(found) and found["quorum"]["reachable"] == 2)
    code, lines = look(services)
    assert code == 1
    assert lines[0].startswith("DEGRADED  swarm ") and "managers 2 of 3, NONE TO SPARE" in lines[0]

    def moved(found: dict[str, Any]) -> bool:
        running = {service["name"]: service["running"] for service in found["services"] or []}
        return running.get("moves") == 3 and third not in spread(services, "moves").values()

    until(services, moved)

    services.faults.crash(VM_ID[second])
    begun = time.monotonic()
    code, lines = look(services)
    took = time.monotonic() - begun
    assert code == 2, lines
    # A leader still leads for a moment; then nobody does.
    assert re.match(r"NO QUORUM  swarm \w{4}: (managers 1 of 3|1 of 3 declared managers answer), 2 needed; ", lines[0])
    assert took < 90, f"{took:.0f} s, of which the look itself at most 45"
    found = until(services, lambda found: found["quorum"] is None)
    assert found["services"] is None
    assert {n["name"]: n["verdict"] for n in found["nodes"]} == {
        name: "unreachable" if name in (second, third) else "leaderless" for name in SEVEN
    }
    assert problems(found) == {("quorum", ""), ("machine", second), ("machine", third)}
    assert found["next"].startswith(f"proxmox-swarm start {' '.join(MANAGERS[1:])}    "), found["next"]
    assert "proxmox-swarm recover" in found["next"]

    follow(services, found["next"])
    until(services, is_whole, 180)
    assert_whole(services)
    services.ssh(LEADING, "docker service rm moves")


def test_a_manager_whose_machine_was_deleted_is_made_anew_by_the_step_that_is_named(services: Project) -> None:
    gone = follower(services)
    former = services.nodes()[gone]["ID"]
    services.destroy_machine(VM_ID[gone])
    found = until(services, lambda found: ("machine", gone) in problems(found) and found["quorum"]["reachable"] == 2)
    assert found["exit"] == 1 and "its machine is absent" in found["problems"][0]["text"], found["problems"]
    assert found["next"] == f"make up    starts {gone} if off, makes what is gone"
    follow(services, found["next"])
    assert_whole(services)
    assert services.nodes()[gone]["ID"] != former
    services.add_image([ADDRESS[gone]])
    until(services, is_whole)
