"""What each resource is registered with, besides its inputs: protection, deletion, replacement, aliases, secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from proxmox_swarm.components import virtual_machine
from proxmox_swarm.settings import Settings
from tests.unit.components.graph import PRIVATE, SECRET, Graph, bring_up, build, prod, rolling

DATA_NODES = ["docker-infra-1", "docker-infra-2", "docker-infra-3"]


def changed(key: str, node: str = "", **values: Any) -> Settings:
    """Production with some values of a top-level key changed: of all of it, or of one node or pool in it."""

    def change(raw: Any) -> Any:
        return {**raw, node: {**raw[node], **values}} if node else {**raw, **values}

    return prod(**{key: change})


def having(graph: Graph, option: Callable[[Any], Any]) -> set[str]:
    return {key for key, resource in graph.resources.items() if option(resource.request)}


def names(graph: Graph, *kinds: str) -> set[str]:
    return {str(resource) for kind in kinds for resource in graph.of(kind)}


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_claims_data_holders_and_the_cluster_are_protected_and_nothing_else(graph: Callable[[], Graph]) -> None:
    built = graph()
    holders = {f"VmLegacy {node}-data" for node in DATA_NODES}
    assert having(built, lambda r: r.protect) == names(built, "Claim") | holders | {"Cluster managers"}


def test_without_protection_nothing_is_protected() -> None:
    assert having(build(changed("proxmox", protect=False), established=True), lambda r: r.protect) == set()


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_only_what_the_swarm_itself_holds_goes_with_it(graph: Callable[[], Graph]) -> None:
    built = graph()
    gone_with = {key: r.request.deletedWith for key, r in built.resources.items() if r.request.deletedWith}
    assert set(gone_with) == names(
        built, "Member", "ClusterSettings", "Autolock", "TokenRotation", "CaRotation", "Undeclared"
    )
    assert {built.key_of(urn) for urn in gone_with.values()} == {"Cluster managers"}


def test_names_and_addresses_are_fixed_so_the_old_goes_before_the_new_comes() -> None:
    graph = bring_up()
    deleted_first = having(graph, lambda r: r.deleteBeforeReplace)
    machines = {key for key in names(graph, "VmLegacy") if not key.endswith("-data")}
    assert deleted_first == machines | names(graph, "HostState", "Member")


def test_nothing_is_kept_on_delete_or_hidden_from_replacement() -> None:
    graph = bring_up()
    assert having(graph, lambda r: r.retainOnDelete) == set()
    assert having(graph, lambda r: list(r.replaceOnChanges)) == set()
    assert having(graph, lambda r: r.importId) == set()


def test_the_replacement_trigger_says_in_words_what_a_machine_was_made_with() -> None:
    found = {
        vm.name: vm.request.replacement_trigger.string_value
        for vm in rolling().of("VmLegacy")
        if vm.request.HasField("replacement_trigger")
    }
    assert found["docker-app-2"] == (
        "image 95e110dfcdbd generation 1 host pve02 nics 192.168.4.31/24@4,192.168.12.31/24@12"
    )
    assert found == triggers(prod()), "machines, and never their data disks' holders"


def triggers(settings: Settings) -> dict[str, str]:
    return {node.name: virtual_machine._rebuild_trigger(settings, node) for node in settings.nodes.values()}


IMAGE = {
    "url": "https://cloud.debian.org/images/cloud/trixie/20260914-2601/debian-13-genericcloud-amd64-20260914-2601.qcow2",
    "sha512": "ab" * 64,
    "size": 3,
}


@pytest.mark.parametrize(
    ("settings", "rebuilt"),
    [
        (changed("proxmox", image=IMAGE), 7),
        (changed("nodes", "docker-app-2", generation=2), 1),
        (changed("nodes", "docker-app-2", ip=39), 1),
        (changed("networks", "storage", vlan=13), 7),
        (changed("nodes", "docker-infra-1", host="pve02"), 1),
        (changed("nodes", "docker-app-2", cpu=8, memory=16), 0),
        (changed("nodes", "docker-app-2", boot=80), 0),
        (changed("nodes", "docker-app-2", labels={"a": "b"}), 0),
        (changed("proxmox", parallel=1), 0),
        (changed("os", dns={"servers": ["192.168.2.9"]}), 0),
        (changed("docker", daemon={"debug": True}), 0),
        (changed("cluster", taskHistory=3), 0),
        (changed("access", user="ops"), 0),
    ],
)
def test_only_what_a_living_machine_cannot_take_over_rebuilds_it(settings: Settings, rebuilt: int) -> None:
    before, after = triggers(prod()), triggers(settings)
    assert len([name for name in before if before[name] != after[name]]) == rebuilt


def test_what_the_provider_reads_back_differently_is_ignored() -> None:
    graph = bring_up()
    ignored = {vm.name: list(vm.request.ignoreChanges) for vm in graph.of("VmLegacy")}
    assert ignored["docker-app-1"] == ["disks[0].speed"]
    assert ignored["docker-infra-1-data"] == ["disks[0].speed", "description"]
    # The holder grows a data disk; the machine it is attached to must not try.
    assert ignored["docker-infra-1"] == ["disks[0].speed", "disks[1].speed", "disks[1].size"]
    assert {key for key, value in ignored.items() if len(value) == 3} == set(DATA_NODES)
    assert having(graph, lambda r: list(r.ignoreChanges)) == names(graph, "VmLegacy")


def alias_urns(graph: Graph, key: str) -> set[str]:
    """Where else the engine looks for a resource in the last state (sdk/go/common/resource/urn)."""
    found = set()
    for alias in graph[key].request.aliases:
        parent = alias.spec.parentUrn.split("::")
        kind = f"{parent[2]}${graph[key].request.type}"
        found.add("::".join([*parent[:2], kind, alias.spec.name or graph[key].name]))
    return found


def promoted(node: str, role: str) -> Settings:
    """Production with a node in another role; what that does to the quorum is meant."""

    def change(raw: Any) -> Any:
        return {**raw, node: {**raw[node], "role": role}}

    return prod(nodes=change, guards=lambda _: {"evenManagers": True, "managersOnOneHost": True})


@cache
def with_promoted_worker() -> Graph:
    return build(promoted("swarmpit-mgmt", "manager"), established=True)


def test_a_worker_that_becomes_a_manager_keeps_its_member() -> None:
    before, after = rolling(), with_promoted_worker()
    was, now = before["Member swarmpit-mgmt"].urn, after["Member swarmpit-mgmt"].urn
    assert was != now
    assert was in alias_urns(after, "Member swarmpit-mgmt")


def test_a_manager_that_becomes_a_worker_keeps_its_member() -> None:
    before, after = rolling(), build(promoted("docker-app-3", "worker"), established=True)
    was, now = before["Member docker-app-3"].urn, after["Member docker-app-3"].urn
    assert was != now
    assert was in alias_urns(after, "Member docker-app-3")


def test_a_node_that_changes_its_role_changes_nothing_else_by_name() -> None:
    after = with_promoted_worker()
    moved = {rolling().key_of(urn) for urn in set(rolling().urns()) - set(after.urns())}
    assert moved == {"Member swarmpit-mgmt", "WorkerPool mgmt"}


def test_a_worker_keeps_its_name_in_the_tree_when_it_changes_pools() -> None:
    after = build(changed("nodes", "swarmpit-mgmt", pool="infra"), established=True)
    assert after["Member swarmpit-mgmt"].urn == rolling()["Member swarmpit-mgmt"].urn


def test_every_member_is_found_under_both_parents() -> None:
    graph = bring_up()
    for member in graph.of("Member"):
        known = {urn.split("::")[2].split("$")[1] for urn in {member.urn} | alias_urns(graph, str(member))}
        assert known == {"swarm:index:ManagerQuorum", "swarm:index:WorkerPool"}
    assert having(graph, lambda r: list(r.aliases)) == names(graph, "Member")


def test_the_first_boots_private_outputs_are_secret() -> None:
    graph = bring_up()
    for boot in graph.of("FirstBoot"):
        assert set(boot.request.additionalSecretOutputs) == {"user_data", "host_private_key"}


def holders_of(value: Any, text: str, secret: bool = False) -> list[bool]:
    """For each place where a text stands in a request's properties, whether it is marked secret there."""
    if isinstance(value, str):
        return [secret] if text in value else []
    if isinstance(value, dict):
        marked = secret or SECRET.items() <= value.items()
        return [found for part in value.values() for found in holders_of(part, text, marked)]
    if isinstance(value, list):
        return [found for part in value for found in holders_of(part, text, secret)]
    return []


def test_a_private_host_key_goes_into_the_snippet_alone_and_as_a_secret() -> None:
    graph = bring_up()
    places = {key: holders_of(MessageToDict(r.request.object), PRIVATE) for key, r in graph.resources.items()}
    assert {key for key, found in places.items() if found} == names(graph, "FileLegacy")
    assert all(all(found) for found in places.values())


def test_no_credential_of_the_environment_becomes_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {
        "PROXMOX_VE_API_TOKEN": "root@pam!t=token-canary",
        "PROXMOX_VE_PASSWORD": "password-canary",
        "PROXMOX_VE_USERNAME": "user-canary",
        "PROXMOX_VE_SSH_PRIVATE_KEY": "key-canary",
        "PROXMOX_SWARM_SSH_KEY": "/path-canary",
        "PROXMOX_SWARM_SSH_JUMP": "jump-canary@host",
        "SSH_AUTH_SOCK": "/agent-canary",
    }
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    graph = build(prod(), established=False)
    everything = json.dumps([MessageToDict(resource.request.object) for resource in graph.resources.values()])
    assert "canary" not in everything


def test_the_provider_gets_its_credentials_from_the_environment_only() -> None:
    assert set(bring_up()["proxmoxve proxmox"].inputs) == {"endpoint", "insecure"}


def hardware(settings: Settings) -> dict[str, Any]:
    graph = build(settings, established=True)
    return {member.name: member.inputs["hardware"] for member in graph.of("Member")}


@pytest.mark.parametrize(
    ("settings", "cycled"),
    [
        (changed("nodes", "docker-app-2", cpu=8), 1),
        (changed("nodes", "docker-app-2", boot=80), 1),
        (changed("networks", "main", gateway="192.168.4.2"), 7),
        (changed("networks", "storage", mtu=9000), 7),
        (changed("nodes", "docker-app-2", labels={"a": "b"}), 0),
        (changed("networks", "storage", bridge="vmbr1"), 0),
    ],
)
def test_what_a_machine_takes_over_at_its_next_start_power_cycles_it(settings: Settings, cycled: int) -> None:
    before, after = hardware(prod()), hardware(settings)
    assert len([name for name in before if before[name] != after[name]]) == cycled
