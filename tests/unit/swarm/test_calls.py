"""How much is asked of the engines to add one worker does not grow with the swarm."""

from __future__ import annotations

from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.membership import join_or_adopt
from tests.unit.swarm.world import World

#: So many times as many calls may it take in the larger swarm.
ALLOWED = 1.2


def calls_to_add_a_worker(nodes: int) -> list[tuple[str, str]]:
    """The requests to engines, as (node, method), by which a worker joins a swarm of so many nodes with three managers."""
    managers = ["m1", "m2", "m3"]
    others = [f"w{number}" for number in range(nodes - len(managers))]
    world = World([*managers, *others, "new"])
    swarm = world.build(managers, others)
    join_or_adopt(
        MemberSpec(world.target("new"), "worker", labels={"storage": "ssd"}),
        world.targets(*managers),
        swarm.id,
        join_timeout=120,
        role_timeout=120,
        access=world,
    )
    return [(node, method) for node, method, _ in world.calls]


def test_a_worker_more_takes_no_more_calls_in_a_large_swarm() -> None:
    small, large = calls_to_add_a_worker(7), calls_to_add_a_worker(30)
    assert len(large) <= ALLOWED * len(small), large
