import dataclasses
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_swarm.components.order import lanes, rolling
from proxmox_swarm.settings import load, read_stack_file
from proxmox_swarm.settings.model import Node

ROOT = Path(__file__).parents[3]


def prod_nodes() -> list[Node]:
    file = ROOT / "Pulumi.prod.yaml"
    return list(load(read_stack_file(file, "swarm"), project="swarm", stack="prod", base=ROOT).nodes.values())


NODES = prod_nodes()


def clones(hosts: list[str]) -> list[Node]:
    return [dataclasses.replace(NODES[3], name=f"w{i}", host=host) for i, host in enumerate(hosts)]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=30), st.integers(1, 4))
def test_no_host_ever_has_more_lanes_than_parallel(hosts: list[str], parallel: int) -> None:
    nodes = clones(hosts)
    before = lanes(nodes, parallel)
    host_of = {node.name: node.host for node in nodes}
    heads = Counter(host_of[name] for name, previous in before.items() if previous is None)
    assert all(count <= parallel for count in heads.values())
    # A lane is a chain: nobody is the predecessor of two, and predecessors are on the same host.
    predecessors = [p for p in before.values() if p is not None]
    assert len(predecessors) == len(set(predecessors))
    assert all(host_of[name] == host_of[p] for name, p in before.items() if p is not None)


@given(st.lists(st.sampled_from(["a", "b"]), max_size=20), st.randoms())
def test_lanes_depend_on_names_not_on_declared_order(hosts: list[str], random: object) -> None:
    nodes = clones(hosts)
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert lanes(nodes, 2) == lanes(shuffled, 2)


def test_a_predecessor_comes_first_in_the_mapping() -> None:
    seen: set[str] = set()
    for name, previous in lanes(NODES, 1).items():
        assert previous is None or previous in seen
        seen.add(name)


def test_managers_are_first_in_their_lanes() -> None:
    assert lanes(NODES, 2)["docker-app-1"] is None


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [
        ([], ["docker-app-1", "docker-app-2", "docker-app-3"]),
        (["docker-app-3"], ["docker-app-3", "docker-app-1", "docker-app-2"]),
        (["docker-infra-1", "docker-app-2"], ["docker-app-2", "docker-app-1", "docker-app-3"]),
    ],
)
def test_rolling_takes_managers_first_and_the_preferred_before_the_healthy(
    preferred: list[str], expected: list[str]
) -> None:
    turns = rolling(NODES, preferred=preferred)
    ordered = list(turns)
    assert ordered[:3] == expected
    assert sorted(ordered) == sorted(node.name for node in NODES)
    if "docker-infra-1" in preferred:
        assert ordered[3] == "docker-infra-1"
    assert all(before in turns[name] for before, name in pairwise(ordered)), (
        "one after the other, unless said otherwise"
    )


def fleet(hosts: list[str], managers: int) -> list[Node]:
    """So many managers, then a worker on each of these hosts."""
    first = [dataclasses.replace(NODES[0], name=f"m{i}", host="a") for i in range(managers)]
    return [*first, *clones(hosts)]


fleets = st.builds(fleet, st.lists(st.sampled_from(["a", "b", "c"]), max_size=14), st.integers(1, 3))


@given(fleets, st.integers(1, 5), st.integers(1, 3), st.data())
def test_whatever_is_back_first_never_more_are_out_than_may_be(
    nodes: list[Node], unavailable: int, parallel: int, data: st.DataObject
) -> None:
    """Nodes are touched as early as they may be, and come back in any order. Those that are new were never in."""
    named = {node.name: node for node in nodes}
    new = data.draw(st.sets(st.sampled_from(sorted(named))))
    turns = rolling(nodes, unavailable=unavailable, parallel=parallel, there=set(named) - new)
    back: set[str] = set()
    while len(back) < len(nodes):
        out = [name for name, before in turns.items() if name not in back and back.issuperset(before)]
        roles = Counter(named[name].role for name in out)
        assert roles["manager"] <= 1
        assert roles["worker"] == 0 or not roles["manager"]
        assert sum(named[name].role == "worker" and name not in new for name in out) <= unavailable
        assert all(count <= parallel for count in Counter(named[name].host for name in out).values())
        back.add(data.draw(st.sampled_from(out)))


@given(fleets, st.integers(1, 4), st.integers(1, 3), st.sampled_from(["a", "b", "c"]), st.integers(0, 14))
def test_a_node_that_is_added_moves_few_others(
    nodes: list[Node], unavailable: int, parallel: int, host: str, place: int
) -> None:
    before = rolling(nodes, unavailable=unavailable, parallel=parallel)
    added = dataclasses.replace(NODES[3], name="added", host=host)
    managers = sum(node.role == "manager" for node in nodes)
    place = min(managers + place, len(nodes))
    after = rolling([*nodes[:place], added, *nodes[place:]], unavailable=unavailable, parallel=parallel)
    moved = [name for name in before if before[name] != after[name]]
    assert len(moved) <= unavailable + parallel


def test_a_node_always_comes_after_those_it_waits_for() -> None:
    seen: set[str] = set()
    for name, waits_for in rolling(NODES, unavailable=2, parallel=2, preferred=["swarmpit-mgmt"]).items():
        assert seen.issuperset(waits_for)
        seen.add(name)


def test_new_workers_wait_for_managers_and_their_host_alone() -> None:
    nodes = fleet(["a", "b", "c", "a"], managers=1)
    turns = rolling(nodes, unavailable=1, parallel=1, there={"m0", "w0"})
    assert turns == {"m0": (), "w0": ("m0",), "w1": ("m0",), "w2": ("m0",), "w3": ("w0",)}


def test_workers_without_a_manager_before_them_are_no_error() -> None:
    assert rolling(clones(["a", "a"]), unavailable=2, parallel=2) == {"w0": (), "w1": ()}
