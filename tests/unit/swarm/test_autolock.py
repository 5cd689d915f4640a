"""Managers that lock themselves: on, off, another key, and the way back after a restart."""

from __future__ import annotations

import copy

import pytest

from proxmox_swarm.swarm import autolock, bootstrap, maintenance, membership
from proxmox_swarm.swarm.errors import NoManager, RotationFailed, SwarmError, SwarmLocked
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from tests.unit.swarm.world import FIRST_SPEC, Swarm, World

MANAGERS = ("a", "b", "c")


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build(MANAGERS, ["d"])


def apply(world: World, swarm: Swarm, *, enabled: bool = True, rotate: bool = False) -> str:
    lock = autolock.apply(world.targets(*MANAGERS), swarm.id, enabled=enabled, rotate=rotate, access=world)
    world.pass_time(1)
    assert lock.enabled is enabled
    return lock.key


def states(world: World) -> list[str]:
    return [world[name].state for name in MANAGERS]


def unlock(world: World, swarm: Swarm, *keys: str) -> list[str]:
    return autolock.unlock_managers(world.targets(*MANAGERS), swarm.id, keys, access=world)


def test_it_is_turned_on_and_off_and_the_rest_of_the_spec_is_kept(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    assert key == swarm.unlock_key != ""
    assert swarm.spec == {**FIRST_SPEC, "EncryptionConfig": {"AutoLockManagers": True}}
    assert apply(world, swarm) == key, "again changes nothing"
    assert apply(world, swarm, enabled=False) == ""
    assert swarm.spec == {**FIRST_SPEC, "EncryptionConfig": {"AutoLockManagers": False}}


def test_nothing_is_written_where_nothing_differs(world: World, swarm: Swarm) -> None:
    version = swarm.version
    apply(world, swarm, enabled=False, rotate=True)
    assert swarm.version == version
    apply(world, swarm)
    version = swarm.version
    apply(world, swarm)
    assert swarm.version == version


def test_the_key_is_rotated_once_also_when_the_answer_is_lost(world: World, swarm: Swarm) -> None:
    before = apply(world, swarm)
    world.answers_lost, version = 1, swarm.version
    key = apply(world, swarm, rotate=True)
    assert key == swarm.unlock_key != before
    assert swarm.version == version + 1


def test_turned_on_with_a_rotation_at_once_there_is_one_key(world: World, swarm: Swarm) -> None:
    version = swarm.version
    apply(world, swarm, rotate=True)
    assert swarm.version == version + 1


@pytest.mark.parametrize("rotate", [False, True])
def test_an_engine_that_does_not_do_it_is_told(world: World, swarm: Swarm, rotate: bool) -> None:
    if rotate:
        apply(world, swarm)
    world.deaf = True
    with pytest.raises(RotationFailed, match="old key" if rotate else "no key") as raised:
        apply(world, swarm, rotate=rotate)
    assert "SWMKEY" not in str(raised.value)


def test_the_key_is_not_shown(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    assert key not in repr(autolock.Lock(True, key))
    assert key not in repr(autolock.observe(world.targets(*MANAGERS), swarm.id, access=world))


def test_what_is_there_is_told(world: World, swarm: Swarm) -> None:
    seen = autolock.observe(world.targets(*MANAGERS), swarm.id, access=world)
    assert seen == autolock.Seen((), autolock.Lock(False, ""))
    key = apply(world, swarm)
    world.restart("b")
    assert autolock.observe(world.targets(*MANAGERS), swarm.id, access=world) == autolock.Seen(
        ("b",), autolock.Lock(True, key)
    )
    for name in MANAGERS:
        world.restart(name)
    assert autolock.observe(world.targets(*MANAGERS), swarm.id, access=world) == autolock.Seen(MANAGERS, None)


def test_a_lock_that_nobody_declared_is_not_undone_in_passing(world: World, swarm: Swarm) -> None:
    autolock.require_off(world.targets(*MANAGERS), swarm.id, access=world)
    apply(world, swarm)
    with pytest.raises(SwarmError, match=r"`cluster\.autolock: true`"):
        autolock.require_off(world.targets(*MANAGERS), swarm.id, access=world)


# -- unlocking ---------------------------------------------------------------------------------------------------------


def test_after_a_cold_start_all_are_unlocked_at_once(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    view = bootstrap.read_cluster(world.targets(*MANAGERS), swarm.id, access=world)
    assert view.verdict == "locked"
    assert sorted(unlock(world, swarm, key)) == list(MANAGERS)
    assert states(world) == ["active"] * 3 and world.quorate(swarm)
    assert unlock(world, swarm, key) == [], "again there is nothing to do"


def test_the_key_of_the_others_is_tried_first_and_then_the_ones_that_were_kept(world: World, swarm: Swarm) -> None:
    first = apply(world, swarm)
    world["c"].on = False
    second = apply(world, swarm, rotate=True)
    world.restart("c")
    assert world["c"].lock == first
    assert unlock(world, swarm, second, first) == ["c"]
    world.pass_time(1)
    assert world["c"].lock == second
    world.restart("b")
    assert unlock(world, swarm) == ["b"], "without a key of ours"


def test_one_whose_key_is_lost_is_named_after_the_others_are_unlocked(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    world["b"].lock = "SWMKEY-1-from-long-ago"
    with pytest.raises(SwarmLocked, match=r"on b \(10.0.0.2\): no key fits") as raised:
        unlock(world, swarm, key)
    assert "raise `generation` of b " in str(raised.value) and "SWMKEY" not in str(raised.value)
    assert states(world) == ["active", "locked", "active"]


def test_without_any_key_that_is_said(world: World, swarm: Swarm) -> None:
    apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    with pytest.raises(SwarmLocked, match="no key is known"):
        unlock(world, swarm, "", "")


def test_a_locked_manager_of_another_swarm_is_left_alone(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    other = world.build(["x"])
    other.unlock_key = "SWMKEY-1-theirs"
    world.pass_time(1)
    world.restart("x")
    found = autolock.unlock_managers([*world.targets(*MANAGERS), world.target("x")], swarm.id, [key], access=world)
    assert found == [] and world["x"].state == "locked"
    assert not [call for call in world.calls if call[:2] == ("x", "swarm_unlock")]


def test_one_that_does_not_answer_keeps_the_others_from_nothing(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    world["c"].on = False
    assert sorted(unlock(world, swarm, key)) == ["a", "b"]
    assert world.quorate(swarm)


def test_too_few_are_unlocked_all_the_same_and_wait_for_the_others(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    world["b"].on = world["c"].on = False
    assert unlock(world, swarm, key) == ["a"]
    with pytest.raises(NoManager):
        autolock.unlock_to_a_quorum(world.targets(*MANAGERS), swarm.id, [key], timeout=30, access=world)


def test_machines_that_are_on_their_way_are_unlocked_when_they_come(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    world["b"].on = world["c"].on = False
    world.events.append((world.now + 40, lambda: world.restart("b")))
    names = autolock.unlock_to_a_quorum(world.targets(*MANAGERS), swarm.id, [key], timeout=120, access=world)
    assert names == ["a", "b"] and world.quorate(swarm)


def test_one_whose_key_is_lost_does_not_keep_the_others_from_going_on(world: World, swarm: Swarm) -> None:
    """Else it could not be rebuilt, which is the way out: all that is done to members comes after the unlocking."""
    key = apply(world, swarm)
    for name in "ab":
        world.restart(name)
    world["b"].lock = "SWMKEY-1-from-long-ago"
    names = autolock.unlock_to_a_quorum(world.targets(*MANAGERS), swarm.id, [key], timeout=60, access=world)
    assert names == ["a"] and world["b"].state == "locked" and world.quorate(swarm)


def test_keys_that_are_lost_for_a_majority_are_told(world: World, swarm: Swarm) -> None:
    key = apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    world["b"].lock = world["c"].lock = "SWMKEY-1-from-long-ago"
    with pytest.raises(SwarmLocked, match="raise `generation` of b and c in"):
        autolock.unlock_to_a_quorum(world.targets(*MANAGERS), swarm.id, [key], timeout=30, access=world)


def test_one_whose_key_is_lost_leaves_raft_and_is_rebuilt(world: World, swarm: Swarm) -> None:
    """What the error says, as a higher `generation` does it."""
    apply(world, swarm)
    world.restart("b")
    world["b"].lock = "SWMKEY-1-from-long-ago"
    world.pass_time(20)
    former = world["b"].certificate[1]
    spec = MemberSpec(world.target("b"), "manager")
    managers = world.targets(*MANAGERS)
    membership.remove(spec, managers, swarm.id, former, drain_timeout=30, access=world)
    assert former not in swarm.nodes and sum(node.in_raft for node in swarm.nodes.values()) == 2
    world.rebuild("b")
    membership.join_or_adopt(spec, managers, swarm.id, join_timeout=60, role_timeout=60, access=world)
    assert sum(node.in_raft for node in swarm.nodes.values()) == 3 and world["b"].state == "active"


# -- what restarts a node, and what meets a locked one -----------------------------------------------------------------


@pytest.mark.parametrize(("managers", "name"), [(MANAGERS, "b"), (("a",), "a")])
def test_a_restart_of_ours_unlocks_by_itself(world: World, managers: tuple[str, ...], name: str) -> None:
    """The only manager's key is asked for before it restarts: nobody else has it."""
    swarm = world.build(managers, ["d"])
    autolock.apply(world.targets(*managers), swarm.id, enabled=True, access=world)
    world.pass_time(1)
    maintenance.restart_engine(
        world.target(name),
        world.targets(*managers),
        lambda: world.restart(name),
        drain_timeout=30,
        back_timeout=60,
        access=world,
    )
    assert world[name].state == "active" and world.node_of(world[name]).spec["Availability"] == "active"
    assert [node for node, call, _ in world.calls if call == "swarm_unlock"] == [name]


def test_a_power_cycle_of_a_manager_that_is_locked_already_brings_it_back(world: World, swarm: Swarm) -> None:
    apply(world, swarm)
    world.restart("b")
    world.pass_time(20)
    maintenance.with_node_out(
        world.target("b"),
        world.targets(*MANAGERS),
        swarm.id,
        lambda: world.restart("b"),
        drain_timeout=30,
        back_timeout=60,
        access=world,
    )
    assert world["b"].state == "active" and world.quorate(swarm)


def test_a_locked_engine_is_restarted_without_asking_anybody(world: World, swarm: Swarm) -> None:
    apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    done: list[bool] = []
    maintenance.restart_engine(
        world.target("a"),
        world.targets(*MANAGERS),
        lambda: done.append(True),
        drain_timeout=1,
        back_timeout=1,
        access=world,
    )
    assert done == [True]


def test_a_refresh_survives_a_swarm_whose_managers_are_all_locked(world: World, swarm: Swarm) -> None:
    apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    before = copy.deepcopy(swarm.nodes)
    for name, role, verdict in (("a", "manager", "locked"), ("d", "worker", "unreachable")):
        node_id = world[name].certificate[1]
        last = MemberState("ok", "", node_id, role, "active", {"kept": "yes"}, world[name].engine_id)
        state = membership.observe(
            MemberSpec(world.target(name), role), world.targets(*MANAGERS), swarm.id, node_id, last=last, access=world
        )
        assert (state.verdict, state.node_id, state.labels) == (verdict, node_id, {"kept": "yes"})
    assert swarm.nodes == before


def test_a_member_of_a_swarm_that_nobody_can_unlock_says_how(world: World, swarm: Swarm) -> None:
    apply(world, swarm)
    for name in MANAGERS:
        world.restart(name)
    with pytest.raises(NoManager, match="proxmox-swarm unlock"):
        membership.join_or_adopt(
            MemberSpec(world.target("b"), "manager"),
            world.targets(*MANAGERS),
            swarm.id,
            join_timeout=30,
            role_timeout=30,
            access=world,
        )


@pytest.mark.parametrize("role", ["manager", "worker"])
def test_nodes_join_a_swarm_that_locks_its_managers(world: World, swarm: Swarm, role: str) -> None:
    key = apply(world, swarm)
    spec = MemberSpec(world.target("e"), role)  # type: ignore[arg-type]
    state = membership.join_or_adopt(
        spec, world.targets(*MANAGERS), swarm.id, join_timeout=60, role_timeout=60, access=world
    )
    assert state.verdict == "ok"
    assert world["e"].lock == (key if role == "manager" else "")
