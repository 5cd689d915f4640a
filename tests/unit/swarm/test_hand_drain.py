"""A drain by hand is kept by everything we do, and is no drift."""

from __future__ import annotations

from proxmox_swarm.swarm import hand_drain
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.membership import converge, observe
from tests.unit.swarm.world import World

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
