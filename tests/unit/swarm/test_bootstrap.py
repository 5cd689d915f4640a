"""One swarm, whoever asks: found where it is, made only where none can exist."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxmox_swarm.swarm import bootstrap
from proxmox_swarm.swarm.bootstrap import InitOptions
from proxmox_swarm.swarm.errors import EngineError, ForeignSwarm, NoManager, SplitDeclaration, SwarmError, SwarmLocked
from proxmox_swarm.swarm.tokens import ca_digest36
from tests.unit.swarm.world import FakeEngine, World

INIT = InitOptions(("10.0.0.0/8",), 24, 4789)


def find(world: World, *names: str, deadline: float = 30) -> bootstrap.ClusterFacts:
    return bootstrap.find_or_init(world.targets(*names), INIT, deadline=deadline, access=world)


def inits(world: World) -> list[str]:
    return [node for node, name, _ in world.calls if name == "swarm_init"]


def test_a_new_swarm_is_made_on_the_first_declared_manager_with_its_own_address(world: World) -> None:
    facts = find(world, "b", "a", "c")
    body = next(detail for _, name, detail in world.calls if name == "swarm_init")
    assert (facts.created, facts.init_node, inits(world)) == (True, "b", ["b"])
    assert body["ListenAddr"] == body["AdvertiseAddr"] == "10.0.0.2:2377"
    assert body["DefaultAddrPool"] == ["10.0.0.0/8"] and not body["ForceNewCluster"]
    assert facts.cluster_id in world.swarms and facts.ca_digest == ca_digest36(world.swarms[facts.cluster_id].pem)


@pytest.mark.parametrize(("first", "address"), [("a", "10.0.9.1"), ("b", "")])
def test_overlay_traffic_goes_where_it_is_said_to(world: World, first: str, address: str) -> None:
    init = replace(INIT, data_path={"a": "10.0.9.1"})
    bootstrap.find_or_init(world.targets(first), init, deadline=30, access=world)
    (body,) = [detail for _, name, detail in world.calls if name == "swarm_init"]
    assert body["DataPathAddr"] == address


def test_asking_again_finds_the_same_swarm(world: World) -> None:
    first = find(world, "a", "b", "c")
    again = find(world, "a", "b", "c")
    assert (again.cluster_id, again.ca_digest, again.created) == (first.cluster_id, first.ca_digest, False)
    assert inits(world) == ["a"]


@pytest.mark.parametrize("survivors", [["b", "c"], ["a", "b"]])
def test_the_swarm_is_found_through_whichever_manager_answers(world: World, survivors: list[str]) -> None:
    swarm = world.build(["a", "b", "c"])
    for name in {"a", "b", "c"} - set(survivors):
        world[name].on = False
    facts = find(world, "a", "b", "c")
    assert (facts.cluster_id, facts.created) == (swarm.id, False)
    assert not inits(world)


def test_a_rebuilt_first_manager_does_not_lead_to_a_second_swarm(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world.rebuild("a")
    assert find(world, "a", "b", "c").cluster_id == swarm.id
    assert not inits(world)


def test_no_swarm_is_made_while_a_declared_manager_does_not_answer(world: World) -> None:
    world["c"].on = False
    with pytest.raises(NoManager, match=r"c \(10.0.0.3\): no answer.*every declared manager answers") as caught:
        find(world, "a", "b", "c")
    assert "10.0.0.1" not in str(caught.value)
    assert not inits(world)


def test_a_manager_that_comes_up_late_is_waited_for(world: World) -> None:
    world["c"].on = False
    world.events.append((world.now + 12, lambda: setattr(world["c"], "on", True)))
    assert find(world, "a", "b", "c", deadline=60).created


def test_an_existing_swarm_does_not_wait_for_stragglers_until_the_deadline(world: World) -> None:
    world.build(["a", "b", "c"])
    world["c"].on = False
    start = world.now
    find(world, "a", "b", "c", deadline=300)
    assert world.now - start < 10


def test_managers_of_two_swarms_are_named_with_their_swarms(world: World) -> None:
    one, two = world.build(["a"]), world.build(["b"])
    with pytest.raises(SplitDeclaration) as caught:
        find(world, "a", "b", "c")
    text = str(caught.value)
    assert f"a (10.0.0.1) in {one.id}" in text and f"b (10.0.0.2) in {two.id}" in text
    assert not inits(world)


def test_a_worker_of_another_swarm_among_the_managers_is_a_split_too(world: World) -> None:
    world.build(["a"])
    other = world.build(["x"], ["b"])
    with pytest.raises(SplitDeclaration, match=other.id):
        find(world, "a", "b")


def test_a_declared_manager_that_is_a_worker_of_the_same_swarm_is_no_trouble(world: World) -> None:
    swarm = world.build(["a"], ["b"])
    assert find(world, "b", "a").cluster_id == swarm.id


def test_declared_managers_that_are_only_workers_are_told_who_manages_them(world: World) -> None:
    swarm = world.build(["x"], ["a", "b"])
    with pytest.raises(ForeignSwarm, match=rf"worker of swarm {swarm.id}, whose managers are at 10.0.0.6"):
        find(world, "a", "b", "c")
    assert not inits(world)


def test_a_swarm_without_quorum_is_not_replaced_by_a_new_one(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world["a"].on = world["b"].on = False
    with pytest.raises(NoManager, match=rf"working manager of swarm {swarm.id}.*No new swarm"):
        find(world, "a", "b", "c")
    with pytest.raises(NoManager):
        find(world, "c")
    assert not inits(world)


def test_a_locked_manager_asks_for_its_key(world: World) -> None:
    world.build(["a"])
    world["a"].state = "locked"
    with pytest.raises(SwarmLocked, match="docker swarm unlock"):
        find(world, "a", "b")
    assert not inits(world)


def test_an_init_that_fails_after_making_the_swarm_has_made_it(world: World) -> None:
    class Halfway(FakeEngine):
        def swarm_init(self, body: dict[str, object]) -> str:
            super().swarm_init(body)
            raise self._error(500, "could not apply the spec")

    world.engine = lambda target: Halfway(world, target)
    assert find(world, "a", "b").created
    assert len(world.swarms) == 1


def test_an_init_that_fails_is_reported_in_the_engine_s_words(world: World) -> None:
    class Refusing(FakeEngine):
        def swarm_init(self, body: dict[str, object]) -> str:
            raise self._error(400, "invalid default address pool")

    world.engine = lambda target: Refusing(world, target)
    with pytest.raises(EngineError, match="invalid default address pool"):
        find(world, "a")


def test_reading_the_cluster_gives_a_verdict_and_the_reason(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    view = bootstrap.read_cluster(world.targets("a", "b", "c"), swarm.id, access=world)
    assert (view.verdict, view.ca_digest) == ("ok", ca_digest36(swarm.pem))
    assert view.require().cluster_id == swarm.id
    for name in "abc":
        world[name].on = False
    view = bootstrap.read_cluster(world.targets("a", "b", "c"), swarm.id, access=world)
    assert (view.verdict, view.ca_digest, view.facts) == ("unreachable", "", None)
    with pytest.raises(NoManager, match="no answer"):
        view.require()


def test_a_swarm_with_another_id_is_not_the_one_asked_for(world: World) -> None:
    world.build(["a"])
    view = bootstrap.read_cluster(world.targets("a"), "another", access=world)
    assert view.verdict == "unreachable" and "in another swarm" in view.detail


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (InitOptions(("10.201.0.0/16",), 24, 4789), "addressPool: [10.0.0.0/8]"),
        (InitOptions(("10.0.0.0/8",), 26, 4789), "subnetSize: 24"),
        (InitOptions(("10.0.0.0/8",), 24, 4790), "dataPathPort: 4789"),
    ],
)
def test_a_swarm_made_otherwise_than_declared_is_refused_with_what_to_write(
    world: World, declared: InitOptions, words: str
) -> None:
    world.build(["a", "b", "c"])
    with pytest.raises(SwarmError) as refused:
        bootstrap.find_or_init(world.targets("a", "b", "c"), declared, deadline=10, access=world)
    assert words in str(refused.value).partition("\n")[0]


def test_what_is_not_declared_may_be_anything(world: World) -> None:
    swarm = world.build(["a"])
    assert bootstrap.find_or_init(world.targets("a"), InitOptions(), deadline=10, access=world).cluster_id == swarm.id
