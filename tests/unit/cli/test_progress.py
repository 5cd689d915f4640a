from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli.progress import Progress, line
from proxmox_swarm.settings import Settings, load, read_stack_file

ROOT = Path(__file__).parents[3]
MANAGERS = ["docker-app-1", "docker-app-2", "docker-app-3"]
WORKERS = ["docker-infra-1", "docker-infra-2", "docker-infra-3", "swarmpit-mgmt"]
NODES = [*MANAGERS, *WORKERS]

# Recorded from `pulumi up --event-log` (3.259.0), shortened.
PRELUDE = '{"sequence":0,"timestamp":1795256236,"preludeEvent":{"config":{"proof:a":"one"}}}'
DEBUG = (
    '{"sequence":4,"timestamp":1795256236,"diagnosticEvent":{"prefix":"debug: ","message":"beginning rpc register '
    'resource\\n","color":"never","severity":"debug"}}'
)
INFO = (
    '{"sequence":9,"timestamp":1795256237,"diagnosticEvent":{"message":"one: said by provider\\n\\n","color":"never",'
    '"severity":"info"}}'
)
STACK = (
    '{"sequence":30,"timestamp":1795256250,"resOutputsEvent":{"metadata":{"op":"same","urn":"urn:pulumi:proof::proof::'
    'pulumi:pulumi:Stack::proof-proof","type":"pulumi:pulumi:Stack"}}}'
)
ERROR = (
    '{"sequence":24,"timestamp":1795256262,"diagnosticEvent":{"urn":"urn:pulumi:proof::proof::pulumi-python:dynamic/'
    'swarm:Member::docker-app-2","prefix":"error: ","message":"\\u003c{%reset%}\\u003eException calling application: '
    'docker-app-2: cannot\\nsecond line\\u003c{%reset%}\\u003e\\n","color":"never","severity":"error"}}'
)
FAILED = (
    '{"sequence":25,"timestamp":1795256262,"resOpFailedEvent":{"metadata":{"op":"create","urn":"urn:pulumi:proof::'
    'proof::pulumi-python:dynamic/swarm:Member::docker-app-2","type":"pulumi-python:dynamic/swarm:Member","old":null},'
    '"status":0,"steps":2}}'
)
UPDATE_FAILED = (
    '{"sequence":27,"timestamp":1795256262,"diagnosticEvent":{"prefix":"error: ","message":"update failed\\n",'
    '"color":"never","severity":"error"}}'
)
SUMMARY = '{"sequence":40,"timestamp":1795256250,"summaryEvent":{"maybeCorrupt":false,"durationSeconds":2}}'
CANCEL = '{"sequence":41,"timestamp":1795256250,"cancelEvent":{}}'


def done(operation: str, kind: str, name: str) -> str:
    """The event of a finished step."""
    full = kind if ":" in kind else f"pulumi-python:dynamic/swarm:{kind}"
    metadata = {"op": operation, "urn": f"urn:pulumi:lab::swarm::swarm:index:SwarmCluster${full}::{name}", "type": full}
    return json.dumps({"sequence": 9, "timestamp": 1795256250, "resOutputsEvent": {"metadata": metadata}})


def replaced(kind: str, name: str) -> list[str]:
    """The steps of a replacement that deletes first, in the order the CLI tells them."""
    return [done(operation, kind, name) for operation in ("delete-replaced", "replace", "create-replacement")]


def diagnostic(severity: str, message: str, **more: Any) -> str:
    return json.dumps({"diagnosticEvent": {"severity": severity, "message": message, "color": "never", **more}})


@pytest.fixture(scope="module")
def settings() -> Settings:
    file = ROOT / "Pulumi.prod.yaml"
    return load(read_stack_file(file, "swarm"), project="swarm", stack="prod", base=ROOT)


class Watcher:
    """A progress and the lines it has said, without the seconds."""

    def __init__(self, settings: Settings) -> None:
        self.said: list[str] = []
        self.progress = Progress(settings, self.said.append)

    def feed(self, *lines: str) -> list[str]:
        """What is said while these events come in."""
        before = len(self.said)
        for entry in lines:
            self.progress.feed(entry)
        return [re.sub(r" +\d+ s$", "", entry) for entry in self.said[before:]]


@pytest.fixture
def watcher(settings: Settings) -> Watcher:
    return Watcher(settings)


def test_a_bring_up_is_three_lines(watcher: Watcher) -> None:
    vm = "proxmoxve:index/vmLegacy:VmLegacy"
    assert watcher.feed(PRELUDE, DEBUG, INFO) == []
    for node in NODES[:-1]:
        assert watcher.feed(done("create", vm, node), done("create", "HostState", node)) == []
    assert watcher.feed(done("create", "HostState", NODES[-1])) == ["machines  7 of 7 booted"]
    assert watcher.feed(done("create", "Cluster", "managers"), done("create", "ClusterSettings", "managers")) == []
    assert watcher.feed(*(done("create", "Member", node) for node in MANAGERS)) == [
        "managers  docker-app-1 init, docker-app-2 joined, docker-app-3 joined"
    ]
    assert watcher.feed(*(done("create", "Member", node) for node in reversed(WORKERS))) == [
        "workers   4 of 4 joined, labelled, active"
    ]
    assert watcher.feed(STACK, SUMMARY, CANCEL) == []
    assert watcher.progress.changed == 6 + 7 + 2 + 7
    assert watcher.progress.failed == []


def test_nodes_that_were_there_before_are_told_as_adopted(settings: Settings) -> None:
    before = {name: replace(node, host_key="ssh-ed25519 AAAA") for name, node in settings.nodes.items()}
    before["docker-infra-2"] = settings.nodes["docker-infra-2"]
    watcher = Watcher(replace(settings, nodes=before))
    watcher.feed(*(done("create", "HostState", node) for node in NODES), done("create", "Cluster", "managers"))
    assert watcher.feed(*(done("create", "Member", node) for node in NODES)) == [
        "managers  docker-app-1 adopted, docker-app-2 adopted, docker-app-3 adopted",
        "workers   docker-infra-1 adopted, docker-infra-2 joined, docker-infra-3 adopted, swarmpit-mgmt adopted",
    ]


def test_what_is_said_of_the_swarm_as_a_whole_is_told_when_it_happens(watcher: Watcher) -> None:
    told = watcher.feed(
        diagnostic("info#err", "swarm: unlock key rotated\n"), diagnostic("info#err", "app-1: manager active\n")
    )
    assert told == ["swarm     unlock key rotated"]


def test_phases_are_told_in_their_order_whatever_comes_first(watcher: Watcher) -> None:
    assert watcher.feed(*(done("create", "Member", node) for node in NODES)) == []
    said = watcher.feed(*(done("create", "HostState", node) for node in NODES))
    assert [entry.split()[0] for entry in said] == ["machines", "managers", "workers"]


def test_no_change_says_nothing(watcher: Watcher) -> None:
    for kind in ("FirstBoot", "Claim", "HostState", "Member"):
        assert watcher.feed(*(done("same", kind, node) for node in NODES)) == []
    assert watcher.progress.changed == 0


def test_what_pulumi_makes_for_itself_is_no_change(watcher: Watcher) -> None:
    watcher.feed(done("create", "pulumi:providers:pulumi", "default"))
    assert watcher.progress.changed == 0


def test_a_replacement_is_done_when_the_new_one_is_there(watcher: Watcher) -> None:
    watcher.feed(*(done("same", "HostState", node) for node in NODES if node != "docker-app-2"))
    deleted, replacing, created = replaced("HostState", "docker-app-2")
    assert watcher.feed(deleted, replacing) == [], "it was told before the machine was there"
    assert watcher.feed(created) == ["machines  docker-app-2 rebuilt"]
    watcher.feed(done("same", "Member", "docker-app-1"), done("same", "Member", "docker-app-3"))
    deleted, replacing, created = replaced("Member", "docker-app-2")
    assert watcher.feed(deleted, replacing) == []
    assert watcher.feed(created) == ["managers  docker-app-2 joined anew"]


def test_only_what_was_touched_is_told(watcher: Watcher) -> None:
    said = watcher.feed(
        *(done("update" if node == "docker-app-3" else "same", "HostState", node) for node in NODES),
        *(done("same", "Member", node) for node in MANAGERS),
        *(done("update", "Member", node) for node in WORKERS[:2]),
        *(done("same", "Member", node) for node in WORKERS[2:]),
    )
    assert said == [
        "machines  docker-app-3 settings changed",
        "workers   docker-infra-1 changed, docker-infra-2 changed",
    ]


def test_a_node_that_is_removed_finishes_nothing(watcher: Watcher) -> None:
    watcher.feed(*(done("create", "HostState", node) for node in NODES[:-1]))
    assert watcher.feed(done("delete", "HostState", NODES[-1])) == []
    assert watcher.progress.changed == 7


def test_managers_that_join_a_swarm_that_stands_are_not_told_as_init(watcher: Watcher) -> None:
    watcher.feed(*(done("same", "HostState", node) for node in NODES), done("same", "Cluster", "managers"))
    assert watcher.feed(*(done("create", "Member", node) for node in MANAGERS)) == [
        "managers  docker-app-1 joined, docker-app-2 joined, docker-app-3 joined"
    ]


def test_a_failure_is_told_at_once_and_once(watcher: Watcher) -> None:
    assert watcher.feed(ERROR) == ["error: docker-app-2: docker-app-2: cannot\nsecond line"]
    assert watcher.feed(ERROR, FAILED, UPDATE_FAILED) == []
    assert watcher.progress.errors == ["docker-app-2: cannot\nsecond line"]
    assert [urn.rpartition("::")[2] for urn in watcher.progress.failed] == ["docker-app-2"]


def test_warnings_are_told_and_the_rest_is_not(watcher: Watcher) -> None:
    assert watcher.feed(diagnostic("warning", "mind this\n")) == ["warning: mind this"]
    assert watcher.feed(diagnostic("info", "a provider says\n"), diagnostic("info#err", "on stderr\n"), DEBUG) == []
    assert watcher.progress.errors == []


def test_colours_are_taken_out(watcher: Watcher) -> None:
    text = "<{%fg 1%}>red<{%reset%}> and <{%bold%}>bold<{%reset%}>"
    assert watcher.feed(diagnostic("error", text)) == ["error: red and bold"]


def test_bytes_are_taken_as_the_file_holds_them(watcher: Watcher) -> None:
    watcher.progress.feed(diagnostic("error", "2377/tcp docker-app-2 → docker-app-1: closed").encode())
    assert watcher.progress.errors == ["2377/tcp docker-app-2 → docker-app-1: closed"]


def test_lines_stand_below_each_other() -> None:
    assert line("lab", "pve01-03", 2.4) == "lab       pve01-03" + " " * 47 + "   2 s"
    assert len(line("machines", "7 of 7 booted", 14)) == len(line("workers", "x", 2000))
