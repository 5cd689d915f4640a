"""A drain ends when the services are whole elsewhere: that is what makes the next node's drain safe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from proxmox_swarm.swarm.drain import drain
from proxmox_swarm.swarm.errors import DrainTimeout
from tests.unit.swarm.world import Swarm, World

NAMES = ("a", "d", "e", "f")


@pytest.fixture
def world() -> World:
    return World(NAMES)


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build(["a"], ["d", "e", "f"])


def service(world: World, swarm: Swarm, *on: str) -> dict[str, Any]:
    """A service with a task on each of these; a drain ends them."""
    made = world.add_service(swarm, "web", dict.fromkeys(on, 1))
    for name in on:
        for task in world.node_of(world[name]).tasks:  # type: ignore[union-attr]
            task["ends"] = True
    return made


def later(world: World, made: dict[str, Any], seconds: float, on: str | None, slot: int, **change: Any) -> None:
    """The swarm makes a task anew."""
    node = world.node_of(world[on]) if on else None
    world.events.append((world.now + seconds, lambda: world.add_task(made, node, slot, **change)))


def drained(world: World, swarm: Swarm, name: str, timeout: float = 60) -> float:
    """Drain a node; how long that took."""
    begun, engine = world.now, world.engine(world.target("a"))
    node = world.node_of(world[name])
    assert node is not None
    drain(world, engine, engine.node(node.id), name, swarm.id, timeout)
    assert node.spec["Availability"] == "drain"
    return world.now - begun


def test_it_waits_until_the_service_is_whole_elsewhere(world: World, swarm: Swarm) -> None:
    made = service(world, swarm, "d", "e")
    later(world, made, 7, "f", 1)
    assert 7 <= drained(world, swarm, "d") < 8


def test_what_no_other_node_takes_is_not_waited_for(world: World, swarm: Swarm) -> None:
    made = service(world, swarm, "d")
    no_node = {"State": "pending", "Err": "no suitable node (scheduling constraints not satisfied on 3 nodes)"}
    later(world, made, 0.1, None, 1, Status=no_node)
    assert drained(world, swarm, "d") < 2


def test_what_was_not_whole_before_is_not_waited_for(world: World, swarm: Swarm) -> None:
    service(world, swarm, "d", "e")
    world.node_of(world["e"]).tasks[0]["Status"] = {"State": "failed", "Err": "no such image"}  # type: ignore[union-attr]
    assert drained(world, swarm, "d") < 1


def test_a_service_that_does_not_start_elsewhere_is_told_with_its_reason(world: World, swarm: Swarm) -> None:
    made = service(world, swarm, "d", "e")
    later(world, made, 1, "f", 1, Status={"State": "rejected", "Err": "No such image: web"})
    with pytest.raises(DrainTimeout) as failed:
        drained(world, swarm, "d")
    told = str(failed.value)
    assert told.startswith(
        "draining for 60 s on d: services that its tasks were of are not whole on the other nodes: web: "
    )
    assert 'web: 1 of 2 running, rejected on f: "No such image: web"' in told


def test_two_at_once_do_not_take_both_tasks_of_a_service(world: World, swarm: Swarm) -> None:
    """Workers are taken beside each other; the second one's drain begins when the first one's tasks run elsewhere."""
    made = service(world, swarm, "d", "e")
    fewest: list[int] = []

    def count() -> None:
        tasks = [t for n in swarm.nodes.values() for t in n.tasks if t["Status"]["State"] == "running"]
        fewest.append(len(tasks))
        # The swarm makes anew, after 3 s, what runs nowhere; on nodes that take tasks.
        lost = {1, 2} - {t["Slot"] for t in tasks}
        takers = [n for n in swarm.nodes.values() if n.spec["Availability"] == "active" and n.hostname == "f"]
        for slot in lost:
            if slot not in waiting:
                waiting[slot] = world.now + 3
            elif world.now >= waiting[slot]:
                del waiting[slot]
                world.add_task(made, takers[0], slot)
        world.events.append((world.now + 0.1, count))

    waiting: dict[int, float] = {}
    world.events.append((world.now, count))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: drained(world, swarm, name), "de"))
    assert min(fewest) == 1
