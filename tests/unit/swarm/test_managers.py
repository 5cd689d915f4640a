"""Finding a manager: the one that answered last, the others, those the swarm itself names."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh
import pytest

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.errors import NoManager
from proxmox_swarm.swarm.inventory import out_of_reach, read_inventory
from proxmox_swarm.swarm.managers import find_manager
from tests.unit.swarm.world import World


def look(world: World, names: str, cluster: str, seconds: float = 30, **options: str) -> str:
    limit = Deadline.after(seconds, world.clock)
    return find_manager(world, world.targets(*names), cluster, limit, **options).target.node


def test_the_one_that_answered_last_is_asked_alone(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world["a"].on = False
    found = look(world, "abc", swarm.id)
    world.calls.clear()
    assert look(world, "abc", swarm.id) == found
    assert {node for node, _, _ in world.calls} == {found}


def test_an_election_is_waited_for(world: World) -> None:
    swarm = world.build(["a", "b", "c"])
    world["a"].on = world["b"].on = False
    world.events.append((world.now + 40, lambda: setattr(world["b"], "on", True)))
    assert look(world, "c", swarm.id, seconds=90) == "c"


def test_every_manager_s_answer_is_in_the_error(world: World) -> None:
    swarm = world.build(["a"], ["d"])
    other = world.build(["x"])
    world["a"].on = False
    with pytest.raises(NoManager) as caught:
        look(world, "abdx", swarm.id)
    first = str(caught.value).splitlines()[0]
    for part in ("a (10.0.0.1): no answer", "b (10.0.0.2): not in a swarm", "d (10.0.0.4): not a manager", other.id):
        assert part in first
    assert "The swarm's managers are at 10.0.0.1" in first


def test_a_manager_that_no_setting_declares_is_followed_where_its_key_is_known(world: World) -> None:
    swarm = world.build(["x", "b"], ["d"])
    with pytest.raises(NoManager, match=r"managers are at 10.0.0.2, 10.0.0.6"):
        look(world, "d", swarm.id)
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir()
    (folder / "known_hosts").write_text(f"10.0.0.6 {key}\n")
    found = find_manager(world, world.targets("d"), swarm.id, Deadline.after(5, world.clock))
    assert found.target == Target("10.0.0.6", "10.0.0.6", "ansible", key)


def test_the_node_to_be_avoided_is_not_used(world: World) -> None:
    swarm = world.build(["a", "b"])
    assert look(world, "ab", swarm.id, avoid=world["a"].certificate[1]) == "b"
    with pytest.raises(NoManager, match="is the node in question"):
        look(world, "a", swarm.id, avoid=world["a"].certificate[1])


def test_managers_out_of_reach_are_named_and_nobody_where_nobody_tells(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    known = world.targets(*"abc")
    assert out_of_reach(known, swarm.id, access=world) == []
    world["b"].on = False
    world.pass_time(20)
    assert out_of_reach(world.targets(*"abcd"), swarm.id, access=world) == ["b", "d"]
    world["c"].on = False
    assert out_of_reach(known, swarm.id, access=world) == []


def test_the_inventory_lists_all(world: World) -> None:
    swarm = world.build(["a", "b", "c"], ["d", "e"])
    world.rebuild("e")
    world.build(["x"])
    world.pass_time(20)
    world.engine(world.target("e")).swarm_join(
        {"RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": swarm.token("worker"), "Availability": "active"}
    )
    found = read_inventory(world.targets("a"), swarm.id, access=world)
    assert [n.hostname for n in found.nodes] == ["a", "b", "c", "d", "e", "e"]
    assert (found.quorum.managers, found.quorum.margin) == (3, 1)
