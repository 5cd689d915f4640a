import dataclasses
from collections import Counter
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
    ordered = [node.name for node in rolling(NODES, preferred)]
    assert ordered[:3] == expected
    assert sorted(ordered) == sorted(node.name for node in NODES)
    if "docker-infra-1" in preferred:
        assert ordered[3] == "docker-infra-1"
