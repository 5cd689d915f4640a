"""Which resources are left alone while a Proxmox VE host is away, and what is refused meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import away
from proxmox_swarm.cli.away import Away, left_alone, require_clearable, require_possible, without_order
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.settings import Settings, load, read_stack_file
from tests.unit.cli.states import IMAGE, OURS, VM, Json, dangling, find, image, of_node, references, urn

ROOT = Path(__file__).parents[3]
OFFLINE = {"pve02": "is offline"}


@pytest.fixture(scope="module")
def declared() -> Callable[..., Settings]:
    """Settings of production with some nodes changed; None takes one out."""
    raw = read_stack_file(ROOT / "Pulumi.prod.yaml", "swarm")

    def change(**nodes: Json | None) -> Settings:
        changed = copy.deepcopy(dict(raw))
        for name, node in nodes.items():
            key = name.replace("_", "-")
            if node is None:
                del changed["nodes"][key]
            else:
                changed["nodes"][key] = {**changed["nodes"].get(key, {}), **node}
        return load(changed, project="swarm", stack="prod", base=ROOT)

    return change


@pytest.fixture
def state(declared: Callable[..., Settings]) -> Json:
    """Production as recorded after a rolling run: each node after the one before."""
    resources = [image(host) for host in ("pve01", "pve02", "pve03")]
    before = None
    for node in declared().nodes.values():
        resources += of_node(node.name, node.host, after=before, data=node.data is not None)
        before = node.name
    return {"resources": resources}


def excluded(left: Away, state: Json) -> set[tuple[str, str]]:
    """Type and name of what the options name, taken as the CLI takes them: ``**`` is anything."""
    patterns = [word.replace("**", "*") for word in left.options if word != "--exclude"]
    found = [r for r in state["resources"] if any(fnmatchcase(r["urn"], pattern) for pattern in patterns)]
    return {(r["type"].rpartition(":")[2], r["urn"].rpartition("::")[2]) for r in found}


def test_all_of_the_nodes_there_and_the_image_are_left_alone_and_nothing_else(state: Json) -> None:
    left = left_alone(state, OFFLINE)
    assert left.nodes == {"docker-app-2": "pve02", "docker-infra-2": "pve02"}
    of_each = ("FirstBoot", "VirtualMachine", "Claim", "FileLegacy", "VmLegacy", "HostState", "Member")
    nodes = {(kind, name) for kind in of_each for name in ("docker-app-2", "docker-infra-2")}
    assert excluded(left, state) == nodes | {("VmLegacy", "docker-infra-2-data"), ("File", "image-pve02")}
    assert str(left) == "pve02 is offline: docker-app-2, docker-infra-2"


def test_a_name_that_only_ends_alike_is_not_left_alone(state: Json) -> None:
    state["resources"] += of_node("my-docker-app-2", "pve01")
    assert not any(name.startswith("my-") for _, name in excluded(left_alone(state, OFFLINE), state))


def test_hosts_without_anything_of_ours_are_not_spoken_of(state: Json) -> None:
    left = left_alone(state, {"pve02": "is offline", "pve09": "is offline"})
    assert "pve09" not in str(left)
    nothing = left_alone(state, {"pve09": "is offline"})
    assert (nothing.nodes, nothing.options, str(nothing)) == ({}, [], "")


def test_a_machine_that_only_waits_to_be_deleted_is_not_the_nodes(state: Json) -> None:
    """Replaced on another host, the old one not deleted yet: the node is where the new one is."""
    old = copy.deepcopy(find(state, VM, "docker-app-3"))
    old.update(delete=True, inputs={"nodeName": "pve02"})
    state["resources"].append(old)
    assert "docker-app-3" not in left_alone(state, OFFLINE).nodes


# -- what is refused ---------------------------------------------------------------------------------------------------


def refusal(settings: Settings, state: Json) -> str:
    with pytest.raises(CommandError) as refused:
        require_possible(settings, state, left_alone(state, OFFLINE))
    return str(refused.value)


def test_changes_elsewhere_are_possible(declared: Callable[..., Settings], state: Json) -> None:
    left = left_alone(state, OFFLINE)
    new = {"pool": "infra", "host": "pve03", "id": 4205, "ip": 45}
    for change in (
        {},
        {"swarmpit_mgmt": {"labels": {"a": "b"}}},
        {"docker_infra_1": None},
        {"docker_infra_9": new},
        {"docker_infra_1": {"generation": 2}, "docker_infra_2": {"generation": 2}},
    ):
        require_possible(declared(**change), state, left)


def test_a_node_there_that_is_declared_no_more_is_refused(declared: Callable[..., Settings], state: Json) -> None:
    said = refusal(declared(docker_infra_2=None), state)
    assert said == (
        "docker-infra-2 is declared no more, but its machine is on pve02, which is offline and may come back with it. "
        "Declare it on pve02 until then; if pve02 is gone for good: `proxmox-swarm forget-host pve02 --stack prod`, then run "
        "this again"
    )


def test_a_node_there_that_is_declared_elsewhere_is_refused(declared: Callable[..., Settings], state: Json) -> None:
    said = refusal(declared(docker_infra_2={"host": "pve03"}), state)
    assert said.startswith("docker-infra-2 is declared on pve03 now, but its machine is on pve02, which is offline")


def test_a_node_declared_there_anew_is_refused(declared: Callable[..., Settings], state: Json) -> None:
    new = {"pool": "infra", "host": "pve02", "id": 4205, "ip": 45}
    said = refusal(declared(docker_infra_9=new), state)
    assert said.startswith("docker-infra-9 is declared on pve02, which is offline: it cannot be made there now.")
    said = refusal(declared(docker_infra_1={"host": "pve02"}), state)
    assert said.startswith("docker-infra-1 is declared on pve02, which is offline: it cannot be made there now.")


def test_every_node_in_the_way_is_named(declared: Callable[..., Settings], state: Json) -> None:
    said = refusal(declared(docker_infra_2=None, docker_infra_1={"host": "pve02"}), state)
    assert [text.split()[0] for text in said.splitlines()] == ["docker-infra-1", "docker-infra-2"]


def test_what_a_killed_run_left_half_made_there_is_not_forgotten(state: Json) -> None:
    made = {"urn": urn(VM, "docker-infra-9"), "type": VM, "inputs": {"nodeName": "pve02"}}
    state["pending_operations"] = [{"type": "creating", "resource": made}]
    require_clearable(state, left_alone(state, {"pve03": "is offline"}))
    with pytest.raises(CommandError, match=r"killed while it made docker-infra-9 on pve02, which is offline"):
        require_clearable(state, left_alone(state, OFFLINE))
    state["pending_operations"] = [{"type": "updating", "resource": made}]
    require_clearable(state, left_alone(state, OFFLINE))


# -- order between nodes -----------------------------------------------------------------------------------------------


def test_what_is_left_alone_hangs_on_no_other_node_afterwards(state: Json) -> None:
    """Or the engine would keep a node that is declared no more, because one that is left alone came after it."""
    before = copy.deepcopy(state)
    assert "docker-infra-1" in str(find(state, VM, "docker-infra-2")["dependencies"])
    left = left_alone(state, OFFLINE)

    assert without_order(state, left)

    for resource in state["resources"]:
        was = next(r for r in before["resources"] if r["urn"] == resource["urn"])
        if not left.covers(resource):
            assert resource == was
            continue
        names = {each.rpartition("::")[2] for each in references(resource)}
        assert names <= {"docker-app-2", "docker-infra-2", "docker-infra-2-data", "image-pve02"}
        assert (resource.get("inputs"), resource.get("outputs")) == (was.get("inputs"), was.get("outputs"))
    assert find(state, VM, "docker-infra-2")["propertyDependencies"]["disks"] == [
        find(state, IMAGE, "image-pve02")["urn"],
        find(state, VM, "docker-infra-2-data")["urn"],
    ]
    assert dangling(state) == set()
    assert not without_order(state, left), "once is enough"


def test_order_among_those_left_alone_stays(state: Json) -> None:
    state["resources"] += of_node("docker-infra-9", "pve02", after="docker-infra-2")
    without_order(state, left_alone(state, OFFLINE))
    assert find(state, f"{OURS}Member", "docker-infra-2")["urn"] in find(state, VM, "docker-infra-9")["dependencies"]


# -- who is asked ------------------------------------------------------------------------------------------------------


def test_the_hosts_declared_and_recorded_are_asked_about(
    declared: Callable[..., Settings], state: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def answer(_: object, hosts: set[str]) -> dict[str, str]:
        asked.append(set(hosts))
        return OFFLINE

    monkeypatch.setattr(away, "Client", lambda *_, **__: object())
    monkeypatch.setattr(away, "absent", answer)
    state["resources"] += of_node("gone", "pve07")
    assert away.find(declared(), state).hosts == OFFLINE
    away.find(declared(), {"resources": []}, declared=False)
    assert asked == [{"pve01", "pve02", "pve03", "pve07"}]


def test_without_anything_recorded_nobody_is_asked(
    declared: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(*_: Any, **__: Any) -> None:
        raise AssertionError("not needed")

    monkeypatch.setattr(away, "Client", client)
    assert away.find(declared(), {}, declared=False) == Away()
