"""Engines that never answer, and changes that never come about: every operation ends, and says what it waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.swarm import cluster_settings, hand_drain, maintenance, membership
from proxmox_swarm.swarm.engine import REQUEST_TIMEOUT
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.inventory import read_inventory
from proxmox_swarm.swarm.member import MemberSpec
from tests.unit.swarm.world import SEQUENCE, FakeEngine, Swarm, World

KNOWN = ("a", "b", "c")
#: A request that is not answered ends by itself. So many may be under way when a deadline passes, and once more
#: afterwards; this world's clock counts those that are asked at the same time one after the other.
REQUESTS = 2 * len(KNOWN)
JOIN, ROLE, DRAIN, BACK = 60.0, 50.0, 40.0, 30.0
#: Raised where an engine with a majority in sight has no leader for so long.
LEADER = 90.0


def _member(role: str, name: str) -> Callable[[World, Swarm], Any]:
    return lambda world, swarm: membership.join_or_adopt(
        MemberSpec(world.target(name), role, labels={"storage": "ssd"}), world.targets(*KNOWN), swarm.id,
        join_timeout=JOIN, role_timeout=ROLE, access=world,
    )  # fmt: skip


def _remove(name: str, role: str) -> Callable[[World, Swarm], Any]:
    return lambda world, swarm: membership.remove(
        MemberSpec(world.target(name), role), world.targets(*KNOWN), swarm.id, _id(swarm, name),
        drain_timeout=DRAIN, role_timeout=ROLE, access=world,
    )  # fmt: skip


def _restart(world: World, swarm: Swarm) -> None:
    maintenance.restart_engine(
        world.target("d"), world.targets(*KNOWN), lambda: None, drain_timeout=DRAIN, back_timeout=BACK, access=world
    )


def _settings(world: World, swarm: Swarm) -> Any:
    return cluster_settings.apply(world.targets(*KNOWN), swarm.id, {"task_history": 2}, access=world)


def _drain(world: World, swarm: Swarm) -> None:
    hand_drain.drain(world.targets(*KNOWN), swarm.id, world.target("d"), "new fan", timeout=DRAIN, access=world)


def _undrain(world: World, swarm: Swarm) -> None:
    hand_drain.undrain(world.targets(*KNOWN), swarm.id, world.target("d"), "active", access=world)


def _list(world: World, swarm: Swarm) -> Any:
    return read_inventory(world.targets(*KNOWN), swarm.id, access=world)


#: Each operation with the longest time its deadlines add up to.
OPERATIONS: dict[str, tuple[Callable[[World, Swarm], Any], float]] = {
    "join a worker": (_member("worker", "new"), JOIN + ROLE),
    "join a manager": (_member("manager", "new"), JOIN + ROLE),
    "label": (_member("worker", "d"), JOIN + ROLE),
    "promote": (_member("manager", "d"), JOIN + 2 * ROLE),
    "demote": (_member("worker", "c"), JOIN + 2 * ROLE),
    "remove a worker": (_remove("e", "worker"), DRAIN + ROLE + LEADER),
    "remove a manager": (_remove("c", "manager"), DRAIN + 2 * ROLE + LEADER),
    "restart an engine": (_restart, DRAIN + 2 * BACK + LEADER),
    "settings": (_settings, LEADER),
    "drain by hand": (_drain, DRAIN + LEADER),
    "undrain": (_undrain, LEADER),
    "list": (_list, LEADER),
}


def _id(swarm: Swarm, name: str) -> str:
    return next(node.id for node in swarm.nodes.values() if node.hostname == name)


def build(world: World) -> Swarm:
    world.add("new", "10.0.0.20")
    swarm = world.build(KNOWN, ["d", "e"])
    for name in ("d", "e"):
        world.node_of(world[name]).tasks = [{"ID": name, "ServiceID": "web", "Status": {"State": "running"}, "ends": 1}]
    return swarm


class Mute(FakeEngine):
    """Takes every request and never answers."""

    def _call(self, name: str, detail: Any = None) -> Any:
        self.world.pass_time(REQUEST_TIMEOUT)
        raise Unreachable(name, where=self.where, came_back=f"no answer in {REQUEST_TIMEOUT} s", do_now="Look there.")


def ends(world: World, swarm: Swarm, operation: str) -> Failure:
    """The error the operation ends with, in time, saying where and what to do in its first line."""
    run, deadline = OPERATIONS[operation]
    begun = world.now
    with pytest.raises(Failure) as caught:
        run(world, swarm)
    assert world.now - begun <= deadline + REQUESTS * REQUEST_TIMEOUT
    line = str(caught.value).splitlines()[0]
    assert "(10.0.0." in line, line
    assert "SWMTKN" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("operation", OPERATIONS)
def test_managers_that_never_answer(world: World, operation: str) -> None:
    swarm = build(world)
    make = world.engine
    world.engine = lambda target: Mute(world, target) if target.node in KNOWN else make(target)
    error = ends(world, swarm, operation)
    assert "no answer" in str(error)
    assert error.do_now


@pytest.mark.parametrize("operation", OPERATIONS)
def test_managers_that_fall_silent_in_the_middle(world: World, operation: str) -> None:
    """They answer when they are looked for, and to nothing else."""
    swarm = build(world)
    make = world.engine

    class Silent(Mute):
        def info(self) -> dict[str, Any]:
            return make(self.target).info()

    world.engine = lambda target: Silent(world, target) if target.node in KNOWN else make(target)
    assert "no answer" in str(ends(world, swarm, operation))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_leader_that_is_never_elected(world: World, operation: str) -> None:
    swarm = build(world)
    world.leaderless_until = float("inf")
    assert "leader" in str(ends(world, swarm, operation))


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in ("list", "undrain")])
def test_a_writer_who_is_always_first(world: World, operation: str) -> None:
    swarm = build(world)
    world.sequence_errors = 10**6
    assert SEQUENCE.rpartition("= ")[2] in str(ends(world, swarm, operation))


@pytest.mark.parametrize("operation", ["join a worker", "join a manager", "label", "promote", "demote"])
def test_a_node_whose_own_engine_never_answers(world: World, operation: str) -> None:
    swarm = build(world)
    own = {"label": "d", "promote": "d", "demote": "c"}.get(operation, "new")
    make = world.engine
    world.engine = lambda target: Mute(world, target) if target.node == own else make(target)
    assert own in str(ends(world, swarm, operation)).splitlines()[0]


def stays_pending(world: World, swarm: Swarm) -> None:
    """The managers' port is dropped: the join goes on for ever."""

    class Hanging(FakeEngine):
        def swarm_join(self, body: dict[str, Any]) -> None:
            machine = self._call("swarm_join", body)
            machine.state = "pending"
            self.world.pass_time(20)
            raise self._error(503, "Timeout was reached before node joined. The attempt will continue.")

    make = world.engine
    world.engine = lambda target: Hanging(world, target) if target.node == "new" else make(target)


def engine_gives_up(world: World, swarm: Swarm) -> None:
    """The engine tries in the background for a while, and is then in no swarm; the manager is well."""
    make = world.engine

    class GivesUp(FakeEngine):
        def swarm_join(self, body: dict[str, Any]) -> None:
            machine = self._call("swarm_join", body)
            machine.state = "pending"
            self.world.events.append((self.world.now + 3, lambda: setattr(machine, "state", "inactive")))
            raise self._error(503, "Timeout was reached before node joined. The attempt will continue.")

    world.engine = lambda target: GivesUp(world, target) if target.node == "new" else make(target)


def certificates_never_come(world: World, swarm: Swarm) -> None:
    make = world.engine

    class Uncertified(FakeEngine):
        def _certify(self, *_: Any) -> None:
            pass

    world.engine = lambda target: Uncertified(world, target) if target.node in KNOWN else make(target)


def raft_never_changes(world: World, swarm: Swarm) -> None:
    make = world.engine

    class Stuck(FakeEngine):
        def _raft(self, *_: Any) -> None:
            pass

    world.engine = lambda target: Stuck(world, target) if target.node in KNOWN else make(target)


def tasks_never_end(world: World, swarm: Swarm) -> None:
    for node in swarm.nodes.values():
        for task in node.tasks:
            task["ends"] = 0


def no_heartbeat(world: World, swarm: Swarm) -> None:
    """What joins is listed and never ready."""

    class Deaf(FakeEngine):
        def _state(self, store: Swarm, node: Any) -> str:
            return "unknown" if node.hostname == "new" else super()._state(store, node)

    world.engine = lambda target: Deaf(world, target)


@pytest.mark.parametrize(
    ("operation", "trouble", "says"),
    [
        ("join a worker", stays_pending, "not a member after 60 s"),
        ("join a manager", stays_pending, "not a member after 60 s"),
        ("join a worker", engine_gives_up, "its engine gave up"),
        ("join a worker", no_heartbeat, "no heartbeat reached"),
        ("promote", raft_never_changes, "waiting for it to become a reachable manager on d"),
        ("demote", raft_never_changes, "waiting for its demotion on c"),
        ("promote", certificates_never_come, "waiting for it to become a reachable manager on d"),
        ("demote", certificates_never_come, "waiting for its demotion on c"),
        ("remove a manager", raft_never_changes, "waiting for its demotion on c"),
        ("remove a worker", tasks_never_end, "1 tasks have not ended, of services web"),
        ("restart an engine", tasks_never_end, "1 tasks have not ended, of services web"),
        ("drain by hand", tasks_never_end, "1 tasks have not ended, of services web"),
    ],
)
def test_what_never_comes_about(
    world: World, operation: str, trouble: Callable[[World, Swarm], None], says: str
) -> None:
    swarm = build(world)
    trouble(world, swarm)
    error = ends(world, swarm, operation)
    assert says in str(error).splitlines()[0]
    assert error.do_now


def test_a_pending_join_is_left_and_the_next_one_succeeds(world: World) -> None:
    swarm = build(world)
    make = world.engine
    stays_pending(world, swarm)
    ends(world, swarm, "join a worker")
    assert world["new"].state == "inactive", "it does not go on trying with a token that may be rotated meanwhile"
    world.engine = make
    OPERATIONS["join a worker"][0](world, swarm)
    assert [n.hostname for n in swarm.nodes.values()].count("new") == 1


def test_a_join_that_hangs_by_hand_is_left_and_done_again(world: World) -> None:
    """Somebody's own `docker swarm join` waits for a manager that never answers: the swarm does not know that node."""
    swarm = build(world)
    world["new"].state = "pending"
    OPERATIONS["join a worker"][0](world, swarm)
    assert world.node_of(world["new"]) is not None
