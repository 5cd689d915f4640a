"""A node is out only while the others carry on, and comes back as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.swarm import hand_drain, maintenance
from proxmox_swarm.swarm.errors import DrainTimeout, EngineError, LockBusy, NoManager, QuorumAtRisk, SwarmError
from proxmox_swarm.swarm.lock import cluster_lock
from tests.unit.swarm.world import ELECTION, World

OUT = {"drain_timeout": 30, "back_timeout": 60}


def restart(world: World, name: str, log: list[str]) -> None:
    """What a restart of dockerd looks like from outside."""
    machine = world[name]
    log.append(world.node_of(machine).spec["Availability"])
    machine.state = "pending"
    world.events.append((world.now + 3, lambda: setattr(machine, "state", "active")))


@pytest.mark.parametrize("name", ["a", "c", "d"])
def test_it_is_drained_restarted_awaited_and_put_back(world: World, name: str) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    world.node_of(world[name]).tasks = [{"ID": "t", "ServiceID": "web", "Status": {"State": "running"}, "ends": True}]
    log: list[str] = []
    maintenance.restart_engine(
        world.target(name), world.targets("a", "b", "c"), lambda: restart(world, name, log), access=world, **OUT
    )
    node = world.node_of(world[name])
    assert log == ["drain"] and node.spec["Availability"] == "active"
    assert sum(n.in_raft for n in swarm.nodes.values()) == 3


def test_the_leader_s_engine_is_off_until_the_others_have_another_leader(world: World) -> None:
    """Back sooner, it would be taken for the leader by the others, and pass requests on that are not its own."""
    swarm = world.build(["a", "b", "c"], ["d"])
    world.leader = "a"
    seen: list[tuple[str, bool]] = []
    begun = world.now
    take_out(world, swarm.id, "a", lambda: seen.append((world.leader, world["a"].engine_up)))
    assert seen == [("b", False)] and world["a"].engine_up
    assert world.now - begun > ELECTION
    assert world.node_of(world["a"]).spec["Availability"] == "active"


@pytest.mark.parametrize("reason", ["nobody is elected", "what is done there fails"])
def test_the_leader_s_engine_runs_again_whatever_happens(world: World, reason: str) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    world.leader = "a"

    def action() -> None:
        raise SwarmError("restarting", where="a", came_back="broken")

    if reason == "nobody is elected":
        world.on_call = lambda *_: setattr(world, "leader", "" if not world["a"].engine_up else "a")
    with pytest.raises(SwarmError) as failed:
        take_out(world, swarm.id, "a", action)
    assert ("elected none in 60 s" in str(failed.value)) is (reason == "nobody is elected")
    assert world["a"].engine_up
    assert world.node_of(world["a"]).spec["Availability"] == "active"


def test_a_node_that_was_drained_before_stays_drained(world: World) -> None:
    world.build(["a"], ["d"])
    world.node_of(world["d"]).spec["Availability"] = "drain"
    log: list[str] = []
    maintenance.restart_engine(
        world.target("d"), world.targets("a"), lambda: restart(world, "d", log), access=world, **OUT
    )
    assert world.node_of(world["d"]).spec["Availability"] == "drain"


def test_a_node_in_no_swarm_is_simply_restarted(world: World) -> None:
    done: list[bool] = []
    maintenance.restart_engine(world.target("d"), world.targets("a"), lambda: done.append(True), access=world, **OUT)
    assert done == [True]


@pytest.mark.parametrize("name", ["b", "d"])
def test_an_engine_that_somebody_else_has_stopped_is_left_to_them_until_it_is_back(world: World, name: str) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    world[name].engine_up = False
    log: list[str] = []

    def restarted() -> None:
        maintenance.restart_engine(
            world.target(name), world.targets("a", "b", "c"), lambda: restart(world, name, log), access=world, **OUT
        )

    with ThreadPoolExecutor(1) as thread:
        with cluster_lock(swarm.id, "work of somebody else"):
            done = thread.submit(restarted)
            time.sleep(0.1)
            assert log == []
            world[name].engine_up = True
        done.result()
    assert log == ["drain"]


def test_an_engine_that_nobody_has_in_hand_is_simply_restarted(world: World) -> None:
    world.build(["a", "b", "c"], ["d"])
    world["b"].engine_up = False
    done: list[bool] = []
    maintenance.restart_engine(
        world.target("b"), world.targets("a", "b", "c"), lambda: done.append(True), access=world, **OUT
    )
    assert done == [True]


def test_a_manager_stays_while_another_is_down(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world["c"].on = False
    done: list[bool] = []
    with pytest.raises(QuorumAtRisk, match="NONE TO SPARE"):
        maintenance.with_node_out(
            world.target("b"), world.targets("a", "b", "c"), swarm.id,
            lambda: done.append(True), access=world, **OUT,
        )  # fmt: skip
    assert not done and world.node_of(world["b"]).spec["Availability"] == "active"


def test_a_manager_that_stays_says_who_is_down_and_the_command_that_takes_it_first(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world["c"].on = False
    with pytest.raises(QuorumAtRisk, match="NONE TO SPARE") as refused:
        take_out(world, swarm.id, "b", lambda: None)
    line = str(refused.value)
    assert "Have c brought back first: `PROXMOX_SWARM_FIRST='c' pulumi up --refresh`" in line
    assert "take it out of settings if gone for good" in line


def take_out(world: World, cluster_id: str, name: str, action: Callable[[], None]) -> None:
    target = world.target(name)
    maintenance.with_node_out(target, world.targets("a", "b", "c"), cluster_id, action, access=world, **OUT)


def test_workers_are_out_beside_each_other(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d", "e"])
    together = threading.Barrier(2, timeout=20)  # both wait inside until the other is out too
    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(take_out, world, swarm.id, name, lambda: together.wait() and None) for name in "de"]
    assert [future.result() for future in done] == [None, None]
    assert {node.spec["Availability"] for node in swarm.nodes.values()} == {"active"}


@pytest.mark.parametrize("other", ["b", "d"])
def test_while_a_manager_is_out_nobody_else_goes(world: World, other: str) -> None:
    """A worker neither: it would register anew around a change of leader."""
    swarm = world.build(["a", "b", "c"], ["d"])
    refused: list[Exception] = []

    def meanwhile() -> None:
        with ThreadPoolExecutor(1) as thread:
            try:
                thread.submit(take_out, world, swarm.id, other, lambda: pytest.fail("both are out")).result()
            except LockBusy as error:
                refused.append(error)

    take_out(world, swarm.id, "a", meanwhile)
    assert len(refused) == 1 and f"maintenance of {world.target('a')}" in str(refused[0])


def test_an_engine_that_does_not_say_what_it_is_counts_as_a_manager(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    went: list[str] = []

    def meanwhile() -> None:
        world["d"].on = False
        with ThreadPoolExecutor(1) as thread, pytest.raises(LockBusy):
            thread.submit(take_out, world, swarm.id, "d", lambda: went.append("d")).result()
        world["d"].on = True

    take_out(world, swarm.id, "a", meanwhile)
    assert not went


def test_the_only_manager_may_restart(world: World) -> None:
    world.build(["a"], ["d"])
    log: list[str] = []
    maintenance.restart_engine(
        world.target("a"), world.targets("a"), lambda: restart(world, "a", log), access=world, **OUT
    )
    assert log == ["drain"] and world.node_of(world["a"]).spec["Availability"] == "active"


def test_an_action_that_fails_leaves_the_node_as_it_was(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])

    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        maintenance.with_node_out(world.target("d"), world.targets("a", "b", "c"), swarm.id, fails, access=world, **OUT)
    assert world.node_of(world["d"]).spec["Availability"] == "active"


def test_why_the_action_failed_is_told_although_the_node_does_not_come_back(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    node = world.node_of(world["d"])

    def fails() -> None:
        world["d"].on = False
        raise RuntimeError("start failed: not enough memory")

    with pytest.raises(RuntimeError, match="not enough memory"):
        maintenance.with_node_out(world.target("d"), world.targets("a", "b", "c"), swarm.id, fails, access=world, **OUT)
    assert node.spec["Availability"] == "drain"


def test_a_node_that_does_not_come_back_is_told_and_stays_drained(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    node = world.node_of(world["d"])
    with pytest.raises(SwarmError, match="stays drained"):
        maintenance.with_node_out(
            world.target("d"), world.targets("a", "b", "c"), swarm.id,
            lambda: setattr(world["d"], "on", False), access=world, **OUT,
        )  # fmt: skip
    assert node.spec["Availability"] == "drain"


def test_tasks_that_do_not_end_keep_the_action_from_running(world: World) -> None:
    world.build(["a"], ["d"])
    world.node_of(world["d"]).tasks = [{"ID": "t", "ServiceID": "db", "Status": {"State": "running"}}]
    log: list[str] = []
    with pytest.raises(DrainTimeout, match="db"):
        maintenance.restart_engine(
            world.target("d"), world.targets("a"), lambda: restart(world, "d", log), access=world, **OUT
        )
    assert not log
    assert world.node_of(world["d"]).spec["Availability"] == "active", "nothing was done to it"


BROKEN_OFF = [
    NoManager("asking", came_back="no leader"),
    EngineError(500, "rpc error: code = Internal"),
    Unreachable("asking", came_back="no answer"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", BROKEN_OFF, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["c", "d"])
def test_a_drain_that_is_broken_off_leaves_the_node_as_it_was(world: World, error: BaseException, name: str) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    node = world.node_of(world[name])
    went: list[str] = []

    def breaks_off(asked: str, call: str) -> None:
        if call == "tasks" and node.spec["Availability"] == "drain":
            raise error

    world.on_call = breaks_off
    with pytest.raises((type(error), NoManager)):
        take_out(world, swarm.id, name, lambda: went.append(name))
    world.on_call = lambda node, call: None
    assert (went, node.spec["Availability"]) == ([], "active")
    take_out(world, swarm.id, name, lambda: went.append(name))
    assert (went, node.spec["Availability"]) == ([name], "active")


def test_an_interrupted_action_leaves_the_node_as_it_was(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])

    def interrupted() -> None:
        restart(world, "c", [])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_out(world, swarm.id, "c", interrupted)
    assert world.node_of(world["c"]).spec["Availability"] == "active" and world["c"].state == "active"


def test_an_interrupted_wait_for_the_node_leaves_it_as_it_was(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    node = world.node_of(world["c"])

    def is_away() -> None:
        restart(world, "c", [])
        world.on_call = interrupt

    def interrupt(asked: str, call: str) -> None:
        world.on_call = lambda node, call: None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_out(world, swarm.id, "c", is_away)
    assert node.spec["Availability"] == "active"


def test_what_others_set_meanwhile_stays(world: World) -> None:
    """A node that was not drained for it, because it was down; and one that a person drains while it is out."""
    swarm = world.build(["a", "b", "c"], ["d", "e"])
    down, out = world.node_of(world["d"]), world.node_of(world["e"])
    world["d"].on = False
    world.pass_time(20)

    def powered_on() -> None:
        world["d"].on = True
        down.spec["Availability"] = "pause"

    take_out(world, swarm.id, "d", powered_on)
    assert down.spec["Availability"] == "pause"
    take_out(world, swarm.id, "e", lambda: out.spec["Labels"].update({hand_drain.LABEL: "new fan"}))
    assert (out.spec["Availability"], out.spec["Labels"]) == ("drain", {hand_drain.LABEL: "new fan"})


def test_an_engine_in_a_managers_name_is_restarted_and_the_manager_left_alone(world: World) -> None:
    world.build(["a", "b", "c"], ["d"])
    cluster, manager, _ = world["a"].certificate
    world["d"].certificate = (cluster, manager, "worker")
    done: list[str] = []
    maintenance.restart_engine(
        world.target("d"), world.targets("a", "b", "c"), lambda: done.append("restarted"), access=world, **OUT
    )
    assert done and not [call for _, call, _ in world.calls if call == "node_update"]
