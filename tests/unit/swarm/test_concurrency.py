"""Elections, managers that die and other writers, at every single call of every operation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from proxmox_swarm.swarm import cluster_settings, hand_drain, maintenance, membership
from proxmox_swarm.swarm.member import MemberSpec
from tests.unit.swarm.world import FakeEngine, Swarm, World

MANAGERS = ("a", "b", "c", "g", "h")
LABELS = {"storage": "ssd"}
TIMES = {"join_timeout": 120, "role_timeout": 120}


def _member(role: str, name: str) -> Callable[[World, Swarm], Any]:
    def run(world: World, swarm: Swarm) -> Any:
        spec = MemberSpec(world.target(name), role, labels=LABELS)
        return membership.join_or_adopt(spec, world.targets(*MANAGERS), swarm.id, **TIMES, access=world)

    return run


def _remove(name: str) -> Callable[[World, Swarm], Any]:
    def run(world: World, swarm: Swarm) -> Any:
        spec = MemberSpec(world.target(name), "manager" if name in MANAGERS else "worker")
        node_id = next(n.id for n in swarm.nodes.values() if n.hostname == name)
        membership.remove(spec, world.targets(*MANAGERS), swarm.id, node_id, drain_timeout=60, access=world)

    return run


def _maintain(name: str) -> Callable[[World, Swarm], Any]:
    def run(world: World, swarm: Swarm) -> Any:
        def restart() -> None:
            world[name].state = "pending"
            world.events.append((world.now + 3, lambda: setattr(world[name], "state", "active")))

        maintenance.restart_engine(
            world.target(name), world.targets(*MANAGERS), restart, drain_timeout=60, back_timeout=60, access=world
        )

    return run


def _settings(world: World, swarm: Swarm) -> Any:
    wanted = {"task_history": 2, "labels": {"site": "one"}}
    return cluster_settings.apply(world.targets(*MANAGERS), swarm.id, wanted, access=world)


def _drain(world: World, swarm: Swarm) -> Any:
    hand_drain.drain(world.targets(*MANAGERS), swarm.id, world.target("d"), "new fan", timeout=60, access=world)


def _undrain(world: World, swarm: Swarm) -> Any:
    hand_drain.undrain(world.targets(*MANAGERS), swarm.id, world.target("drained"), "active", access=world)


OPERATIONS: dict[str, Callable[[World, Swarm], Any]] = {
    "join a worker": _member("worker", "new"),
    "join a manager": _member("manager", "new"),
    "rejoin where a ghost manager is left": _member("manager", "rebuilt"),
    "label": _member("worker", "d"),
    "promote": _member("manager", "d"),
    "demote": _member("worker", "h"),
    "remove a worker": _remove("e"),
    "remove a manager": _remove("g"),
    "restart a worker's engine": _maintain("d"),
    "restart a manager's engine": _maintain("c"),
    "settings": _settings,
    "drain by hand": _drain,
    "undrain": _undrain,
}


@dataclass
class Scene:
    """Five managers and three workers, and one operation on them."""

    world: World
    swarm: Swarm
    operate: Callable[[World, Swarm], Any]

    def run(self) -> None:
        self.operate(self.world, self.swarm)

    def result(self) -> Any:
        """What the operation left: each node's spec and place in raft by host name, the settings, each engine's state."""
        nodes = sorted((n.hostname, copy.deepcopy(n.spec), n.in_raft) for n in self.swarm.nodes.values())
        engines = {m.target.node: (m.state, m.certificate and m.certificate[2]) for m in self.world.machines.values()}
        return nodes, self.swarm.spec, engines


def scene(operation: str) -> Scene:
    world = World([*MANAGERS, "d", "e", "drained", "new", "rebuilt"])
    ghost = ["rebuilt"] if "ghost" in operation else []
    swarm = world.build([*MANAGERS, *ghost], ["d", "e", "drained"])
    world.rebuild("rebuilt")
    for name in ("d", "e"):
        world.node_of(world[name]).tasks = [{"ID": name, "ServiceID": "web", "Status": {"State": "running"}, "ends": 1}]
    world.node_of(world["drained"]).spec.update(Availability="drain", Labels={hand_drain.LABEL: "new fan"})
    world.pass_time(20)
    world.calls.clear()
    return Scene(world, swarm, OPERATIONS[operation])


def undisturbed(operation: str) -> tuple[Any, list[tuple[str, str]]]:
    calm = scene(operation)
    calm.run()
    return calm.result(), [(node, call) for node, call, _ in calm.world.calls]


def at_call(world: World, number: int, happens: Callable[[str], None]) -> None:
    """Let something happen just before so-manieth call, given the name of the node that is asked."""
    count = [0]

    def seen(node: str, _: str) -> None:
        count[0] += 1
        if count[0] == number:
            happens(node)

    world.on_call = seen


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_election_at_any_moment_is_waited_out(operation: str) -> None:
    expected, calls = undisturbed(operation)
    for number in range(1, len(calls) + 1):
        disturbed = scene(operation)
        world = disturbed.world
        at_call(world, number, lambda _, w=world: setattr(w, "leaderless_until", w.now + 8))
        disturbed.run()
        assert disturbed.result() == expected, (number, calls[number - 1])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_manager_that_dies_at_any_moment_is_not_needed(operation: str) -> None:
    """Whichever manager is being asked loses its power; the operation goes on through the others."""
    expected, calls = undisturbed(operation)
    about = {"remove a manager": "g", "restart a manager's engine": "c", "demote": "h"}.get(operation)
    for number, (node, call) in enumerate(calls, 1):
        if node not in MANAGERS or node == about:
            continue
        disturbed = scene(operation)
        world = disturbed.world
        at_call(world, number, lambda name, w=world: setattr(w[name], "on", False))
        disturbed.run()
        assert disturbed.result() == expected, (number, node, call)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_other_writers_in_between_are_not_in_the_way(operation: str) -> None:
    expected, _ = undisturbed(operation)
    disturbed = scene(operation)
    disturbed.world.sequence_errors = 5
    disturbed.run()
    assert disturbed.result() == expected


class Meddling(FakeEngine):
    """Each time a node is read, somebody else writes to it before we do."""

    def node(self, node_id: str) -> dict[str, Any]:
        seen = super().node(node_id)
        node = self.world.swarm_of(self.world.reach(self.target)).nodes[node_id]
        if node.spec["Labels"].get("by") != "hand":
            node.spec["Labels"] = {**node.spec["Labels"], "by": "hand"}
            node.version += 1
        return seen

    def swarm_inspect(self) -> dict[str, Any]:
        seen = super().swarm_inspect()
        swarm = self.world.swarm_of(self.world.reach(self.target))
        if swarm.spec["Raft"]["SnapshotInterval"] != 77:
            swarm.spec["Raft"]["SnapshotInterval"] = 77
            swarm.version += 1
        return seen


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("restart a worker's engine", "d"),
        ("restart a manager's engine", "c"),
        ("drain by hand", "d"),
        ("undrain", "drained"),
    ],
)
def test_a_label_set_by_hand_while_we_write_is_kept(operation: str, name: str) -> None:
    meddled = scene(operation)
    meddled.world.engine = lambda target: Meddling(meddled.world, target)
    meddled.run()
    assert meddled.world.node_of(meddled.world[name]).spec["Labels"]["by"] == "hand"


def test_a_label_set_by_hand_is_kept_while_a_role_changes_and_goes_where_labels_are_declared(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    roles = []

    class Watching(Meddling):
        def node_update(self, node_id: str, version: int, spec: dict[str, Any]) -> None:
            super().node_update(node_id, version, spec)
            roles.append((spec["Role"], dict(spec["Labels"])))

    world.engine = lambda target: Watching(world, target)
    spec = MemberSpec(world.target("d"), "manager", labels=LABELS)
    membership.join_or_adopt(spec, world.targets("a", "b", "c"), swarm.id, **TIMES, access=world)
    assert roles == [("manager", {"by": "hand"}), ("manager", LABELS)]


def test_a_setting_of_the_swarm_that_is_not_declared_is_kept_while_we_write(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world.engine = lambda target: Meddling(world, target)
    applied = cluster_settings.apply(world.targets("a", "b"), swarm.id, {"task_history": 2}, access=world)
    assert applied == {"task_history": 2}
    assert swarm.spec["Raft"]["SnapshotInterval"] == 77
    assert swarm.spec["Orchestration"]["TaskHistoryRetentionLimit"] == 2
