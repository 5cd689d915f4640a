"""A drain by hand is kept by everything we do, and is no drift."""

from __future__ import annotations

import pytest

from proxmox_swarm.swarm import hand_drain
from proxmox_swarm.swarm.errors import SwarmError
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.membership import converge, observe
from tests.unit.swarm.world import Node, Swarm, World

TIMES = {"join_timeout": 60, "role_timeout": 60}


def drained(world: World) -> tuple[MemberSpec, str]:
    swarm = world.build(["a"], ["d"])
    world.node_of(world["d"]).spec["Labels"] = {"storage": "ssd"}
    hand_drain.drain(world.targets("a"), swarm.id, world.target("d"), "new fan", timeout=30, access=world)
    return MemberSpec(world.target("d"), "worker", labels={"storage": "ssd"}), swarm.id


def test_it_is_drained_with_the_reason_in_the_swarm(world: World) -> None:
    drained(world)
    spec = world.node_of(world["d"]).spec
    assert spec["Availability"] == "drain"
    assert spec["Labels"] == {"storage": "ssd", hand_drain.LABEL: "new fan"}


def test_it_is_no_drift_and_its_reason_is_told(world: World) -> None:
    spec, cluster = drained(world)
    state = observe(spec, world.targets("a"), cluster, world.node_of(world["d"]).id, access=world)
    assert (state.verdict, state.detail) == ("ok", "drained by hand: new fan")
    assert (state.availability, state.labels) == ("active", {"storage": "ssd"})


def test_bringing_the_node_to_its_declaration_keeps_it(world: World) -> None:
    spec, cluster = drained(world)
    changed = MemberSpec(spec.target, "worker", labels={"storage": "tape"})
    state = observe(changed, world.targets("a"), cluster, world.node_of(world["d"]).id, access=world)
    assert state.verdict == "drifted"
    converge(changed, world.targets("a"), cluster, state, access=world, **TIMES)
    after = world.node_of(world["d"]).spec
    assert after["Availability"] == "drain"
    assert after["Labels"] == {"storage": "tape", hand_drain.LABEL: "new fan"}


def test_undrain_ends_it_and_says_why_it_was(world: World) -> None:
    _, cluster = drained(world)
    managers = world.targets("a")
    assert hand_drain.undrain(managers, cluster, world.target("d"), "active", access=world) == "new fan"
    after = world.node_of(world["d"]).spec
    assert (after["Availability"], after["Labels"]) == ("active", {"storage": "ssd"})
    assert hand_drain.undrain(managers, cluster, world.target("d"), "active", access=world) is None


# -- which node it is --------------------------------------------------------------------------------------------------


def with_a_ghost(world: World) -> tuple[Swarm, Node]:
    """d was rebuilt and joined by hand: the former machine's node is still listed, and first."""
    swarm = world.build(["a"], ["d"])
    ghost = world.node_of(world["d"])
    world.rebuild("d")
    world.pass_time(20)
    world.engine(world.target("d")).swarm_join(
        {"RemoteAddrs": [f"{world.target('a').address}:2377"], "JoinToken": swarm.token("worker")}
    )
    return swarm, ghost


def drain(world: World, swarm: Swarm) -> None:
    hand_drain.drain(world.targets("a"), swarm.id, world.target("d"), "new fan", timeout=30, access=world)


def undrain(world: World, swarm: Swarm) -> str | None:
    return hand_drain.undrain(world.targets("a"), swarm.id, world.target("d"), "active", access=world)


def test_it_is_the_node_that_the_engine_is_not_the_one_an_earlier_machine_left(world: World) -> None:
    swarm, ghost = with_a_ghost(world)
    drain(world, swarm)
    assert world.node_of(world["d"]).spec["Availability"] == "drain"
    assert (ghost.spec["Availability"], ghost.spec["Labels"]) == ("active", {})
    ghost.spec["Labels"] = {hand_drain.LABEL: "of the former machine"}
    assert undrain(world, swarm) == "new fan"
    assert world.node_of(world["d"]).spec["Availability"] == "active"


def test_one_whose_engine_does_not_answer_is_the_ready_one(world: World) -> None:
    swarm, ghost = with_a_ghost(world)
    world["d"].engine_up = False
    drain(world, swarm)
    assert [node.spec["Availability"] for node in swarm.nodes.values() if node.hostname == "d"] == ["active", "drain"]
    assert ghost.spec["Labels"] == {}


def test_one_that_is_down_is_drained_where_no_other_has_its_address(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    node = world.node_of(world["d"])
    world["d"].on = False
    world.pass_time(20)
    drain(world, swarm)
    assert node.spec["Availability"] == "drain"


def test_which_of_two_that_are_down_it_is_nobody_can_tell(world: World) -> None:
    swarm, _ = with_a_ghost(world)
    world["d"].on = False
    world.pass_time(20)
    with pytest.raises(SwarmError, match=r"does not answer, and a .* lists \w+ \(down\), \w+ \(down\) at that address"):
        drain(world, swarm)
    assert {node.spec["Availability"] for node in swarm.nodes.values()} == {"active"}


def test_a_machine_that_is_no_member_is_not_taken_for_what_an_earlier_one_left(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    ghost = world.node_of(world["d"])
    world.rebuild("d")
    for change in (drain, undrain):
        with pytest.raises(SwarmError, match=f"engine is in no swarm; .*: {ghost.id}"):
            change(world, swarm)
    assert (ghost.spec["Availability"], ghost.spec["Labels"]) == ("active", {})


def test_an_engine_in_a_managers_name_does_not_get_that_manager_drained(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    world["d"].certificate = (swarm.id, world["b"].certificate[1], "worker")
    with pytest.raises(SwarmError, match="which is not its own there"):
        drain(world, swarm)
    assert {node.spec["Availability"] for node in swarm.nodes.values()} == {"active"}
