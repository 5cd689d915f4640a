from __future__ import annotations

import pytest

from proxmox_swarm.swarm import undeclared
from proxmox_swarm.swarm.errors import QuorumAtRisk
from tests.unit.swarm.world import Swarm, World

DECLARED = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


@pytest.fixture
def world() -> World:
    return World(["a", "b", "c", "stranger"])


def build(world: World, stranger: str = "worker") -> Swarm:
    others = ["stranger"] if stranger == "manager" else []
    return world.build(["a", "b", "c", *others], [] if others else ["stranger"])


def remove(world: World, swarm: Swarm, ids: list[str], declared: list[str] = DECLARED) -> list[str]:
    return undeclared.remove(
        world.targets("a", "b", "c"), swarm.id, ids, declared, drain_timeout=60, role_timeout=60, access=world
    )


@pytest.mark.parametrize("role", ["worker", "manager"])
def test_a_stranger_is_found_and_removed_with_its_role(world: World, role: str) -> None:
    swarm = build(world, role)
    found = undeclared.find(world.targets("a", "b", "c"), swarm.id, DECLARED, access=world)
    stranger = world["stranger"].certificate[1]
    assert found == [{"id": stranger, "hostname": "stranger", "address": "10.0.0.4", "role": role}]
    (said,) = remove(world, swarm, [stranger])
    assert "stranger" in said and "10.0.0.4" in said
    assert stranger not in swarm.nodes
    assert sum(node.in_raft for node in swarm.nodes.values()) == 3
    assert undeclared.find(world.targets("a"), swarm.id, DECLARED, access=world) == []


def test_what_is_declared_by_now_is_left_alone(world: World) -> None:
    swarm = build(world)
    stranger = world["stranger"].certificate[1]
    assert remove(world, swarm, [stranger], [*DECLARED, "10.0.0.4"]) == []
    members = [stranger]
    assert undeclared.find(world.targets("a"), swarm.id, DECLARED, members, access=world) == []
    assert stranger in swarm.nodes


def test_a_node_without_an_address_could_be_anybodys(world: World) -> None:
    swarm = build(world)
    node = swarm.nodes[world["stranger"].certificate[1]]
    node.address = ""
    assert undeclared.find(world.targets("a"), swarm.id, DECLARED, access=world) == []
    assert remove(world, swarm, [node.id]) == []


def test_the_quorum_is_kept(world: World) -> None:
    swarm = world.build(["a", "b", "stranger"], ["c"])
    world["b"].on = False
    world.pass_time(30)
    stranger = world["stranger"].certificate[1]
    with pytest.raises(QuorumAtRisk, match="1 of 2 would be reachable"):
        remove(world, swarm, [stranger])
    assert swarm.nodes[stranger].in_raft


def test_nobody_answers(world: World) -> None:
    swarm = build(world)
    for name in ("a", "b", "c"):
        world[name].on = False
    assert undeclared.find(world.targets("a", "b", "c"), swarm.id, DECLARED, access=world) is None
