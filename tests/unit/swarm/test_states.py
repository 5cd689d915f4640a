"""Every state a node's engine can be in, times every operation on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from proxmox_swarm.swarm import membership
from proxmox_swarm.swarm.errors import (
    DrainTimeout,
    Failure,
    ForeignSwarm,
    JoinFailed,
    PortsClosed,
    QuorumAtRisk,
    SwarmLocked,
)
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from proxmox_swarm.swarm.ports import PortSpec
from tests.unit.swarm.world import Swarm, World

MANAGERS = ("a", "b", "c")
LABELS = {"storage": "ssd"}
#: What changes nothing; a key that does not fit opens nothing.
READS = {"info", "nodes", "node", "swarm_inspect", "swarm_unlock_key", "swarm_unlock"}


@dataclass(frozen=True)
class Case:
    """How the node comes to be in its state, and what each operation makes of it."""

    name: str
    arrange: Callable[[World, str], None]
    verdict: str
    join: type[Failure] | None = None
    rejoins: bool = False


def fresh(world: World, name: str) -> None:
    pass


def leaves(world: World, name: str) -> None:
    machine = world[name]
    machine.state, machine.certificate = "inactive", None
    world.pass_time(20)


def rebuilt(world: World, name: str) -> None:
    world.rebuild(name)


def rebuilt_at_once(world: World, name: str) -> None:
    """So quickly that the swarm still has the former node as ready."""
    world.rebuild(name)
    world.pass_time(1)


def forgotten(world: World, name: str) -> None:
    _, node_id, _ = world[name].certificate
    node = world.swarm_of(world[name]).nodes.pop(node_id)
    node.in_raft = False


def forgotten_and_restarted(world: World, name: str) -> None:
    forgotten(world, name)
    world[name].state = "pending"


def in_error_and_forgotten(world: World, name: str) -> None:
    forgotten(world, name)
    world[name].state = "error"


def of_its_own(world: World, name: str) -> None:
    leaves(world, name)
    world.build([name])


def of_a_stranger(world: World, name: str) -> None:
    leaves(world, name)
    world.build(["x"], [name])


def restarting(world: World, name: str) -> None:
    world[name].state = "pending"
    world.events.append((world.now + 30, lambda: setattr(world[name], "state", "active")))


def expired(world: World, name: str) -> None:
    world[name].state, world[name].expired = "error", True


def in_error(world: World, name: str) -> None:
    world[name].state = "error"
    world.pass_time(20)


def restarted_by_itself(world: World, name: str) -> None:
    """All is well again, but its engine goes on saying "error", and no error."""
    world[name].restarted = True


def turn_lock_on(world: World) -> None:
    engine = world.engine(world.target("a"))
    swarm = engine.swarm_inspect()
    engine.swarm_update(swarm["Version"]["Index"], {**swarm["Spec"], "EncryptionConfig": {"AutoLockManagers": True}})
    world.pass_time(1)


def locked(world: World, name: str) -> None:
    turn_lock_on(world)
    world[name].lock = world.swarm_of(world[name]).unlock_key  # of a worker: one that was a manager a moment ago
    world.restart(name)


def locked_with_an_older_key(world: World, name: str) -> None:
    locked(world, name)
    world[name].lock = "SWMKEY-1-older"


def in_anothers_name(world: World, name: str) -> None:
    """Its engine has got a certificate for a manager's node: two engines share one."""
    cluster, _, role = world[name].certificate
    world.pass_time(60)
    world[name].certificate = (cluster, world["a"].certificate[1], role)
    world.pass_time(20)


def edited(world: World, name: str) -> None:
    node = world.node_of(world[name])
    node.spec["Availability"], node.spec["Labels"] = "drain", {"by": "hand"}


def conflicts(world: World, name: str) -> None:
    edited(world, name)
    world.sequence_errors = 4


CASES = [
    Case("as declared", fresh, "ok"),
    Case("restarted by itself", restarted_by_itself, "ok"),
    Case("edited by hand", edited, "drifted"),
    Case("edited, with conflicting writers", conflicts, "drifted"),
    Case("left", leaves, "left", rejoins=True),
    Case("rebuilt long ago", rebuilt, "rebuilt", rejoins=True),
    Case("rebuilt a moment ago", rebuilt_at_once, "rebuilt", rejoins=True),
    Case("removed by hand", forgotten, "removed", rejoins=True),
    Case("removed while it was off", forgotten_and_restarted, "removed", rejoins=True),
    Case("removed, in error", in_error_and_forgotten, "removed", rejoins=True),
    Case("in another member's name", in_anothers_name, "removed", rejoins=True),
    Case("starting", restarting, "pending"),
    Case("in error", in_error, "error", rejoins=True),
    Case("its certificate is over", expired, "error", rejoins=True),
    Case("manager of its own swarm", of_its_own, "foreign", join=ForeignSwarm),
    Case("worker of another swarm", of_a_stranger, "foreign", join=ForeignSwarm),
    Case("locked", locked, "locked"),
    Case("locked with an older key", locked_with_an_older_key, "locked", join=SwarmLocked),
    Case("off", lambda world, name: setattr(world[name], "on", False), "unreachable", join=Failure),
]


@dataclass
class Scene:
    world: World
    swarm: Swarm
    name: str
    spec: MemberSpec
    last: MemberState

    def others(self) -> list[Any]:
        address = self.spec.target.address
        return sorted(
            (n.id, copy.deepcopy(n.spec), n.in_raft) for n in self.swarm.nodes.values() if n.address != address
        )

    def own(self) -> list[Any]:
        return [n for n in self.swarm.nodes.values() if n.address == self.spec.target.address]


@pytest.fixture(params=["manager", "worker"])
def role(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def scene(world: World, role: str, case: Case) -> Scene:
    swarm = world.build(["a", "b", "c"], ["d", "e"])
    name = "c" if role == "manager" else "e"
    spec = MemberSpec(world.target(name), role, "active", LABELS)
    world.node_of(world[name]).spec["Labels"] = dict(LABELS)
    machine = world[name]
    last = MemberState("ok", "", machine.certificate[1], role, "active", dict(LABELS), machine.engine_id)
    case.arrange(world, name)
    return Scene(world, swarm, name, spec, last)


def known(scene: Scene) -> list[Any]:
    return scene.world.targets(*MANAGERS)


def test_observe_gives_the_verdict_and_changes_nothing(scene: Scene, case: Case) -> None:
    before = scene.others(), copy.deepcopy(scene.own())
    scene.world.calls.clear()
    state = membership.observe(
        scene.spec, known(scene), scene.swarm.id, scene.last.node_id, last=scene.last, access=scene.world
    )
    assert (state.verdict, bool(state.detail)) == (case.verdict, case.verdict != "ok")
    assert (scene.others(), scene.own()) == before
    assert {name for _, name, _ in scene.world.calls} <= {"info", "nodes", "node", "swarm_inspect"}
    if case.verdict in ("unreachable", "left", "rebuilt", "removed", "foreign", "locked"):
        assert state.role == scene.last.role, "what was last known is kept"


@pytest.mark.parametrize("operation", ["join_or_adopt", "converge"])
def test_joining_ends_in_the_declared_member_or_changes_nothing(scene: Scene, case: Case, operation: str) -> None:
    others = scene.others()
    scene.world.calls.clear()

    def run() -> MemberState:
        common = {"join_timeout": 120, "role_timeout": 120, "access": scene.world}
        if operation == "converge":
            return membership.converge(scene.spec, known(scene), scene.swarm.id, scene.last, **common)
        return membership.join_or_adopt(scene.spec, known(scene), scene.swarm.id, **common)

    # A worker has no lock: such an engine has not heard of its demotion, and is not made a manager once more.
    demoted = case.verdict == "locked" and scene.spec.role == "worker"
    if case.join is not None and not demoted:
        with pytest.raises(case.join) as caught:
            run()
        assert scene.spec.target.node in str(caught.value).splitlines()[0]
        writes = {name for _, name, _ in scene.world.calls} - READS
        assert not writes
        return
    state = run()
    machine = scene.world[scene.name]
    assert (state.verdict, state.role, state.availability, state.labels) == ("ok", scene.spec.role, "active", LABELS)
    assert [n.id for n in scene.own()] == [state.node_id] == [machine.certificate[1]], "no ghost is left at its address"
    node = scene.swarm.nodes[state.node_id]
    assert (node.spec["Role"], node.spec["Availability"], node.spec["Labels"]) == (scene.spec.role, "active", LABELS)
    assert node.in_raft is (scene.spec.role == "manager")
    assert sum(n.in_raft for n in scene.swarm.nodes.values()) == 3, "raft holds no phantom"
    assert scene.others() == others
    rejoins = case.rejoins or demoted
    assert (state.node_id != scene.last.node_id) is rejoins
    joins = [detail for _, name, detail in scene.world.calls if name == "swarm_join"]
    assert [body["Availability"] for body in joins] == ["drain"] * rejoins
    assert "SWMTKN" not in repr(state)
    again = len(scene.world.calls)
    assert run() == state
    writes = {name for _, name, _ in scene.world.calls[again:]} - {"info", "nodes", "node", "swarm_inspect"}
    assert not writes, "a second run changes nothing"


def test_removal_ends_with_the_node_out_and_spares_the_others(scene: Scene, case: Case) -> None:
    others = scene.others()
    strangers = {key: copy.deepcopy(swarm.nodes) for key, swarm in scene.world.swarms.items() if key != scene.swarm.id}

    def run() -> None:
        membership.remove(
            scene.spec, known(scene), scene.swarm.id, scene.last.node_id, drain_timeout=30, access=scene.world
        )

    run()
    assert not scene.own()
    assert scene.others() == others
    machine = scene.world[scene.name]
    if case.verdict == "foreign":
        assert machine.state == "active", "its other membership is not ours to end"
    elif case.verdict != "unreachable":
        assert machine.state == "inactive"
    assert {k: s.nodes for k, s in scene.world.swarms.items() if k != scene.swarm.id} == strangers
    run()
    assert scene.others() == others


def test_a_node_joins_drained_then_gets_labels_and_availability_in_one_step(world: World) -> None:
    swarm = world.build(["a"])
    spec = MemberSpec(world.target("d"), "worker", "pause", LABELS)
    membership.join_or_adopt(spec, world.targets("a"), swarm.id, join_timeout=60, role_timeout=60, access=world)
    writes = [(name, detail) for _, name, detail in world.calls if name in ("swarm_join", "node_update")]
    assert [name for name, _ in writes] == ["swarm_join", "node_update"]
    assert writes[0][1]["Availability"] == "drain"
    assert writes[1][1][1] == {"Role": "worker", "Availability": "pause", "Labels": LABELS}


def test_overlay_traffic_of_a_node_goes_where_it_is_said_to_and_that_address_is_tried(world: World) -> None:
    swarm = world.build(["a"])
    tried: list[PortSpec] = []
    world.closed_ports = lambda *args: tried.append(args[3]) or []  # type: ignore[method-assign,func-returns-value]
    spec = MemberSpec(world.target("d"), "worker", data_path="10.0.9.4")
    membership.join_or_adopt(spec, world.targets("a"), swarm.id, join_timeout=60, role_timeout=60, access=world)
    (body,) = [detail for _, name, detail in world.calls if name == "swarm_join"]
    assert (body["DataPathAddr"], body["AdvertiseAddr"]) == ("10.0.9.4", "10.0.0.4:2377")
    assert tried == [PortSpec(manager=False, data_path_port=4789, data_path="10.0.9.4")]


def test_a_promotion_and_a_demotion_are_awaited_on_both_sides(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    spec = MemberSpec(world.target("d"), "manager")
    membership.join_or_adopt(
        spec, world.targets("a", "b", "c"), swarm.id, join_timeout=60, role_timeout=60, access=world
    )
    node = world.node_of(world["d"])
    assert node.in_raft and world["d"].certificate[2] == "manager"
    spec = MemberSpec(world.target("d"), "worker")
    membership.join_or_adopt(
        spec, world.targets("a", "b", "d"), swarm.id, join_timeout=60, role_timeout=60, access=world
    )
    assert not node.in_raft and world["d"].certificate[2] == "worker"


def test_tasks_that_do_not_end_stop_a_removal_before_the_node_leaves(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    node = world.node_of(world["d"])
    node.tasks = [{"ID": "t1", "ServiceID": "web", "Status": {"State": "running"}}]
    with pytest.raises(DrainTimeout, match="web"):
        membership.remove(
            MemberSpec(world.target("d"), "worker"),
            world.targets("a"),
            swarm.id,
            node.id,
            drain_timeout=5,
            access=world,
        )
    assert world["d"].state == "active" and node.spec["Availability"] == "drain"
    node.tasks[0]["ends"] = True
    node.spec["Availability"] = "active"
    membership.remove(
        MemberSpec(world.target("d"), "worker"), world.targets("a"), swarm.id, node.id, drain_timeout=5, access=world
    )
    assert world["d"].state == "inactive"


def test_tasks_of_a_machine_that_died_a_moment_ago_are_not_waited_for(world: World) -> None:
    """The swarm has it as ready for some more seconds, and its tasks as running for a day."""
    swarm = world.build(["a"], ["d"])
    node = world.node_of(world["d"])
    node.tasks = [{"ID": "t1", "ServiceID": "web", "Status": {"State": "running"}, "ends": True}]
    world["d"].on = False
    begun = world.now
    membership.remove(
        MemberSpec(world.target("d"), "worker"), world.targets("a"), swarm.id, node.id, drain_timeout=600, access=world
    )
    assert node.id not in swarm.nodes
    assert world.now - begun < 30


def test_a_token_rotated_between_reading_and_using_it_is_read_again(world: World) -> None:
    swarm = world.build(["a"])
    engine = world.engine
    rotated = []

    class Rotating(type(engine(world.target("d")))):
        def swarm_join(self, body: dict[str, Any]) -> None:
            if not rotated:
                rotated.append(True)
                swarm.secrets["worker"] = "n" * 25
            super().swarm_join(body)

    world.engine = lambda target: Rotating(world, target)
    spec = MemberSpec(world.target("d"), "worker")
    state = membership.join_or_adopt(spec, world.targets("a"), swarm.id, join_timeout=60, role_timeout=60, access=world)
    assert state.verdict == "ok" and rotated


def test_a_join_that_fails_says_what_the_engine_said_and_no_token(world: World) -> None:
    swarm = world.build(["a"])

    class Refusing(type(world.engine(world.target("d")))):
        def swarm_join(self, body: dict[str, Any]) -> None:
            raise self._error(500, f"remote CA does not match fingerprint, token {body['JoinToken']}")

    make = world.engine
    world.engine = lambda t: Refusing(world, t) if t.node == "d" else make(t)
    with pytest.raises(JoinFailed, match="fingerprint") as caught:
        membership.join_or_adopt(
            MemberSpec(world.target("d"), "worker"), world.targets("a"), swarm.id,
            join_timeout=60, role_timeout=60, access=world,
        )  # fmt: skip
    assert "m" * 25 not in str(caught.value) and "w" * 25 not in str(caught.value)


@pytest.mark.parametrize(("looks", "restarts"), [(4, 0), (12, 1), (99, 1)])
def test_ports_that_dockerd_has_not_let_go_of_are_waited_for_then_it_is_restarted(
    world: World, looks: int, restarts: int
) -> None:
    swarm = world.build(["a"])
    held = ["7946/tcp on d itself: Address already in use", "7946/udp on d itself: Address already in use"]
    tries: list[list[str]] = [held] * looks
    restarted: list[str] = []
    world.closed_ports = lambda *_: tries.pop() if tries else []  # type: ignore[method-assign]
    world.stop_engine = lambda target: restarted.append(target.node)  # type: ignore[method-assign]

    def join() -> MemberState:
        spec = MemberSpec(world.target("d"), "worker")
        return membership.join_or_adopt(
            spec, world.targets("a"), swarm.id, join_timeout=60, role_timeout=60, access=world
        )

    if looks < 99:
        assert join().verdict == "ok"
    else:
        with pytest.raises(PortsClosed) as failed:
            join()
        assert "Something on the node itself has them" in str(failed.value)
        assert "firewalls" not in str(failed.value)
    assert restarted == ["d"] * restarts


def test_closed_ports_stop_a_join_before_it_begins(world: World) -> None:
    swarm = world.build(["a"])
    world.closed = ["2377/tcp d → a: no answer", "4789/udp a → d: no answer"]
    with pytest.raises(Failure, match=r"2377/tcp d → a.*4789/udp a → d"):
        membership.join_or_adopt(
            MemberSpec(world.target("d"), "worker"), world.targets("a"), swarm.id,
            join_timeout=60, role_timeout=60, access=world,
        )  # fmt: skip
    assert world["d"].state == "inactive"
    assert not [name for _, name, _ in world.calls if name == "swarm_join"]


def test_the_last_manager_stays_while_others_depend_on_it_and_ends_the_swarm_when_alone(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    spec = MemberSpec(world.target("a"), "manager")
    node_id = world["a"].certificate[1]
    with pytest.raises(QuorumAtRisk, match="last manager"):
        membership.remove(spec, world.targets("a"), swarm.id, node_id, drain_timeout=5, access=world)
    worker = MemberSpec(world.target("d"), "worker")
    membership.remove(worker, world.targets("a"), swarm.id, world["d"].certificate[1], drain_timeout=5, access=world)
    membership.remove(spec, world.targets("a"), swarm.id, node_id, drain_timeout=5, access=world)
    assert world["a"].state == "inactive"


def test_a_host_that_is_cut_off_from_us_but_alive_is_not_removed(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    node_id = world["d"].certificate[1]
    reach = world.reach

    def cut(target: Any) -> Any:
        if target.node == "d":
            raise Failure("connecting", where="d", came_back="no answer")
        return reach(target)

    world.reach = cut
    with pytest.raises(Failure, match="still gets its heartbeats"):
        membership.remove(
            MemberSpec(world.target("d"), "worker"),
            world.targets("a"),
            swarm.id,
            node_id,
            drain_timeout=5,
            access=world,
        )
    assert node_id in swarm.nodes


@pytest.mark.parametrize("wait", [1, 60])  # while the ghost still passes for ready, and when it is down
def test_a_machine_rebuilt_and_joined_by_hand_leaves_a_ghost_that_is_told_until_it_is_gone(wait: float) -> None:
    world = World(["a", "b", "c", "d"])
    swarm = world.build(["a", "b", "c"], ["d"])
    former = world["d"].certificate[1]
    world.rebuild("d")
    world.engine(world.target("d")).swarm_join(
        {"AdvertiseAddr": "10.0.0.4:2377", "RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": swarm.token("worker")}
    )
    world.pass_time(wait)
    spec = MemberSpec(world.target("d"), "worker")
    managers = world.targets("a", "b", "c")
    last = MemberState("ok", "", former, "worker", "active", {}, "engine-before")
    for _ in range(2):  # a second look finds no less than the first
        last = membership.observe(spec, managers, swarm.id, last.node_id, last=last, access=world)
        assert last.verdict == "drifted"
        assert former in last.detail
    membership.converge(spec, managers, swarm.id, last, join_timeout=120, role_timeout=120, access=world)
    assert set(swarm.nodes) == {m.certificate[1] for m in world.machines.values()}
    assert membership.observe(spec, managers, swarm.id, last.node_id, last=last, access=world).verdict == "ok"


def test_a_rebuilt_machine_is_still_one_at_the_second_look() -> None:
    world = World(["a", "b"])
    swarm = world.build(["a"], ["b"])
    spec = MemberSpec(world.target("b"), "worker")
    last = membership.observe(spec, world.targets("a"), swarm.id, world["b"].certificate[1], access=world)
    world.rebuild("b")
    for _ in range(2):
        last = membership.observe(spec, world.targets("a"), swarm.id, last.node_id, last=last, access=world)
        assert last.verdict == "rebuilt"


def test_a_worker_in_another_workers_name_is_told_from_one_that_joined_again_by_hand(world: World) -> None:
    swarm = world.build(["a"], ["d", "e"])
    spec = MemberSpec(world.target("e"), "worker")
    own, theirs = world["e"].certificate, world["d"].certificate
    last = MemberState("ok", "", own[1], "worker", "active", {}, world["e"].engine_id)
    world.pass_time(60)

    world["e"].certificate = theirs
    seen = membership.observe(spec, world.targets("a"), swarm.id, own[1], last=last, access=world)
    assert (seen.verdict, seen.node_id) == ("removed", own[1])
    assert seen.detail == f"its engine takes itself for node {theirs[1]}, which the swarm has as d at 10.0.0.4"
    before = copy.deepcopy(swarm.nodes[theirs[1]].spec)
    state = membership.converge(
        spec, world.targets("a"), swarm.id, seen, join_timeout=60, role_timeout=60, access=world
    )
    assert state.node_id not in (own[1], theirs[1]) and own[1] not in swarm.nodes
    assert swarm.nodes[theirs[1]].spec == before and world["d"].certificate == theirs

    leaves(world, "e")
    world.pass_time(60)
    world.engine(world.target("e")).swarm_join(
        {"RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": swarm.token("worker"), "Availability": "active"}
    )
    by_hand = world["e"].certificate[1]
    seen = membership.observe(spec, world.targets("a"), swarm.id, state.node_id, last=state, access=world)
    assert (seen.verdict, seen.node_id) == ("drifted", by_hand)
    again = membership.converge(
        spec, world.targets("a"), swarm.id, seen, join_timeout=60, role_timeout=60, access=world
    )
    assert again.node_id == by_hand, "adopted: it is a member, and nobody else's"


@pytest.mark.parametrize("thief_runs", [True, False])
def test_a_manager_whose_place_in_raft_another_engine_took_joins_anew(world: World, thief_runs: bool) -> None:
    """The other one's dockerd may not have lived through it: raft's log on its disk is not the one it is sent."""
    swarm = world.build(["a", "b", "c"], ["d"])
    spec = MemberSpec(world.target("c"), "manager")
    own, former = world["c"].certificate, world["d"].certificate
    last = MemberState("ok", "", own[1], "manager", "active", {}, world["c"].engine_id)
    world.pass_time(60)
    world["d"].certificate = own
    swarm.nodes[own[1]].address = "10.0.0.4"
    world["d"].on = thief_runs
    world.pass_time(20)

    seen = membership.observe(spec, world.targets("a", "b"), swarm.id, own[1], last=last, access=world)
    assert (seen.verdict, seen.node_id) == ("removed", own[1])
    assert seen.detail == f"its engine takes itself for node {own[1]}, which the swarm has as c at 10.0.0.4"
    state = membership.converge(
        spec, world.targets("a", "b"), swarm.id, seen, join_timeout=60, role_timeout=60, access=world
    )
    raft = {node.address for node in swarm.nodes.values() if node.in_raft}
    assert raft == {"10.0.0.1", "10.0.0.2", "10.0.0.3", *(["10.0.0.4"] if thief_runs else [])}
    assert world["c"].certificate == (swarm.id, state.node_id, "manager") and state.node_id != own[1]
    if thief_runs:
        spec = MemberSpec(world.target("d"), "worker")
        last = MemberState("ok", "", former[1], "worker", "active", {}, world["d"].engine_id)
        membership.converge(
            spec, world.targets("a", "b", "c"), swarm.id, last, join_timeout=60, role_timeout=60, access=world
        )
        assert former[1] not in swarm.nodes
        assert world["d"].certificate == (swarm.id, own[1], "worker")
