"""Several managers go in one plan, in health and dead: one at a time, dead ones first, and never the quorum."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.swarm import maintenance, membership, reach
from proxmox_swarm.swarm.errors import QuorumAtRisk
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from tests.unit.swarm.world import Node, Swarm, World

MANAGERS = ["a", "b", "c"]


def node(world: World, swarm: Swarm, name: str) -> Node:
    return next(n for n in swarm.nodes.values() if n.hostname == name)


def remove(world: World, swarm: Swarm, name: str, *leaving: str) -> None:
    """As a member is deleted whose last outputs name all three."""
    membership.remove(
        MemberSpec(world.target(name), "manager"), world.targets(*MANAGERS), swarm.id, node(world, swarm, name).id,
        drain_timeout=30, role_timeout=60, retiring=world.targets(*leaving), access=world,
    )  # fmt: skip


def demote(world: World, swarm: Swarm, name: str, *leaving: str) -> MemberState:
    """As a member is updated whose node is a worker now."""
    found = node(world, swarm, name)
    last = MemberState("ok", "", found.id, "manager", "active", {})
    stay = [other for other in MANAGERS if other not in leaving]
    return membership.converge(
        MemberSpec(world.target(name), "worker"), world.targets(*stay), swarm.id, last,
        join_timeout=30, role_timeout=60, retiring=world.targets(*leaving), access=world,
    )  # fmt: skip


def raft(swarm: Swarm) -> set[str]:
    return {n.hostname for n in swarm.nodes.values() if n.in_raft}


@pytest.mark.parametrize("step", [remove, demote])
def test_two_that_go_at_the_same_moment_wait_for_each_other(world: World, step: object) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world.careless = True  # nothing but our own guard keeps the quorum
    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(step, world, swarm, name, "b", "c") for name in "bc"]  # type: ignore[arg-type]
    assert [future.exception() for future in done] == [None, None]
    assert raft(swarm) == {"a"}
    assert world.quorate(swarm)


@pytest.mark.parametrize(("first", "then"), [("b", "c"), ("c", "b")])
def test_a_dead_manager_goes_before_a_living_one_whichever_is_asked_first(world: World, first: str, then: str) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    world.pass_time(20)
    for name in (first, then):
        remove(world, swarm, name, "b", "c")
    assert {n.hostname for n in swarm.nodes.values()} == {"a", "d"}
    assert world.quorate(swarm)


def test_a_living_manager_is_demoted_once_a_dead_one_that_is_to_go_is_out(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    assert demote(world, swarm, "b", "b", "c").role == "worker"
    assert raft(swarm) == {"a"}
    assert node(world, swarm, "c").spec["Role"] == "worker", "its own turn is still to come"


def restart(world: World, swarm: Swarm, name: str, *leaving: str) -> None:
    """As a manager is power-cycled or its engine restarted."""
    stay = [other for other in MANAGERS if other not in leaving]
    maintenance.restart_engine(
        world.target(name), world.targets(*stay), lambda: None,
        drain_timeout=30, back_timeout=60, retiring=world.targets(*leaving), access=world,
    )  # fmt: skip


def test_a_living_manager_is_taken_out_for_a_while_once_a_dead_one_that_is_to_go_is_out(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    restart(world, swarm, "b", "c")
    assert raft(swarm) == {"a", "b"}
    assert node(world, swarm, "b").spec["Availability"] == "active"


def test_a_dead_manager_that_is_to_stay_keeps_a_living_one_from_being_taken_out(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    with pytest.raises(QuorumAtRisk, match="NONE TO SPARE"):
        restart(world, swarm, "b")
    assert raft(swarm) == set(MANAGERS)


@pytest.mark.parametrize("step", [remove, demote])
def test_a_dead_manager_that_is_to_stay_keeps_a_living_one_from_going(world: World, step: object) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    with pytest.raises(QuorumAtRisk, match="1 of 2 would be reachable, 2 needed") as refused:
        step(world, swarm, "b", "b")  # type: ignore[operator]
    assert "PROXMOX_SWARM_FIRST='c' pulumi up --refresh" in str(refused.value)
    assert raft(swarm) == set(MANAGERS)


@pytest.mark.parametrize("step", [remove, demote, restart])
def test_a_manager_that_died_a_moment_ago_is_not_counted_on(world: World, step: object) -> None:
    """The leader still calls it reachable, and the engines would let the quorum go."""
    swarm = world.build(MANAGERS, ["d"])
    world.careless, world.notices_after = True, 4.0
    world["c"].on = False
    with pytest.raises(QuorumAtRisk, match="c brought back first"):
        step(world, swarm, "b")  # type: ignore[operator]
    assert raft(swarm) == set(MANAGERS)
    assert node(world, swarm, "b").spec["Availability"] == "active"


@pytest.mark.parametrize("step", [remove, restart])
def test_one_that_dies_during_the_drain_is_not_counted_on(world: World, step: object) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world.careless, world.notices_after = True, 4.0

    def die(_: str, call: str) -> None:
        world["c"].on = world["c"].on and call != "node_update"

    world.on_call = die
    with pytest.raises(QuorumAtRisk, match="c brought back first"):
        step(world, swarm, "b")  # type: ignore[operator]
    assert raft(swarm) == set(MANAGERS)


@pytest.mark.parametrize("step", [remove, demote, restart])
def test_a_dead_one_that_is_to_go_leaves_first_even_if_the_leader_has_not_noticed(world: World, step: object) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world.careless, world.notices_after = True, 4.0
    world["c"].on = False
    step(world, swarm, "b", "b", "c")  # type: ignore[operator]
    assert world.quorate(swarm) and not node(world, swarm, "c").in_raft


def test_what_a_rebuilt_manager_left_behind_is_not_counted_on(world: World) -> None:
    """The new machine answers for it at its address, so the leader calls both reachable (moby#34722)."""
    swarm = world.build(MANAGERS, ["d"])
    world.careless = True
    ghost = node(world, swarm, "c").id
    world.rebuild("c")
    world.engine(world.target("c")).swarm_join(
        {"AdvertiseAddr": "10.0.0.3:2377", "RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": swarm.token("manager")}
    )
    world.pass_time(5)
    assert len(raft(swarm)) == 3 and swarm.nodes[ghost].in_raft
    with pytest.raises(QuorumAtRisk, match="NONE TO SPARE"):
        restart(world, swarm, "b")


def test_one_that_only_we_cannot_ask_counts_once_the_leader_has_had_time_to_notice(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])

    def refuse(name: str, call: str) -> None:
        if name == "c":
            raise Unreachable(f"asking for {call}", where=name, came_back="no route to host")

    world.on_call = refuse
    begun = world.now
    remove(world, swarm, "b")
    assert raft(swarm) == {"a", "c"}
    assert world.now - begun > reach.NOTICED


def test_a_manager_that_is_down_leaves_raft_when_it_is_declared_a_worker_and_comes_back_as_one(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["c"].on = False
    with pytest.raises(Unreachable, match=r"c \(10.0.0.3\)"):
        demote(world, swarm, "c", "c")
    assert raft(swarm) == {"a", "b"}
    world["c"].on = True
    world["c"].certificate = (swarm.id, node(world, swarm, "c").id, "worker")  # the managers give it a new one
    assert demote(world, swarm, "c", "c").verdict == "ok"


def test_a_worker_that_is_down_stays_as_it_is(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["d"].on = False
    with pytest.raises(Unreachable):
        demote(world, swarm, "d")
    assert not [call for call in world.calls if call[1] == "node_update"]
