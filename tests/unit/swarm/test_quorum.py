"""The guard that keeps a majority: its arithmetic, and any order of operations and failures on a whole swarm."""

from __future__ import annotations

import contextlib
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxmox_swarm.swarm import maintenance, managers, membership
from proxmox_swarm.swarm.errors import Failure, LockBusy
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.quorum import Quorum, can_pause, can_remove, majority
from tests.unit.swarm.world import World


@pytest.mark.parametrize(
    ("managers_", "needed", "tolerated"), [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (7, 4, 3)]
)
def test_majority(managers_: int, needed: int, tolerated: int) -> None:
    assert majority(managers_) == needed
    assert Quorum(managers_, managers_).margin == tolerated


@pytest.mark.parametrize(
    ("quorum", "reachable", "allowed"),
    [
        (Quorum(3, 3), True, True),
        (Quorum(3, 2), False, True),
        (Quorum(3, 2), True, False),
        (Quorum(3, 1), False, False),
        (Quorum(2, 2), True, True),
        (Quorum(2, 1), False, False),
        (Quorum(1, 1), True, False),
        (Quorum(5, 3), True, False),
        (Quorum(5, 3), False, True),
        (Quorum(5, 4), True, True),
        (Quorum(4, 3), True, True),
    ],
)
def test_removal(quorum: Quorum, reachable: bool, allowed: bool) -> None:
    assert (can_remove(quorum, reachable=reachable) is None) is allowed


@given(st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_a_removal_that_is_allowed_leaves_a_quorum(total: int, up: int, reachable: bool) -> None:
    up = min(up, total)
    if can_remove(Quorum(total, up), reachable=reachable) is None:
        assert up - reachable >= majority(total - 1) and up >= majority(total)


@given(st.integers(3, 9), st.integers(0, 9))
def test_a_pause_that_is_allowed_keeps_decisions_going(total: int, up: int) -> None:
    up = min(up, total)
    if can_pause(Quorum(total, up), reachable=True) is None:
        assert up - 1 >= majority(total)


@pytest.mark.parametrize(
    ("quorum", "allowed"), [(Quorum(1, 1), True), (Quorum(2, 2), True), (Quorum(2, 1), False), (Quorum(3, 2), False)]
)
def test_one_or_two_managers_may_pause_while_all_are_there(quorum: Quorum, allowed: bool) -> None:
    assert (can_pause(quorum, reachable=True) is None) is allowed


NAMES = ["a", "b", "c", "d", "e"]


class Swarming(RuleBasedStateMachine):
    """Machines die and come back at any moment; what we do in between never costs the swarm its quorum."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.before = os.environ.get("PROXMOX_SWARM_LOCKS")
        os.environ["PROXMOX_SWARM_LOCKS"] = self.folder.name
        managers._last.clear()
        self.world = World([*NAMES, "w"])
        self.world.careless = True
        self.had_quorum = True

    def teardown(self) -> None:
        if self.before is None:
            os.environ.pop("PROXMOX_SWARM_LOCKS", None)
        else:
            os.environ["PROXMOX_SWARM_LOCKS"] = self.before
        self.folder.cleanup()

    @initialize(count=st.sampled_from([1, 3, 4, 5]))
    def start(self, count: int) -> None:
        self.swarm = self.world.build(NAMES[:count], ["w"])
        self.declared = NAMES[:count]

    def spec(self, name: str, role: str = "manager") -> MemberSpec:
        return MemberSpec(self.world.target(name), role)

    def member(self, name: str) -> str:
        address = self.world.target(name).address
        return next((n.id for n in self.swarm.nodes.values() if n.address == address), "")

    def known(self) -> list:
        return self.world.targets(*NAMES)

    def guarded(self, action, *args, **options) -> bool:
        self.had_quorum = self.world.quorate(self.swarm)
        try:
            action(*args, access=self.world, **options)
        except LockBusy:
            raise
        except Failure as error:
            assert "SWMTKN" not in str(error)
            return False
        return True

    @rule(name=st.sampled_from(NAMES))
    def power(self, name: str) -> None:
        """Failures are not ours to prevent; the invariant looks only at what we do."""
        self.world[name].on = not self.world[name].on
        self.world.pass_time(5)
        self.had_quorum = self.world.quorate(self.swarm)

    @rule(name=st.sampled_from(NAMES))
    def rebuild(self, name: str) -> None:
        self.world.rebuild(name)
        self.had_quorum = self.world.quorate(self.swarm)

    @rule(seconds=st.sampled_from([1, 20]))
    def wait(self, seconds: int) -> None:
        self.world.pass_time(seconds)
        self.had_quorum = self.world.quorate(self.swarm)

    @rule(name=st.sampled_from(NAMES), leaving=st.sets(st.sampled_from(NAMES)))
    def remove(self, name: str, leaving: set[str]) -> None:
        """Alone, or with others that are to go as well."""
        node_id = self.member(name)
        alone = len(self.swarm.nodes) == 1
        if node_id and self.guarded(
            membership.remove, self.spec(name), self.known(), self.swarm.id, node_id,
            drain_timeout=5, role_timeout=20, retiring=self.world.targets(*leaving),
        ):  # fmt: skip
            assert self.member(name) == "" or alone

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(["manager", "worker"]))
    def converge(self, name: str, role: str) -> None:
        if self.guarded(
            membership.join_or_adopt,
            self.spec(name, role),
            self.known(),
            self.swarm.id,
            join_timeout=30,
            role_timeout=30,
            former_id=self.member(name),
        ):
            at = [n for n in self.swarm.nodes.values() if n.address == self.world.target(name).address]
            assert [n.spec["Role"] for n in at] == [role] and at[0].in_raft is (role == "manager")

    @rule(name=st.sampled_from(NAMES))
    def maintain(self, name: str) -> None:
        during = []
        node = self.world.node_of(self.world[name])
        raft = sum(n.in_raft for n in self.swarm.nodes.values())

        def action() -> None:
            machine = self.world[name]
            was_on, machine.on = machine.on, False
            if node is not None and node.in_raft and raft > 2:
                during.append(self.world.quorate(self.swarm))
            machine.on = was_on

        self.guarded(
            maintenance.with_node_out, self.spec(name).target, self.known(), self.swarm.id, action,
            drain_timeout=5, back_timeout=20,
        )  # fmt: skip
        assert all(during), "decisions go on while a manager is out"

    @precondition(lambda self: hasattr(self, "swarm"))
    @invariant()
    def what_we_do_never_costs_the_quorum(self) -> None:
        alone = not any(m.certificate and m.certificate[0] == self.swarm.id for m in self.world.machines.values())
        assert alone or not self.had_quorum or self.world.quorate(self.swarm)


TestSwarming = Swarming.TestCase
TestSwarming.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)
with contextlib.suppress(AttributeError):
    del Swarming
