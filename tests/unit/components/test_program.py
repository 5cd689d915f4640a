"""The whole program on the production stack: its outputs, and which shape of the graph it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from proxmox_swarm.components.established import LastUp, last_up
from proxmox_swarm.proxmox import endpoint
from tests.unit.components.graph import (
    PRIVATE,
    ROOT,
    SECRET,
    UNLOCK,
    Graph,
    bring_up,
    build,
    prod,
    run,
    run_main,
    stack_config,
)

OUTPUTS = {
    "caDigest",
    "clusterId",
    "dockerContext",
    "ingressAddresses",
    "managerAddresses",
    "nodes",
    "previousUnlockKey",
    "sshHostKeys",
    "sshKnownHosts",
    "sshUser",
    "undeclared",
    "unlockKey",
}
SECRETS = {"previousUnlockKey", "unlockKey"}
NODE = {"address", "availability", "detail", "host", "id", "labels", "name", "pool", "role", "verdict", "vmId"}


ASKED: list[tuple[str, ...]] = []


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Iterator[None]:
    def first(endpoints: Any) -> str:
        ASKED.append(tuple(endpoints))
        return str(endpoints[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "first_answering", first)
        for name in ("PROXMOX_SWARM_ESTABLISHED", "PROXMOX_SWARM_FIRST"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def fresh(no_network: None) -> Graph:
    """The program on a stack that has never been up."""
    return run_main(stack_config())


def edges(graph: Any) -> dict[str, set[str]]:
    return {key: graph.direct(key) for key in graph.resources}


def test_outputs_have_these_names_and_no_others(fresh: Graph) -> None:
    outputs = fresh.outputs
    assert set(outputs) == OUTPUTS
    assert len(outputs["nodes"]) == 7
    assert all(set(node) == NODE for node in outputs["nodes"])


def test_every_output_is_documented_and_nothing_else_is() -> None:
    text = (ROOT / "docs" / "outputs.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == OUTPUTS
    row = next(line for line in text.splitlines() if line.startswith("| `nodes` |"))
    assert set(re.findall(r"`(\w+)`", row)) - {"nodes"} == NODE


def test_outputs_say_what_is_there(fresh: Graph) -> None:
    outputs = fresh.outputs
    assert outputs["clusterId"] == "the cluster's id"
    assert outputs["managerAddresses"] == ["192.168.4.30", "192.168.4.31", "192.168.4.32"]
    assert outputs["ingressAddresses"] == [f"192.168.4.{n}" for n in (30, 31, 32, 40, 41, 42, 50)]
    assert outputs["sshUser"] == "ansible"
    assert outputs["sshHostKeys"]["swarmpit-mgmt"] == "ssh-ed25519 swarmpit-mgmt"
    assert "192.168.4.50 ssh-ed25519 swarmpit-mgmt" in outputs["sshKnownHosts"]
    assert outputs["dockerContext"] == "docker context create swarm-prod --docker host=ssh://ansible@192.168.4.30"
    assert outputs["nodes"][6] == {
        "name": "swarmpit-mgmt",
        "id": "node id of swarmpit-mgmt",
        "role": "worker",
        "availability": "active",
        "address": "192.168.4.50",
        "host": "pve01",
        "pool": "mgmt",
        "vmId": 4300,
        "labels": {"portainer.data": "true"},
        "verdict": "ok",
        "detail": "",
    }


def test_the_unlock_keys_are_secret_and_no_other_output_is_or_holds_one(fresh: Graph) -> None:
    assert all(fresh.outputs[name] == {**SECRET, "value": UNLOCK} for name in SECRETS)
    text = json.dumps({name: value for name, value in fresh.outputs.items() if name not in SECRETS})
    assert PRIVATE not in text and UNLOCK not in text
    assert next(iter(SECRET)) not in text
    assert "PRIVATE KEY" not in text
    assert "SWMTKN" not in text


def test_a_fresh_stack_is_brought_up(fresh: Graph) -> None:
    assert edges(fresh) == edges(bring_up())


def test_a_cluster_that_stands_rolls_and_takes_the_nodes_first_that_are_not_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROXMOX_SWARM_FIRST", "docker-app-3 swarmpit-mgmt")
    graph = run_main(stack_config(), {"clusterId": "7q3x"})
    assert edges(graph) == edges(build(prod(), established=True, first=["docker-app-3", "swarmpit-mgmt"]))


def test_workers_that_the_last_up_did_not_have_wait_for_no_turn() -> None:
    nodes = [{"name": node.name} for node in prod().nodes.values() if node.name != "docker-infra-2"]
    graph = run_main(stack_config(), {"clusterId": "7q3x", "nodes": nodes})
    there = {node["name"] for node in nodes}
    assert edges(graph) == edges(build(prod(), established=True, there=there))
    assert "Member docker-infra-1" not in graph.behind("VmLegacy docker-infra-2")


def stood(last: dict[str, Any]) -> tuple[LastUp, list[tuple[str, Any]]]:
    """What the stack thinks of its last self, and what it asked the engine for that."""
    found: list[LastUp] = []

    async def main() -> None:
        found.append(await last_up())

    graph = run(lambda: pulumi.run(main), last)
    assert graph.urns() == [], "asking must not make a resource: a refresh would show its drift"
    return found[0], graph.calls


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({}, LastUp(False)),
        ({"clusterId": ""}, LastUp(False)),
        ({"clusterId": None}, LastUp(False)),
        ({"dockerContext": "an up that failed"}, LastUp(False)),
        ({"clusterId": "7q3x"}, LastUp(True)),
        ({"clusterId": "7q3x", "nodes": [{"name": "a"}, {"name": "b"}]}, LastUp(True, frozenset("ab"))),
    ],
)
def test_a_cluster_stands_once_an_up_has_ended_with_one(last: dict[str, Any], expected: LastUp) -> None:
    asked = [("pulumi:pulumi:readStackOutputs", {"name": "organization/swarm/prod"})]
    assert stood(last) == (expected, asked)


@pytest.mark.parametrize(
    ("word", "expected"), [("1", True), ("true", True), ("0", False), ("false", False), ("", False)]
)
def test_it_can_be_said_instead(monkeypatch: pytest.MonkeyPatch, word: str, expected: bool) -> None:
    monkeypatch.setenv("PROXMOX_SWARM_ESTABLISHED", word)
    assert stood({} if expected else {"clusterId": "7q3x"}) == (LastUp(expected), [])


def test_the_provider_talks_to_the_endpoint_that_answers(fresh: Graph) -> None:
    assert ASKED[0] == ("https://pve01:8006", "https://pve02:8006", "https://pve03:8006")
    assert fresh["proxmoxve proxmox"].inputs["endpoint"] == "https://pve02:8006"


def test_bad_settings_end_the_program_with_every_problem_and_no_resource() -> None:
    config = stack_config()
    nodes = json.loads(config["swarm:nodes"])
    nodes["docker-app-1"]["host"] = "pve09"
    nodes["docker-app-2"]["id"] = nodes["docker-app-3"]["id"]
    with pytest.raises(pulumi.RunError) as refused:
        run_main({**config, "swarm:nodes": json.dumps(nodes)})
    assert "pve09" in str(refused.value)
    assert "4102" in str(refused.value)
