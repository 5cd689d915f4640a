"""A state without what was on a host that is gone for good."""

from __future__ import annotations

import copy

import pytest

from proxmox_swarm.cli.lost_host import forget, lost_with, members
from tests.unit.cli.states import IMAGE, OURS, PREFIX, VM, Json, dangling, find, image, of_node, urn


@pytest.fixture
def state() -> Json:
    """Three managers and two workers on three hosts, each after the one before, as a rolling run records them."""
    nodes = [
        ("app-1", "pve01", False),
        ("app-2", "pve02", False),
        ("app-3", "pve03", False),
        ("infra-1", "pve01", True),
        ("infra-2", "pve02", True),
    ]
    resources, before = [image(host) for host in ("pve01", "pve02", "pve03")], None
    for name, host, data in nodes:
        resources += of_node(name, host, after=before, data=data)
        before = name
    for resource in resources:
        if resource["type"] == f"{OURS}Claim":
            resource["protect"] = True
    return {"resources": resources}


def kinds(state: Json, name: str) -> set[str]:
    return {
        r["type"].rpartition(":")[2]
        for r in state["resources"]
        if r["urn"].rpartition("::")[2] in (name, f"{name}-data")
    }


def test_machines_disks_and_files_there_are_named(state: Json) -> None:
    lost = lost_with(state, "pve02")
    assert set(lost.nodes) == {"app-2", "infra-2"}
    assert set(lost.disks) == {"infra-2"}
    assert lost.vm_ids == {*lost.nodes.values(), lost.disks["infra-2"]}
    assert lost.files == ("image-pve02", "app-2", "infra-2")
    assert not lost_with(state, "pve09")


def test_all_that_stands_for_the_machines_goes_protected_or_not(state: Json) -> None:
    before = copy.deepcopy(state)
    assert forget(state, "pve02")
    for name in ("app-2", "infra-2"):
        assert kinds(state, name) == {"VirtualMachine", "FirstBoot"}, "its host key is kept for its successor"
    for name in ("app-1", "app-3", "infra-1"):
        assert kinds(state, name) == kinds(before, name)
    assert [r["urn"].rpartition("::")[2] for r in state["resources"] if r["type"] == IMAGE] == [
        "image-pve01",
        "image-pve03",
    ]
    assert not forget(state, "pve02"), "once is enough"


def test_nothing_refers_to_what_is_gone(state: Json) -> None:
    forget(state, "pve02")
    assert dangling(state) == set()
    assert find(state, VM, "app-3")["urn"] in find(state, f"{OURS}Member", "app-3")["dependencies"]


def test_a_machine_that_only_waits_to_be_deleted_there_goes_alone(state: Json) -> None:
    """Rebuilt elsewhere before, its old machine not deleted: the node itself lives."""
    old = copy.deepcopy(find(state, VM, "app-3"))
    old.update(delete=True)
    old["inputs"] = {**old["inputs"], "nodeName": "pve02"}
    state["resources"].append(old)
    forget(state, "pve02")
    assert kinds(state, "app-3") == kinds(state, "app-1")
    assert find(state, VM, "app-3")["inputs"]["nodeName"] == "pve03"
    assert find(state, VM, "app-3")["urn"] in find(state, f"{OURS}Member", "app-3")["dependencies"]


def test_what_a_killed_run_was_doing_there_goes_too(state: Json) -> None:
    component = f"{PREFIX}$swarm:index:VirtualMachine::infra-9"
    vm = {
        "urn": urn(VM, "infra-9", parent="swarm:index:VirtualMachine"),
        "type": VM,
        "parent": component,
        "inputs": {"nodeName": "pve02", "vmId": 4209.0},
    }
    claim = next(r for r in of_node("infra-9", "pve02") if r["type"] == f"{OURS}Claim")
    other = {"resource": find(state, VM, "app-1"), "type": "updating"}
    state["pending_operations"] = [
        {"resource": vm, "type": "creating"},
        {"resource": find(state, VM, "app-2"), "type": "deleting"},
        other,
    ]
    state["resources"].append(claim)
    assert lost_with(state, "pve02").nodes["infra-9"] == 4209
    forget(state, "pve02")
    assert state["pending_operations"] == [other]
    assert "Claim" not in kinds(state, "infra-9"), "whoever has its id is asked anew"


def test_the_way_to_each_member_is_known(state: Json) -> None:
    for resource in state["resources"]:
        if resource["type"] == f"{OURS}Member":
            resource["inputs"] |= {"user": "ansible", "host_key": "ssh-ed25519 A", "cluster_id": "c1", "role": "worker"}
    found = members(state)
    assert set(found) == {"app-1", "app-2", "app-3", "infra-1", "infra-2"}
    assert (found["app-2"].node_id, found["app-2"].cluster_id, found["app-2"].role) == ("id-app-2", "c1", "worker")
    assert str(found["app-2"].target).startswith("app-2 (10.0.4.")
