"""The command that status ends with: one that can be pasted, and that helps with what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxmox_swarm.cli import start as start_command
from proxmox_swarm.cli import status as status_command
from proxmox_swarm.cli.connect import ssh_command
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.main import app
from proxmox_swarm.cli.next_step import next_step
from proxmox_swarm.cli.stack_nodes import of_outputs
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.cli.table import verdict_line
from proxmox_swarm.host.facts import Disk
from proxmox_swarm.host.target import Target
from proxmox_swarm.proxmox.client import Guest, ProxmoxError
from proxmox_swarm.swarm.inventory import NodeEntry
from proxmox_swarm.swarm.quorum import Quorum
from proxmox_swarm.swarm.services import ServiceStatus
from proxmox_swarm.swarm.status import GIB, DeclaredNode, NodeStatus, Status

ROOT = Path(__file__).parents[3]


def node(name: str, role: str = "worker", **change: Any) -> NodeStatus:
    declared = DeclaredNode(name, "10.0.0.1", "pve01", 100, role, "active", {}, None)  # type: ignore[arg-type]
    leader = name == "m1"
    entry = NodeEntry(f"id-{name}", name, "10.0.0.1", role, "active", "ready", "reachable", leader, "29.8.2", {})
    made = NodeStatus(name, "10.0.0.1", role, declared, entry, "ok", "", engine="active", answers=True)
    return replace(made, **change)


def whole() -> Status:
    managers = [node(f"m{i}", "manager") for i in (1, 2, 3)]
    return Status("c" * 25, (*managers, node("w1"), node("w2")), Quorum(3, 3), (), False)


def with_node(name: str, **change: Any) -> Status:
    status = whole()
    return replace(status, nodes=tuple(replace(n, **change) if n.name == name else n for n in status.nodes))


OFF = {"verdict": "unreachable", "detail": "no answer", "engine": "", "answers": False}


def without_quorum(*off: str, **change: Any) -> Status:
    status = whole()
    nodes = tuple(
        replace(n, entry=None, **(OFF | change)) if n.name in off else replace(n, entry=None, verdict="leaderless")
        for n in status.nodes
    )
    return replace(status, nodes=nodes, quorum=None, services=None, ca_rotation=None, why="no leader")


BROKEN = ServiceStatus("s", "web", "replicated", 1, 3, 0, False, "rejected")


#: What is found, and the command that helps with it.
FOUND = [
    (whole(), "nothing needs doing"),
    (with_node("w1", hand_drain="new fan"), "proxmox-swarm undrain w1 --stack prod"),
    (replace(whole(), ca_rotation=True), "proxmox-swarm status --stack prod"),
    (replace(whole(), uneven=("web",)), "proxmox-swarm rebalance --stack prod"),
    (with_node("w1", **OFF, power="stopped"), "proxmox-swarm start w1 --stack prod"),
    (with_node("w1", **OFF, power="running"), "proxmox-swarm status --stack prod"),
    (with_node("w1", **OFF), "pulumi up --refresh -s prod"),
    (
        with_node("w1", **OFF | {"answers": True}),
        "proxmox-swarm connect w1 --stack prod -- sudo systemctl restart docker",
    ),
    (
        with_node("w1", **OFF | {"answers": True, "unit": "failed"}),
        "proxmox-swarm connect w1 --stack prod -- sudo journalctl --no-pager -n 40 -u docker",
    ),
    (with_node("m2", verdict="locked"), "proxmox-swarm unlock --stack prod"),
    (with_node("w1", verdict="left"), "pulumi up --refresh -s prod"),
    (with_node("w1", verdict="foreign"), "proxmox-swarm connect w1 --stack prod -- docker info"),
    (with_node("w1", verdict="twin"), "proxmox-swarm connect w1 --stack prod -- docker info"),
    (with_node("w1", verdict="drifted"), "pulumi up --refresh -s prod"),
    (
        with_node("w1", disks=(Disk("/", 50 * GIB, GIB),)),
        "proxmox-swarm connect w1 --stack prod -- docker system df",
    ),
    (
        with_node("w1", disks=(Disk("/var/lib/data", 0, 0, mounted=False),)),
        "proxmox-swarm connect w1 --stack prod -- systemctl --failed --type mount",
    ),
    (
        replace(whole(), services=(BROKEN,)),
        "proxmox-swarm connect m1 --stack prod -- docker service ps --no-trunc web",
    ),
    (
        with_node("w2", declared=None, verdict="undeclared"),
        "proxmox-swarm connect m1 --stack prod -- docker node demote id-w2",
    ),
    (without_quorum("m2", "m3", power="stopped"), "proxmox-swarm start m2 m3 --stack prod"),
    (
        without_quorum("m2", "m3", answers=True),
        "proxmox-swarm connect m2 --stack prod -- sudo systemctl restart docker",
    ),
    (
        without_quorum("m2", "m3", answers=True, unit="failed"),
        "proxmox-swarm connect m2 --stack prod -- sudo journalctl --no-pager -n 40 -u docker",
    ),
    (without_quorum("m1", "m2", "m3", "w1", "w2"), "proxmox-swarm connect m1 --stack prod"),
]


@pytest.mark.parametrize(("status", "step"), FOUND)
def test_what_helps_with_it(status: Status, step: str) -> None:
    assert next_step(status, "prod").split("    ")[0] == step


def test_a_member_nobody_declared_is_removed_as_declared_where_that_is_declared() -> None:
    stranger = with_node("w2", declared=None, verdict="undeclared")
    assert next_step(stranger, "lab", undeclared="remove").startswith("make up    removes w2")
    assert next_step(stranger, "lab").startswith("proxmox-swarm connect m1 -- docker node ")
    nowhere = with_node("w2", declared=None, verdict="undeclared", address="")
    assert next_step(nowhere, "lab", undeclared="remove").startswith("proxmox-swarm connect m1 -- docker node ")


def test_nothing_is_asked_of_a_leader_that_nobody_declared() -> None:
    stranger = with_node("m1", declared=None, verdict="undeclared")
    assert next_step(stranger, "lab").startswith("proxmox-swarm connect m2 -- docker node demote id-m1")


def test_what_needs_a_quorum_is_no_step_without_one() -> None:
    failed = {"answers": True, "unit": "failed"}
    assert "make up" in next_step(with_node("w1", **OFF | failed), "lab")
    assert "make up" not in next_step(without_quorum("m2", "m3", **failed), "lab")


def test_commands_of_the_lab_need_no_stack() -> None:
    assert next_step(with_node("w1", **OFF), "lab").startswith("make up    ")
    assert next_step(with_node("w1", hand_drain="x"), "lab").startswith("proxmox-swarm undrain w1    ")


def test_nodes_nobody_heard_after_an_election_are_looked_at_again() -> None:
    entry = whole().nodes[3].entry
    assert entry is not None
    status = with_node("w1", verdict="not_ready", entry=replace(entry, state="unknown"))
    assert "half a minute" in next_step(status, "lab")


def test_the_most_urgent_comes_first() -> None:
    status = replace(with_node("w1", verdict="drifted"), services=(BROKEN,))
    status = replace(status, nodes=tuple(replace(n, **OFF) if n.name == "w2" else n for n in status.nodes))
    assert [problem.kind for problem in status.problems] == ["machine", "service", "drifted"]
    assert "w2" in next_step(status, "lab")


def test_the_first_line_has_the_verdict_and_the_margin() -> None:
    assert verdict_line(whole()).startswith("WHOLE  swarm cccc: managers 3 of 3, can lose 1; nodes 5 of 5 ok")
    lost = replace(with_node("m2", **OFF), quorum=Quorum(3, 2))
    assert verdict_line(lost).startswith("DEGRADED  swarm cccc: managers 2 of 3, NONE TO SPARE; nodes 4 of 5 ok")
    assert verdict_line(without_quorum("m2", "m3")).startswith(
        "NO QUORUM  swarm cccc: 1 of 3 declared managers answer, 2 needed; nothing can be changed"
    )
    a_moment_ago = replace(whole(), quorum=Quorum(3, 1))
    assert verdict_line(a_moment_ago).startswith("NO QUORUM  swarm cccc: managers 1 of 3, 2 needed; ")


def test_every_kind_of_status_is_json() -> None:
    for status in (whole(), without_quorum("m2", "m3"), with_node("w2", declared=None, verdict="undeclared")):
        told = json.loads(json.dumps(status_command.as_data(status, "lab", next_step(status, "lab"))))
        assert told["exit"] == status_command.EXIT[status.verdict]
        assert {n["name"] for n in told["nodes"]} == {"m1", "m2", "m3", "w1", "w2"}


def test_a_node_is_known_by_the_id_that_the_outputs_record() -> None:
    recorded = {"name": "docker-app-1", "id": "id-1", "address": "192.168.4.30", "role": "manager", "vmId": 4100}
    outputs = {"clusterId": "c", "sshHostKeys": {}, "nodes": [recorded]}
    found = of_outputs(read_settings(ROOT, "prod"), outputs).declared
    assert {node.name: node.node_id for node in found if node.node_id} == {"docker-app-1": "id-1"}
    assert not any(node.node_id for node in of_outputs(read_settings(ROOT, "prod"), outputs | {"nodes": None}).declared)


def test_settings_that_cannot_be_used_have_an_exit_status_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["status", "--stack", "prod", "--json"])
    assert done.exit_code == 3
    assert "there is no Pulumi.prod.yaml" in done.output
    assert '"verdict": "unknown"' in done.output


def test_connect_trusts_the_pinned_key_alone_and_keeps_words_apart() -> None:
    target = Target("w1", "10.0.0.4", "ansible", "ssh-ed25519 AAAA", 2222)
    environment = {"PROXMOX_SWARM_SSH_KEY": "/k", "PROXMOX_SWARM_SSH_JUMP": "me@gate:22"}
    words = ssh_command(target, ["echo", "two  words"], environment, terminal=True)
    assert words[0] == "ssh"
    assert "KnownHostsCommand=/bin/echo w1 ssh-ed25519 AAAA" in words
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"} <= set(words)
    assert words[words.index("-i") + 1] == "/k"
    assert words[words.index("-J") + 1] == "me@gate:22"
    assert "-t" in words
    assert words[-5:] == ["-p", "2222", "ansible@10.0.0.4", "--", "echo 'two  words'"]
    assert "-t" not in ssh_command(target, [], {}, terminal=True)


class Proxmox:
    """Three machines of ours, one of somebody else."""

    def __init__(self) -> None:
        self.started: list[int] = []
        tags = ("swarm-prod",)
        self.listed = [
            Guest(4100, "docker-app-1", "pve01", "qemu", "running", tags),
            Guest(4101, "docker-app-2", "pve02", "qemu", "stopped", tags),
            Guest(4102, "docker-app-3", "pve03", "qemu", "stopped", tags),
            Guest(4200, "docker-infra-1", "pve01", "qemu", "stopped", ("other",)),
        ]

    def guests(self) -> tuple[Guest, ...]:
        return tuple(self.listed)

    def power(self, guest: Guest, action: str, *, timeout: float) -> None:
        assert action == "start" and timeout > 0
        if guest.vm_id == 4101:
            raise ProxmoxError("start of docker-app-2 failed: no quorum on pve02")
        self.started.append(guest.vm_id)


def test_start_starts_what_is_off_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    proxmox = Proxmox()
    monkeypatch.setattr(start_command, "Client", lambda endpoints, insecure: proxmox)
    said: list[str] = []
    start_command.start("prod", ROOT, ["docker-app-1", "docker-app-3"], said.append)
    assert proxmox.started == [4102]
    assert [line.split(" (")[0] for line in said] == ["docker-app-1: runs already", "docker-app-3: started"]
    with pytest.raises(CommandError) as refused:
        start_command.start(
            "prod", ROOT, ["docker-app-2", "docker-infra-1", "docker-infra-2", "docker-app-3"], said.append
        )
    for part in ("no quorum on pve02", "is not this stack's", "has no machine 4201"):
        assert part in str(refused.value)
    assert proxmox.started == [4102, 4102]
    with pytest.raises(CommandError, match="declares no node nobody"):
        start_command.start("prod", ROOT, ["nobody"], said.append)
