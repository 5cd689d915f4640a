"""A manager becomes a worker with its certificate; a restart before that makes a member of raft of it once more."""

from __future__ import annotations

import pytest

from proxmox_swarm.swarm import membership
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from tests.unit.swarm.world import Swarm, World

MANAGERS = ("a", "b", "c")


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build([*MANAGERS, "d", "e"])


def declare(world: World, swarm: Swarm, role: str = "worker") -> MemberState:
    machine = world["e"]
    last = MemberState("ok", "", machine.certificate[1], "manager", "active", {}, machine.engine_id)
    return membership.converge(
        MemberSpec(world.target("e"), role),  # type: ignore[arg-type]
        world.targets(*MANAGERS),
        swarm.id,
        last,
        join_timeout=60,
        role_timeout=60,
        access=world,
    )


def broken_off(world: World, swarm: Swarm) -> str:
    """Raft has let go of the node, its certificate is the old one, and dockerd restarts; the id of the node."""
    node = world.node_of(world["e"])
    engine = world.engine(world.target("a"))
    engine.node_update(node.id, node.version, {**node.spec, "Role": "worker"})
    while node.in_raft:
        world.pass_time(0.05)
    assert world["e"].certificate[2] == "manager"
    world.restart("e")
    world.pass_time(5)
    assert node.in_raft and world["e"].certificate[2] == "worker"
    return node.id


def test_a_demotion_is_done_when_the_node_has_its_certificate(world: World, swarm: Swarm) -> None:
    state = declare(world, swarm)
    assert (state.verdict, state.role) == ("ok", "worker")
    assert world["e"].certificate[2] == "worker"
    world.restart("e")
    world.pass_time(5)
    assert sum(node.in_raft for node in swarm.nodes.values()) == 4


def test_what_a_restart_broke_off_is_told(world: World, swarm: Swarm) -> None:
    node_id = broken_off(world, swarm)
    spec = MemberSpec(world.target("e"), "worker")
    state = membership.observe(spec, world.targets(*MANAGERS), swarm.id, node_id, access=world)
    assert state.verdict == "not_ready" and "raft still counts it" in state.detail


@pytest.mark.parametrize("role", ["worker", "manager"])
def test_and_put_right_by_joining_anew(world: World, swarm: Swarm, role: str) -> None:
    former = broken_off(world, swarm)
    state = declare(world, swarm, role)
    assert (state.verdict, state.role) == ("ok", role) and state.node_id != former
    assert former not in swarm.nodes
    assert sum(node.in_raft for node in swarm.nodes.values()) == (5 if role == "manager" else 4)


def test_one_that_is_under_way_is_left_alone(world: World, swarm: Swarm) -> None:
    node = world.node_of(world["e"])
    world.engine(world.target("a")).node_update(node.id, node.version, {**node.spec, "Role": "worker"})
    assert declare(world, swarm).node_id == node.id
