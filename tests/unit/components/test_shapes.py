"""The two shapes of the graph: from nothing, and node after node."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest

from proxmox_swarm.settings import Settings
from tests.unit.components.graph import UNKNOWN, Graph, bring_up, build, prod, rolling

MANAGERS = ["docker-app-1", "docker-app-2", "docker-app-3"]
WORKERS = ["docker-infra-1", "docker-infra-2", "docker-infra-3", "swarmpit-mgmt"]


def parallel(count: int, more: int = 0) -> Settings:
    """Production with so many machines at once on a host, and so many workers more on the first host."""

    def limited(proxmox: Any) -> Any:
        return {**proxmox, "parallel": count}

    def grown(nodes: Any) -> Any:
        added = {f"extra-{i}": {"pool": "mgmt", "host": "pve01", "id": 4310 + i, "ip": 60 + i} for i in range(more)}
        return {**nodes, **added}

    return prod(proxmox=limited, nodes=grown)


def at_once(graph: Graph, vms: Sequence[str]) -> int:
    """How many of these VMs may be made at the same moment: the widest set in which none waits for another."""
    behind = {vm: graph.behind(vm) for vm in vms}
    widest = 1
    while widest < len(vms) and any(
        all(a not in behind[b] and b not in behind[a] for a, b in combinations(some, 2))
        for some in combinations(vms, widest + 1)
    ):
        widest += 1
    return widest


def vms_by_host(graph: Graph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for vm in graph.of("VmLegacy"):
        found.setdefault(vm.inputs["nodeName"], []).append(str(vm))
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_host_makes_more_machines_at_once_than_it_may(count: int) -> None:
    graph = build(parallel(count, more=3), established=False)
    hosts = vms_by_host(graph)
    assert {host: len(vms) for host, vms in hosts.items()} == {"pve01": 7, "pve02": 3, "pve03": 3}
    assert at_once(graph, hosts["pve01"]) == count
    assert all(at_once(graph, vms) <= count for vms in hosts.values())


def test_hosts_do_not_wait_for_each_other() -> None:
    graph = bring_up()
    for host, vms in vms_by_host(graph).items():
        for vm in vms:
            waited_for = {key for key in graph.behind(vm) if key.startswith("VmLegacy")}
            assert waited_for <= set(vms), f"{vm} on {host}"


def test_managers_join_one_after_the_other() -> None:
    graph = bring_up()
    for node, before in zip(MANAGERS, [set(), {"docker-app-1"}, {"docker-app-2"}], strict=True):
        assert {key for key in graph.direct(f"Member {node}") if key.startswith("Member")} == {
            f"Member {n}" for n in before
        }


def test_workers_join_side_by_side_after_the_last_manager() -> None:
    graph = bring_up()
    for node in WORKERS:
        assert {key for key in graph.direct(f"Member {node}") if key.startswith("Member")} == {"Member docker-app-3"}


def test_the_swarm_is_made_once_every_managers_host_is_ready_and_waits_for_no_worker() -> None:
    graph = bring_up()
    behind = graph.behind("Cluster managers")
    assert {f"HostState {node}" for node in MANAGERS} <= behind
    assert {f"VmLegacy {node}" for node in MANAGERS} <= behind
    assert not {key for key in behind if key.split()[1] in WORKERS}


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_a_machine_is_claimed_made_set_up_and_then_joined(graph: Any) -> None:
    built = graph()
    for node in [*MANAGERS, *WORKERS]:
        assert f"Claim {node}" in built.direct(f"VmLegacy {node}")
        assert f"Claim {node}" in built.direct(f"FileLegacy {node}")
        assert f"VmLegacy {node}" in built.direct(f"HostState {node}")
        assert {f"HostState {node}", f"VmLegacy {node}", "Cluster managers"} <= built.direct(f"Member {node}")
        assert not built.behind(f"Claim {node}")
        assert not built.behind(f"FirstBoot {node}")


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_what_takes_a_quorum_comes_after_managers_are_unlocked(graph: Any) -> None:
    """In bring-up a node's own settings cannot: the swarm is made on nodes that have them."""
    built = graph()
    assert "Cluster managers" in built.direct("Autolock managers")
    after = ["ClusterSettings managers", "TokenRotation worker-token", "TokenRotation manager-token", "CaRotation ca"]
    after += [f"Member {node}" for node in [*MANAGERS, *WORKERS]]
    after += [f"HostState {node}" for node in [*MANAGERS, *WORKERS]] if graph is rolling else []
    for key in after:
        assert "Autolock managers" in built.behind(key), key


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_a_machine_waits_for_no_key_because_a_quorum_may_need_it(graph: Any) -> None:
    assert "Autolock managers" not in graph().behind("VmLegacy docker-app-1")


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_the_ca_is_rotated_when_every_member_is_there_and_tokens_wait_for_none(graph: Any) -> None:
    built = graph()
    assert {f"Member {node}" for node in [*MANAGERS, *WORKERS]} <= built.direct("CaRotation ca")
    for role in ("worker", "manager"):
        assert not graph_kinds(built.behind(f"TokenRotation {role}-token")) & {"Member"}


def test_nothing_is_rotated_or_locked_unless_it_is_declared() -> None:
    graph = bring_up()
    assert {r.inputs["generation"] for kind in ("TokenRotation", "CaRotation", "Autolock") for r in graph.of(kind)} == {
        1
    }
    assert graph["Autolock managers"].inputs["enabled"] is False

    def cluster(declared: Any) -> Any:
        return {**declared, "autolock": True, "rotate": {"worker": 2, "manager": 3, "ca": 4, "unlockKey": 5}}

    asked = build(prod(cluster=cluster), established=True)
    assert asked["TokenRotation worker-token"].inputs["generation"] == 2
    assert asked["TokenRotation manager-token"].inputs["generation"] == 3
    assert asked["CaRotation ca"].inputs["generation"] == 4
    assert (asked["Autolock managers"].inputs["generation"], asked["Autolock managers"].inputs["enabled"]) == (5, True)


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_no_member_is_touched_before_the_guard_of_the_whole_plan_has_had_its_say(graph: Any) -> None:
    built = graph()
    for node in [*MANAGERS, *WORKERS]:
        assert "ClusterSettings managers" in built.direct(f"Member {node}")
        assert built is bring_up() or "ClusterSettings managers" in built.direct(f"HostState {node}")
    assert not {key for key in built.behind("ClusterSettings managers") if key.startswith("Member")}


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_a_data_disks_holder_is_claimed_and_made_before_the_machine(graph: Any) -> None:
    built = graph()
    for node in WORKERS[:3]:
        assert f"Claim {node}" in built.direct(f"VmLegacy {node}-data")
        assert f"VmLegacy {node}-data" in built.direct(f"VmLegacy {node}")


def test_later_runs_touch_a_machine_only_when_the_node_before_is_back() -> None:
    graph = rolling()
    for before, node in pairwise([*MANAGERS, *WORKERS]):
        for kind in ("VmLegacy", "HostState", "Member"):
            assert f"Member {before}" in graph.direct(f"{kind} {node}")
    assert at_once(graph, [f"VmLegacy {node}" for node in [*MANAGERS, *WORKERS]]) == 1


@pytest.mark.parametrize(("unavailable", "lanes"), [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_workers_go_in_lanes_once_every_manager_is_back(unavailable: int, lanes: int) -> None:
    graph = build(in_lanes(unavailable), established=True)
    assert at_once(graph, [f"VmLegacy {node}" for node in [*MANAGERS, *WORKERS]]) == lanes
    assert at_once(graph, [f"VmLegacy {node}" for node in MANAGERS]) == 1
    for node in WORKERS:
        for kind in ("VmLegacy", "HostState", "Member"):
            assert {f"Member {name}" for name in MANAGERS} <= graph.behind(f"{kind} {node}")
    for before, node in pairwise(MANAGERS):
        assert f"Member {before}" in graph.direct(f"VmLegacy {node}")


@pytest.mark.parametrize("count", [1, 2])
def test_lanes_never_touch_more_machines_of_a_host_than_it_may_make(count: int) -> None:
    def limited(proxmox: Any) -> Any:
        return {**proxmox, "parallel": count}

    graph = build(prod(proxmox=limited, rolling=lambda _: {"maxUnavailable": 4}), established=True)
    workers = {host: [vm for vm in vms if vm.split()[1] in WORKERS] for host, vms in vms_by_host(graph).items()}
    assert {host: at_once(graph, vms) for host, vms in workers.items()} == {"pve01": count, "pve02": 1, "pve03": 1}


def test_workers_that_are_not_there_yet_are_made_side_by_side_after_the_managers() -> None:
    settings = parallel(2, more=3)
    graph = build(settings, established=True, there={*MANAGERS, *WORKERS})
    added = ["VmLegacy extra-0", "VmLegacy extra-1", "VmLegacy extra-2"]
    assert at_once(graph, added) == 2
    assert at_once(graph, [vm for vm in vms_by_host(graph)["pve01"] if vm.split()[1] not in MANAGERS]) == 2
    for vm in added:
        assert {f"Member {name}" for name in MANAGERS} <= graph.behind(vm)
    for node in WORKERS:
        assert not {key for key in graph.behind(f"Member {node}") if "extra" in key}, "repairs wait for no newcomer"


def in_lanes(unavailable: int) -> Settings:
    return prod(rolling=lambda _: {"maxUnavailable": unavailable})


def test_a_holder_waits_as_its_machine_does() -> None:
    graph = rolling()
    assert "Member docker-app-3" in graph.direct("VmLegacy docker-infra-1-data")


def test_in_later_runs_the_swarm_depends_on_no_machine() -> None:
    assert graph_kinds(rolling().behind("Cluster managers")) == {"FirstBoot"}


def graph_kinds(keys: set[str]) -> set[str]:
    return {key.split()[0] for key in keys}


def order(graph: Graph) -> list[str]:
    """The nodes by how much comes before their machines."""
    return sorted([*MANAGERS, *WORKERS], key=lambda node: len(graph.behind(f"VmLegacy {node}")))


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([], [*MANAGERS, *WORKERS]),
        (["docker-app-3"], ["docker-app-3", "docker-app-1", "docker-app-2", *WORKERS]),
        (["swarmpit-mgmt", "docker-app-2"], ["docker-app-2", "docker-app-1", "docker-app-3", WORKERS[3], *WORKERS[:3]]),
        (["a-node-that-is-gone"], [*MANAGERS, *WORKERS]),
    ],
)
def test_nodes_that_are_not_well_come_first(first: list[str], expected: list[str]) -> None:
    graph = build(prod(), established=True, first=first)
    assert order(graph) == expected
    for before, node in pairwise(expected):
        assert f"Member {before}" in graph.direct(f"VmLegacy {node}")


def test_first_means_nothing_in_bring_up() -> None:
    graph = build(prod(), established=False, first=["docker-app-3"])
    assert {key: graph.direct(key) for key in graph.resources} == {
        key: bring_up().direct(key) for key in graph.resources
    }


def test_going_from_one_shape_to_the_other_changes_no_resource() -> None:
    before, after = bring_up(), rolling()
    assert before.urns() == after.urns()
    assert {key: resource.inputs for key, resource in before.resources.items()} == {
        key: resource.inputs for key, resource in after.resources.items()
    }


def test_a_preview_of_what_is_not_there_yet_knows_no_ids() -> None:
    graph = build(prod(), established=False, preview=True)
    member = graph["Member docker-app-1"].inputs
    assert (member["machine"], member["cluster_id"], member["host_key"]) == (UNKNOWN, UNKNOWN, UNKNOWN)
    assert member["address"] == "192.168.4.30"
    assert graph.urns() == bring_up().urns()
