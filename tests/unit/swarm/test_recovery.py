"""A lost quorum: who survives, when a force is refused, and that each step can be taken again."""

from __future__ import annotations

import copy

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.swarm import locked_key, recovery
from proxmox_swarm.swarm.errors import NoManager, RecoveryRefused, SwarmError, SwarmLocked
from proxmox_swarm.swarm.state_files import Packed
from proxmox_swarm.swarm.survey import Survey, survey
from tests.unit.swarm.lost import LOCKED, Disks
from tests.unit.swarm.world import Swarm, World

OFF = {"a": "stopped", "b": "absent"}


@pytest.fixture
def disks(world: World) -> Disks:
    return Disks(world)


def looked(world: World, disks: Disks, names: str = "abc") -> Survey:
    return survey(world.targets(*names), next(iter(world.swarms)), access=world, files=disks)


def lose(world: World, *names: str) -> None:
    for name in names:
        world[name].on = False


def forced(world: World, disks: Disks, kept: list[Packed] | None = None) -> recovery.Outcome:
    found = looked(world, disks)
    found.refuse_while_alive()
    survivor = found.begun or found.survivor()
    recovery.force(survivor, found.cluster_id, (kept if kept is not None else []).append, access=world, files=disks)
    return recovery.finish(survivor, found.cluster_id, access=world, files=disks)


def raft(swarm: Swarm) -> list[str]:
    return sorted(node.hostname for node in swarm.nodes.values() if node.in_raft)


def test_the_one_with_the_greatest_commit_index_survives(world: World, disks: Disks) -> None:
    """A force drops what is not committed, however long the log is."""
    world.build(["a", "b", "c", "d", "e"])
    lose(world, "a", "b", "c")
    disks.positions = {"d": (70, 2, 90), "e": (71, 2, 71)}
    assert looked(world, disks, "abcde").survivor().target.node == "e"


@pytest.mark.parametrize(
    ("d", "e"), [((70, 3, 80), (70, 4, 75)), ((70, 3, 80), (70, 3, 81))], ids=["the later term", "the longer log"]
)
def test_with_the_same_commit_index_the_log_decides_as_in_an_election(
    world: World, disks: Disks, d: tuple[int, int, int], e: tuple[int, int, int]
) -> None:
    world.build(["a", "b", "c", "d", "e"])
    lose(world, "a", "b", "c")
    disks.positions = {"d": d, "e": e}
    assert looked(world, disks, "abcde").survivor().target.node == "e"


def test_of_equals_the_first_declared_survives(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c", "d", "e"])
    lose(world, "a", "b", "c")
    assert looked(world, disks, "edabc").survivor().target.node == "e"


def test_raft_state_of_another_swarm_and_a_worker_s_disk_do_not_count(world: World, disks: Disks) -> None:
    world.build(["a", "b"], ["d"])
    world.build(["x"])
    lose(world, "a")
    disks.positions = {"x": (900, 9, 900)}
    found = looked(world, disks, "xdba")
    assert [s.target.node for s in found.mine] == ["b"]
    assert found.survivor().target.node == "b"


def test_without_any_raft_state_the_way_is_a_backup(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    for name in "abc":
        world.rebuild(name)
    with pytest.raises(NoManager, match="proxmox-swarm restore"):
        looked(world, disks).survivor()


def test_a_swarm_that_has_a_leader_is_not_recovered(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a")
    with pytest.raises(RecoveryRefused, match="has a leader and takes decisions"):
        looked(world, disks).refuse_while_alive()


def test_a_majority_that_answers_without_a_leader_is_told_to_look_at_its_network(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"])
    world.quorate = lambda _: False
    with pytest.raises(RecoveryRefused, match=r"a majority, which elects a leader by itself.*2377/tcp"):
        looked(world, disks).refuse_while_alive()
    assert swarm.id in world.swarms


def test_a_majority_that_is_locked_is_told_to_unlock(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a")
    world["b"].state = world["c"].state = "locked"
    with pytest.raises(RecoveryRefused, match="Unlock b, c"):
        looked(world, disks).refuse_while_alive()


def test_a_majority_of_those_in_raft_counts_although_more_are_declared(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    world.quorate = lambda _: False
    lose(world, "a")
    with pytest.raises(RecoveryRefused, match="a majority"):
        looked(world, disks, "abcdex").refuse_while_alive()


def test_managers_that_are_off_are_no_obstacle_and_others_need_a_word(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a", "b")
    found = looked(world, disks)
    assert found.not_shown_off(found.survivor(), OFF) == []
    unseen = found.not_shown_off(found.survivor(), {"a": "running", "b": "pve02 does not tell"})
    assert ["running" in unseen[0], "pve02 does not tell" in unseen[1]] == [True, True]
    with pytest.raises(RecoveryRefused, match=r"not shown to be off: a \(10.0.0.1\).*--others-are-gone"):
        recovery.require_off(unseen, given_up=False)
    recovery.require_off(unseen, given_up=True)


def test_a_manager_that_nobody_declared_is_not_shown_to_be_off(world: World, disks: Disks) -> None:
    world.build(["a", "b", "x"])
    lose(world, "a", "x")
    found = looked(world, disks, "ab")
    assert found.not_shown_off(found.survivor(), OFF) == ["10.0.0.6 (a manager this stack does not know)"]


def test_the_survivor_is_backed_up_forced_and_counted(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    swarm.spec["EncryptionConfig"] = {"AutoLockManagers": True}
    before = copy.deepcopy(swarm.spec)
    lose(world, "a", "b")
    kept: list[Packed] = []
    outcome = forced(world, disks, kept)
    assert disks.log == [("save", "c"), ("force", "c"), ("finish", "c")]
    assert kept[0].data == b"state of c"
    assert raft(swarm) == ["c"]
    assert outcome.contents == {"services": 1, "networks": 1, "secrets": 1, "configs": 1, "nodes": 4}
    assert (outcome.ready, outcome.missing) == (("c", "d"), ("a", "b"))
    (body,) = [detail for _, name, detail in world.calls if name == "swarm_init"]
    assert body["ForceNewCluster"] and body["ListenAddr"] == body["AdvertiseAddr"] == "10.0.0.3:2377"
    assert "DefaultAddrPool" not in body, "the swarm's own stays"
    assert swarm.spec == before
    assert body["DataPathAddr"] == ""


def test_the_survivor_keeps_its_address_for_overlay_traffic(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"])
    lose(world, "a", "b")
    found = looked(world, disks)
    recovery.force(found.survivor(), swarm.id, [].append, data_path="10.0.9.3", access=world, files=disks)
    (body,) = [detail for _, name, detail in world.calls if name == "swarm_init"]
    assert (body["DataPathAddr"], body["AdvertiseAddr"]) == ("10.0.9.3", "10.0.0.3:2377")


def test_nothing_is_forced_when_the_backup_cannot_be_kept(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"])
    lose(world, "a", "b")
    found = looked(world, disks)

    def full(_: Packed) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        recovery.force(found.survivor(), swarm.id, full, access=world, files=disks)
    assert ("force", "c") not in disks.log
    assert looked(world, disks).begun is not None
    forced(world, disks)
    assert raft(swarm) == ["c"]


@pytest.mark.parametrize("step", ["save", "force", "finish"])
def test_a_recovery_that_broke_off_is_completed_by_the_next(world: World, disks: Disks, step: str) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    lose(world, "a", "b")
    disks.positions = {"c": (80, 3, 80)}
    disks.fail_at = step
    with pytest.raises((Unreachable, SwarmError)):
        forced(world, disks)
    disks.fail_at = ""
    found = looked(world, disks)
    assert (found.begun is not None and found.begun.target.node == "c") or step == "save"
    if found.begun is not None and recovery.was_forced(found.begun, swarm.id, access=world):
        assert step == "finish"
        recovery.finish(found.begun, swarm.id, access=world, files=disks)
    else:
        forced(world, disks)
    assert raft(swarm) == ["c"]
    assert not disks.recovering
    assert looked(world, disks).working is not None


def test_a_force_that_was_begun_and_led_to_no_leader_counts_for_none(world: World, disks: Disks) -> None:
    """dockerd writes down that it is in a swarm before raft is forced; a kill of dockerd in between leaves it so."""
    swarm = world.build(["a", "b", "c"])
    lose(world, "a", "b")
    disks.recovering = {"c"}
    found = looked(world, disks)
    assert found.begun is not None and not recovery.was_forced(found.begun, swarm.id, access=world)
    forced(world, disks)
    assert raft(swarm) == ["c"]


def test_a_node_that_was_detached_goes_back_when_its_swarm_got_its_leader_back(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"])
    lose(world, "a", "b")
    disks.save(world.target("c"), "/var/lib/docker", detach=True)
    world["a"].on = world["b"].on = True
    found = looked(world, disks)
    assert found.begun is not None and found.working is not None and found.working is not found.begun
    recovery.give_up(found.begun, files=disks)
    assert raft(swarm) == ["a", "b", "c"] and world["c"].state == "active"


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key fits: "right"."""
    monkeypatch.setattr(
        locked_key, "opened", lambda file, keys: b"clear" if file == LOCKED and "right" in keys else None
    )


@pytest.mark.usefixtures("opener")
@pytest.mark.parametrize("keys", [(), ("wrong",)])
def test_a_locked_survivor_without_its_key_is_refused_before_anything_is_touched(
    world: World, disks: Disks, keys: tuple[str, ...]
) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a", "b")
    disks.locked = {"c"}
    found = looked(world, disks)
    with pytest.raises(SwarmLocked, match="--key-from-stdin"):
        recovery.force(found.survivor(), found.cluster_id, lambda _: None, keys=keys, access=world, files=disks)
    assert disks.log == []


@pytest.mark.usefixtures("opener")
def test_a_locked_survivor_is_forced_with_its_key_file_opened(world: World, disks: Disks) -> None:
    swarm = world.build(["a", "b", "c"])
    lose(world, "a", "b")
    disks.locked = {"c"}
    found = looked(world, disks)
    keys = ["wrong", "right"]
    recovery.force(found.survivor(), found.cluster_id, lambda _: None, keys=keys, access=world, files=disks)
    assert disks.log == [("save", "c"), ("write_key", "c"), ("force", "c")]
    recovery.finish(found.survivor(), swarm.id, keys, access=world, files=disks)
    assert raft(swarm) == ["c"]


def test_a_force_that_the_engine_refuses_is_told_in_its_words(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a", "b")
    disks.fail_at = "force"
    begun = world.now
    with pytest.raises(SwarmError, match=r"c \(10.0.0.3\): manager stopped: failed to load WAL"):
        forced(world, disks)
    assert world.now - begun < 60


def test_what_was_found_is_told_a_line_a_manager(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    lose(world, "a", "b")
    lines = [str(sight) for sight in looked(world, disks).sights]
    assert lines[0] == "does not answer: no answer"
    assert lines[2] == "engine active, no leader; entry 50 committed, 50 the last, of term 2; written 5 s ago"
