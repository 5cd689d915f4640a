"""A member that was there before it was declared: its own labels stay, and only declared ones are judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxmox_swarm.swarm import look
from proxmox_swarm.swarm.errors import JoinFailed
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from proxmox_swarm.swarm.membership import converge, join_or_adopt, observe
from proxmox_swarm.swarm.status import DeclaredNode
from tests.unit.swarm.world import World

TIMES = {"join_timeout": 60, "role_timeout": 60}
FOUND = {"rack": "a1", "storage": "hdd"}


class Adopted:
    """Worker ``d`` of a swarm, with labels that somebody gave it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.swarm = world.build(["a", "b", "c"], ["d"])
        world.node_of(world["d"]).spec["Labels"] = dict(FOUND)
        self.spec = MemberSpec(world.target("d"), "worker", labels={"storage": "ssd"}, adopted=True)

    @property
    def managers(self) -> list:
        return self.world.targets("a", "b", "c")

    @property
    def labels(self) -> dict[str, str]:
        return self.world.node_of(self.world["d"]).spec["Labels"]

    def adopt(self) -> MemberState:
        return join_or_adopt(self.spec, self.managers, self.swarm.id, access=self.world, **TIMES)

    def observe(self, last: MemberState) -> MemberState:
        return observe(self.spec, self.managers, self.swarm.id, last.node_id, last=last, access=self.world)


@pytest.fixture
def adopted(world: World) -> Adopted:
    return Adopted(world)


def test_labels_found_are_kept_and_declared_ones_are_put_over_them(adopted: Adopted) -> None:
    state = adopted.adopt()
    assert adopted.labels == {"rack": "a1", "storage": "ssd"}
    assert state.labels == {"storage": "ssd"}
    again = adopted.observe(state)
    assert (again.verdict, again.detail, again.labels) == ("ok", "", state.labels)


def test_a_member_that_was_made_here_has_the_declared_labels_and_no_others(adopted: Adopted) -> None:
    adopted.spec = replace(adopted.spec, adopted=False)
    adopted.adopt()
    assert adopted.labels == {"storage": "ssd"}


def test_labels_that_others_add_later_are_no_drift_and_declared_ones_are(adopted: Adopted) -> None:
    state = adopted.adopt()
    adopted.labels["by"] = "hand"
    assert adopted.observe(state).verdict == "ok"
    adopted.labels["storage"] = "tape"
    found = adopted.observe(state)
    assert (found.verdict, found.labels) == ("drifted", {"storage": "tape"})
    del adopted.labels["storage"]
    assert adopted.observe(state).verdict == "drifted"
    converge(adopted.spec, adopted.managers, adopted.swarm.id, state, access=adopted.world, **TIMES)
    assert adopted.labels == {"rack": "a1", "storage": "ssd", "by": "hand"}


def test_a_label_that_is_declared_no_more_goes_and_what_was_found_stays(adopted: Adopted) -> None:
    state = adopted.adopt()
    adopted.spec = replace(adopted.spec, labels={"zone": "b"}, undeclared=("storage",))
    converge(adopted.spec, adopted.managers, adopted.swarm.id, state, access=adopted.world, **TIMES)
    assert adopted.labels == {"rack": "a1", "zone": "b"}


def test_nothing_but_labels_and_availability_is_written_at_an_adoption(adopted: Adopted) -> None:
    adopted.labels["storage"] = "ssd"
    version = adopted.world.node_of(adopted.world["d"]).version
    adopted.adopt()
    assert adopted.world.node_of(adopted.world["d"]).version == version


def test_a_member_that_advertises_another_address_is_refused(adopted: Adopted) -> None:
    other = replace(adopted.spec.target, address="10.9.9.9")
    adopted.world.machines["10.9.9.9"] = adopted.world["d"]  # reached there, too
    adopted.spec = replace(adopted.spec, target=other)
    with pytest.raises(JoinFailed, match=r"advertises 10\.0\.0\.4 instead of 10\.9\.9\.9") as refused:
        adopted.adopt()
    assert "first in this node's networks" in str(refused.value)


@pytest.mark.parametrize(("as_found", "verdict"), [(True, "ok"), (False, "drifted")])
def test_status_takes_labels_that_were_found_for_no_drift(adopted: Adopted, as_found: bool, verdict: str) -> None:
    adopted.adopt()
    target = adopted.spec.target
    node = DeclaredNode("d", target.address, "pve01", 104, "worker", "active", {"storage": "ssd"}, target)
    managers = [DeclaredNode(t.node, t.address, "pve01", None, "manager", "active", {}, t) for t in adopted.managers]
    status = look.look([*managers, replace(node, adopted=as_found)], adopted.swarm.id, access=adopted.world)
    assert {one.name: one.verdict for one in status.nodes} == {"a": "ok", "b": "ok", "c": "ok", "d": verdict}
