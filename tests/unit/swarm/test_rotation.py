"""Tokens and the root CA: rotated once, judged by what is there afterwards."""

from __future__ import annotations

import copy

import pytest

from proxmox_swarm.swarm import rotation
from proxmox_swarm.swarm.errors import EngineError, NoManager, RotationFailed
from proxmox_swarm.swarm.tokens import ca_digest36
from tests.unit.swarm.world import BAD_TOKEN, World

MANAGERS = ("a", "b", "c")


def updates(world: World) -> int:
    return sum(name == "swarm_update" for _, name, _ in world.calls)


@pytest.mark.parametrize(("role", "other"), [("worker", "manager"), ("manager", "worker")])
def test_one_roles_token_changes_in_its_secret_part_alone(world: World, role: str, other: str) -> None:
    swarm = world.build(MANAGERS, ["d"])
    before, spec, members = dict(swarm.secrets), copy.deepcopy(swarm.spec), copy.deepcopy(swarm.nodes)
    old = swarm.token(role)
    rotation.rotate_token(world.targets(*MANAGERS), swarm.id, role, access=world)
    assert swarm.secrets[role] != before[role] and swarm.secrets[other] == before[other]
    assert swarm.token(role).split("-")[:3] == old.split("-")[:3], "the CA is the same"
    assert (swarm.spec, swarm.nodes) == (spec, members)
    with pytest.raises(EngineError, match=BAD_TOKEN):
        world.engine(world.target("e")).swarm_join({"RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": old})


def test_a_rotation_whose_answer_was_lost_is_not_done_twice(world: World) -> None:
    swarm = world.build(MANAGERS)
    before = swarm.token("worker")
    world.answers_lost = 1
    rotation.rotate_token(world.targets(*MANAGERS), swarm.id, "worker", access=world)
    assert swarm.token("worker") != before and updates(world) == 1


def test_conflicting_writers_are_waited_out(world: World) -> None:
    swarm = world.build(MANAGERS)
    world.sequence_errors = 3
    rotation.rotate_token(world.targets(*MANAGERS), swarm.id, "manager", access=world)
    assert updates(world) == 4 and swarm.secrets["worker"] == "w" * 25


def test_an_engine_that_keeps_its_token_is_told(world: World) -> None:
    swarm = world.build(MANAGERS)
    world.deaf = True
    with pytest.raises(RotationFailed, match="still gives the old one") as raised:
        rotation.rotate_token(world.targets(*MANAGERS), swarm.id, "worker", access=world)
    assert "SWMTKN" not in str(raised.value)


def test_without_a_manager_nothing_is_rotated(world: World) -> None:
    swarm = world.build(["a"])
    world["a"].on = False
    with pytest.raises(NoManager):
        rotation.rotate_token(world.targets("a"), swarm.id, "worker", access=world)


# -- the root CA -------------------------------------------------------------------------------------------------------


def rotate(world: World, cluster_id: str, timeout: float = 60) -> tuple[str, list[str]]:
    told: list[str] = []
    digest = rotation.rotate_ca(
        world.targets(*MANAGERS), cluster_id, timeout=timeout, told=lambda name, _: told.append(name), access=world
    )
    return digest, told


def test_every_node_gets_a_certificate_and_the_digest_and_tokens_are_others(world: World) -> None:
    swarm = world.build(MANAGERS, ["d", "e"])
    old, tokens = swarm.pem, dict(swarm.secrets)
    spec = {**swarm.spec, "CAConfig": {**swarm.spec["CAConfig"], "ForceRotate": 1}}
    digest, told = rotate(world, swarm.id)
    assert sorted(told) == ["a", "b", "c", "d", "e"]
    assert swarm.pem != old and digest == ca_digest36(swarm.pem)
    assert all(swarm.secrets[role] != tokens[role] for role in tokens)
    assert (swarm.spec, updates(world)) == (spec, 1)
    assert rotation.ca_digest(world.targets(*MANAGERS), swarm.id, access=world) == digest


def test_it_can_be_done_again_and_again(world: World) -> None:
    swarm = world.build(MANAGERS)
    digests = {rotate(world, swarm.id)[0] for _ in range(3)}
    assert len(digests) == 3 and swarm.spec["CAConfig"]["ForceRotate"] == 3


def test_a_node_that_is_down_refuses_it_by_name_before_anything_is_done(world: World) -> None:
    swarm = world.build(MANAGERS, ["d", "e"])
    world["e"].on = False
    world.pass_time(20)
    with pytest.raises(RotationFailed, match=r"e \(10.0.0.5, down\)") as raised:
        rotate(world, swarm.id)
    assert "take them out of the declaration" in str(raised.value)
    assert updates(world) == 0 and not swarm.next_pem


def test_one_that_was_begun_before_is_taken_to_its_end_not_begun_anew(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    engine = world.engine(world.target("a"))
    found = engine.swarm_inspect()
    engine.swarm_update(found["Version"]["Index"], {**found["Spec"], "CAConfig": {"ForceRotate": 1}})
    wanted = swarm.next_pem
    world.calls.clear()
    digest, told = rotate(world, swarm.id)
    assert digest == ca_digest36(wanted)
    assert told[0] == "swarm" and updates(world) == 0


def test_a_lost_answer_begins_it_once(world: World) -> None:
    swarm = world.build(MANAGERS)
    world.answers_lost, world.sequence_errors = 1, 2
    rotate(world, swarm.id)
    assert swarm.forced == 1


def test_a_node_lost_on_the_way_is_named_and_the_next_run_ends_it(world: World) -> None:
    swarm = world.build(MANAGERS, ["d", "e"])

    def lost() -> None:
        world["e"].on = False

    world.events.append((world.now + 1, lost))
    with pytest.raises(
        RotationFailed, match=r"after 30 s it is not done; without its certificate: e \(down\)"
    ) as raised:
        rotate(world, swarm.id, timeout=30)
    assert "Run again" in str(raised.value)
    wanted = swarm.next_pem
    assert wanted
    world["e"].on = True
    world.events[:] = [(world.now + 3, lambda: world.renew(swarm))]
    digest, _ = rotate(world, swarm.id)
    assert digest == ca_digest36(wanted) and swarm.forced == 1


def test_a_manager_that_dies_on_the_way_is_not_the_end(world: World) -> None:
    swarm = world.build(MANAGERS)
    world.events.append((world.now + 1, lambda: setattr(world["a"], "on", False)))
    world.events.append((world.now + 20, lambda: setattr(world["a"], "on", True)))
    assert rotate(world, swarm.id)[0] == ca_digest36(swarm.pem)


def test_an_election_is_waited_out_before_a_node_counts_as_down(world: World) -> None:
    swarm = world.build(MANAGERS, ["d"])
    world["d"].state = "pending"
    world.events.append((world.now + 5, lambda: setattr(world["d"], "state", "active")))
    rotate(world, swarm.id)
    assert swarm.forced == 1
