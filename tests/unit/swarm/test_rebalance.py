"""Evening out: what is uneven is restarted once, what is even or would lose something is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.swarm import rebalance
from proxmox_swarm.swarm.errors import SwarmError
from proxmox_swarm.swarm.rebalance import Outcome, Plan
from tests.unit.swarm.world import Swarm, World


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build(["a", "b", "c"], ["d", "e"])


def planned(world: World, swarm: Swarm, *names: str) -> dict[str, Plan]:
    return {plan.name: plan for plan in rebalance.plan(world.targets("a", "b"), swarm.id, names, access=world)}


def evened(world: World, swarm: Swarm, plan: Plan, timeout: float = 60) -> Outcome:
    return rebalance.even_out(world.targets("a", "b"), swarm.id, plan, timeout=timeout, access=world)


def updates(world: World) -> list[Any]:
    return [detail for _, name, detail in world.calls if name == "service_update"]


def test_an_uneven_service_is_restarted_once_and_what_moved_is_told(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 3, "e": 2})
    plan = planned(world, swarm)["web"]
    assert (plan.untouched, plan.tasks, plan.policy) == ("", 5, "1 at a time, stop-first")
    assert plan.spread == {"a": 0, "b": 0, "c": 0, "d": 3, "e": 2}
    done = evened(world, swarm, plan)
    assert done.even
    assert done.after == dict.fromkeys("abcde", 1)
    assert done.moved == 4  # one was on e before and is there again
    ((_, spec),) = updates(world)
    assert spec["TaskTemplate"]["ForceUpdate"] == 1
    assert planned(world, swarm)["web"].untouched == "even"


def test_a_conflict_with_another_writer_is_read_again_and_forced_once(world: World, swarm: Swarm) -> None:
    service = world.add_service(swarm, "web", {"d": 3})
    plan = planned(world, swarm)["web"]
    world.sequence_errors = 3
    assert evened(world, swarm, plan).even
    assert len(updates(world)) == 4
    assert swarm.services[service["ID"]]["Spec"]["TaskTemplate"]["ForceUpdate"] == 1


def test_what_became_even_meanwhile_is_not_touched(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 3})
    plan = planned(world, swarm)["web"]
    evened(world, swarm, plan)
    world.calls.clear()
    assert evened(world, swarm, plan).moved == 0
    assert updates(world) == []


def test_what_is_left_alone_and_why(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "even", {"d": 1, "e": 1})
    world.add_service(swarm, "pinned", {"d": 3}, Placement={"Constraints": ["node.hostname==d"]})
    volume = {"Type": "volume", "Source": "data"}
    world.add_service(swarm, "db", {"d": 2}, ContainerSpec={"Mounts": [volume]})
    shared = {**volume, "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}}
    world.add_service(swarm, "files", {"d": 2}, ContainerSpec={"Mounts": [shared, {"Type": "volume"}]})
    short = world.add_service(swarm, "short", {"d": 2})
    short["Spec"]["Mode"]["Replicated"]["Replicas"] = 3
    world.add_service(swarm, "busy", {"d": 2})["UpdateStatus"] = {"State": "updating"}
    for name, mode in (("agent", "Global"), ("once", "ReplicatedJob"), ("sweep", "GlobalJob")):
        world.add_service(swarm, name, {})["Spec"]["Mode"] = {mode: {}}
    found = {name: plan.untouched for name, plan in planned(world, swarm).items()}
    assert found == {
        "agent": "global: one task a node",
        "busy": "an update of it is at work",
        "db": "uneven, but it has data on its nodes, in volume data: name it to move it all the same",
        "even": "even",
        "files": "",
        "once": "a job",
        "pinned": "d alone can run it",
        "short": "not whole: 2 of 3 running",
        "sweep": "a job",
    }
    assert planned(world, swarm, "db")["db"].untouched == ""
    assert updates(world) == []


def test_a_drained_node_is_no_place_to_even_out_to(world: World, swarm: Swarm) -> None:
    for name in "abce":
        node = world.node_of(world[name])
        assert node is not None
        node.spec["Availability"] = "drain"
    world.add_service(swarm, "web", {"d": 3})
    assert planned(world, swarm)["web"].untouched == "d alone can run it"


@pytest.mark.parametrize("state", ["paused", "rollback_completed"])
def test_an_update_that_ends_badly_is_an_error_with_its_reason(world: World, swarm: Swarm, state: str) -> None:
    world.add_service(swarm, "web", {"d": 3})
    world.update_ends = state
    with pytest.raises(
        SwarmError, match="evening out service web: its update ended badly: update paused due to failure"
    ):
        evened(world, swarm, planned(world, swarm)["web"])


def test_an_update_that_does_not_end_is_an_error_in_time(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 3})
    begun = world.now
    with pytest.raises(SwarmError, match="has not ended after 3 s: updating"):
        evened(world, swarm, planned(world, swarm)["web"], timeout=3)
    assert world.now - begun < 6


def test_a_manager_that_dies_meanwhile_is_replaced_by_another(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 3})
    plan = planned(world, swarm)["web"]
    world.events.append((world.now + 2, lambda: setattr(world["a"], "on", False)))
    assert evened(world, swarm, plan).moved > 0
    assert not world["a"].on


def test_a_name_that_no_service_has_is_refused(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 1})
    with pytest.raises(SwarmError, match="there is no wbe; there are: web"):
        planned(world, swarm, "wbe")
