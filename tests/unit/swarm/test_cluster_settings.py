"""The engine replaces the whole spec: what is not declared must survive."""

from __future__ import annotations

import copy

import pytest

from proxmox_swarm.swarm import cluster_settings
from proxmox_swarm.swarm.errors import EngineError
from tests.unit.swarm.world import FIRST_SPEC, World

WANTED = {"task_history": 3, "certificate_expiry": 2_592_000, "labels": {"by": "us"}, "election_tick": None}


def test_declared_fields_are_set_and_the_rest_is_kept(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    found = cluster_settings.apply(world.targets("b", "a"), swarm.id, WANTED, access=world)
    expected = copy.deepcopy(FIRST_SPEC)
    expected["Orchestration"]["TaskHistoryRetentionLimit"] = 3
    expected["CAConfig"]["NodeCertExpiry"] = 2_592_000 * 10**9
    expected["Labels"] = {"by": "us"}
    assert swarm.spec == expected
    assert found == WANTED


def test_nothing_is_written_when_nothing_differs(world: World) -> None:
    swarm = world.build(["a"])
    cluster_settings.apply(world.targets("a"), swarm.id, WANTED, access=world)
    version = swarm.version
    assert cluster_settings.apply(world.targets("a"), swarm.id, WANTED, access=world) == WANTED
    assert swarm.version == version


def test_a_conflict_is_read_again_before_it_is_written(world: World) -> None:
    swarm = world.build(["a"])
    world.sequence_errors = 5
    cluster_settings.apply(world.targets("a"), swarm.id, {"dispatcher_heartbeat": 7}, access=world)
    assert swarm.spec["Dispatcher"]["HeartbeatPeriod"] == 7 * 10**9


def test_conflicts_without_end_are_given_up(world: World) -> None:
    swarm = world.build(["a"])
    world.sequence_errors = 1000
    with pytest.raises(EngineError, match="out of sequence"):
        cluster_settings.apply(world.targets("a"), swarm.id, {"task_history": 7}, access=world)
    assert swarm.spec == FIRST_SPEC


def test_a_change_by_hand_is_observed_and_no_answer_is_none(world: World) -> None:
    swarm = world.build(["a"])
    swarm.spec["Orchestration"]["TaskHistoryRetentionLimit"] = 99
    observed = cluster_settings.observe(world.targets("a"), swarm.id, WANTED, access=world)
    assert observed == {"task_history": 99, "certificate_expiry": 7_776_000, "labels": {}, "election_tick": None}
    world["a"].on = False
    assert cluster_settings.observe(world.targets("a"), swarm.id, WANTED, access=world) is None


def test_an_unknown_field_is_a_mistake_of_ours(world: World) -> None:
    with pytest.raises(ValueError, match="heartbeat_period"):
        cluster_settings.apply(world.targets("a"), "any", {"heartbeat_period": 1}, access=world)
