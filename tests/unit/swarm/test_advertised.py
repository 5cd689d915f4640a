"""A member is where the others look for it, or it is none."""

from __future__ import annotations

import pytest

from proxmox_swarm.swarm import membership
from proxmox_swarm.swarm.errors import JoinFailed
from proxmox_swarm.swarm.member import MemberSpec
from tests.unit.swarm.world import Swarm, World

DETECTED = "172.16.0.9"


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build(["a", "b", "c"])


def join(world: World, swarm: Swarm, role: str) -> None:
    spec = MemberSpec(world.target("d"), role)
    managers = world.targets("a", "b", "c", *(["d"] if role == "manager" else []))
    membership.join_or_adopt(spec, managers, swarm.id, join_timeout=60, role_timeout=60, access=world)


@pytest.mark.parametrize("role", ["worker", "manager"])
def test_a_join_at_another_address_is_undone_and_made_again_when_the_machine_has_its_own(
    world: World, swarm: Swarm, role: str
) -> None:
    world["d"].detects = DETECTED
    for _run in range(2):
        with pytest.raises(JoinFailed, match=rf"advertises {DETECTED} instead of 10\.0\.0\.4.*the join was undone"):
            join(world, swarm, role)
        assert world["d"].state == "inactive" and len(swarm.nodes) == 3
        assert sum(node.in_raft for node in swarm.nodes.values()) == 3
    world["d"].detects = ""
    join(world, swarm, role)
    assert world.node_of(world["d"]).spec["Availability"] == "active"


def test_where_it_cannot_be_undone_it_stays_refused_and_drained(world: World, swarm: Swarm) -> None:
    world["d"].detects = DETECTED
    gone = []

    def on_call(node: str, call: str) -> None:
        if (node == "d" and call == "swarm_leave") or (call == "node_remove" and not gone):
            gone.append(call)
            raise JoinFailed("removing it", came_back="broken off")

    world.on_call = on_call
    with pytest.raises(JoinFailed, match=r"it is still a member, node .*, and drained"):
        join(world, swarm, "worker")
    world.on_call = lambda node, call: None
    node = world.node_of(world["d"])
    with pytest.raises(JoinFailed, match=rf"instead of .*`docker node rm --force {node.id}`"):
        join(world, swarm, "worker")
    assert node.spec["Availability"] == "drain"
    # What the error says to do.
    world.engine(world.target("a")).node_remove(node.id, force=True)
    world["d"].detects = ""
    join(world, swarm, "worker")
    assert world.node_of(world["d"]).spec["Availability"] == "active"
