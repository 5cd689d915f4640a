"""Any change of members, cut short at any call by a kill, a machine's end, a restart or an election; then done again.

What `up` does with members, without Pulumi: look at all, then bring each to its declaration in rolling order.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import maintenance, managers, membership
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from tests.unit.swarm.world import FakeEngine, Swarm, World

FIRST = {"a": "manager", "b": "manager", "c": "manager", "d": "worker", "e": "worker"}
WORKER = {"a": "d", "b": "e", "c": "d"}
TIMES = {"join_timeout": 120.0, "role_timeout": 120.0}
#: Runs of `up` after everything was mended.
AGAIN = 2


class Killed(BaseException):
    """The end of our own process."""


@dataclass
class Stack:
    """What is declared and what was recorded, as in a state."""

    world: World
    swarm: Swarm
    declared: dict[str, str] = field(default_factory=lambda: dict(FIRST))
    generation: dict[str, int] = field(default_factory=dict)
    restarts: set[str] = field(default_factory=set)
    records: dict[str, MemberState] = field(default_factory=dict)
    built: dict[str, int] = field(default_factory=dict)

    def up(self) -> None:
        """Look, then change; raises the first failure."""
        for name, old in self.records.items():
            self.records[name] = membership.observe(
                self._spec(name, old.role), self._managers(), self.swarm.id, old.node_id, last=old, access=self.world
            )
        for name in sorted(self.declared, key=lambda n: (self.declared[n] != "manager", self._health(n), n)):
            if name in self.records and self.built.get(name, 0) != self.generation.get(name, 0):
                self._remove(name)
                self.world.rebuild(name)
                self.built[name] = self.generation[name]
            if name in self.restarts:
                maintenance.restart_engine(
                    self.world.target(name), self._managers(), lambda name=name: self._restart(name),  # type: ignore[misc]
                    drain_timeout=60, back_timeout=120, access=self.world,
                )  # fmt: skip
                self.restarts.discard(name)
            self._member(name)
        for name in [name for name in self.records if name not in self.declared]:
            self._remove(name)
            self.world[name].on = False

    def _health(self, name: str) -> int:
        """The dead first, then those that are not as declared: as `up` hands the order over."""
        verdict = self.records[name].verdict if name in self.records else "ok"
        return {"ok": 2, "drifted": 1}.get(verdict, 0)

    def _member(self, name: str) -> None:
        spec, old = self._spec(name, self.declared[name]), self.records.get(name)
        if old is None:
            self.records[name] = membership.join_or_adopt(
                spec, self._managers(), self.swarm.id, **TIMES, access=self.world
            )
        elif old.verdict != "ok" or old.role != spec.role or old.availability != spec.availability:
            self.records[name] = membership.converge(
                spec, self._managers(), self.swarm.id, old, **TIMES, access=self.world
            )

    def _remove(self, name: str) -> None:
        old = self.records[name]
        spec = self._spec(name, old.role)
        membership.remove(
            spec, self._managers(), self.swarm.id, old.node_id, drain_timeout=60, role_timeout=120, access=self.world
        )
        del self.records[name]

    def _restart(self, name: str) -> None:
        restart(self.world, name)

    def _spec(self, name: str, role: str) -> MemberSpec:
        return MemberSpec(self.world.target(name), "manager" if role == "manager" else "worker")

    def _managers(self) -> list:
        return self.world.targets(*(name for name, role in self.declared.items() if role == "manager"))

    def assert_as_declared(self) -> None:
        """Every member is as declared, on both sides, and nothing else is in the swarm."""
        found = {(n.hostname, n.spec["Role"], n.spec["Availability"], n.in_raft) for n in self.swarm.nodes.values()}
        assert found == {(n, role, "active", role == "manager") for n, role in self.declared.items()}
        assert len(self.swarm.nodes) == len(self.declared)
        for name, role in self.declared.items():
            machine = self.world[name]
            node = next(node for node in self.swarm.nodes.values() if node.hostname == name)
            assert (machine.state, machine.certificate) == ("active", (self.swarm.id, node.id, role))
        assert {name: state.verdict for name, state in self.records.items()} == dict.fromkeys(self.declared, "ok")


def restart(world: World, name: str) -> None:
    """dockerd ends and comes back three seconds later."""
    machine = world[name]
    if machine.state == "active":
        machine.state = "pending"
        world.events.append((world.now + 3, lambda: setattr(machine, "state", "active")))


def stack() -> Stack:
    """Three managers and two workers, as recorded after a first `up`; f is a machine that nobody declared yet."""
    world = Leaky([*FIRST, "f"])
    swarm = world.build([n for n, role in FIRST.items() if role == "manager"], ["d", "e"])
    made = Stack(world, swarm)
    for name, role in FIRST.items():
        made.records[name] = MemberState(
            "ok", "", world[name].certificate[1], role, "active", {}, world[name].engine_id
        )
    return made


def leave(world: World, name: str) -> None:
    """Somebody's own `docker swarm leave --force`."""
    machine = world[name]
    machine.state, machine.certificate = "inactive", None


def take_name(world: World, name: str, whose: str) -> None:
    """The engine comes into another member's name: docs/runbooks/two-engines-one-node.md."""
    machine, other = world[name], world[whose]
    if machine.state == other.state == "active":
        machine.certificate = other.certificate


class Leaky(World):
    """Of the next write the answer is lost; it is done all the same."""

    lost = 0

    def engine(self, target: Target) -> FakeEngine:
        return LeakyEngine(self, target)


class LeakyEngine(FakeEngine):
    def _lose(self) -> None:
        world = self.world
        assert isinstance(world, Leaky)
        if world.lost:
            world.lost = 0
            raise Unreachable("writing", where=self.where, came_back="the connection broke")

    def swarm_join(self, body: dict[str, Any]) -> None:
        super().swarm_join(body)
        self._lose()

    def swarm_leave(self, *, force: bool = False) -> None:
        super().swarm_leave(force=force)
        self._lose()

    def node_update(self, node_id: str, version: int, spec: dict[str, Any]) -> None:
        super().node_update(node_id, version, spec)
        self._lose()

    def node_remove(self, node_id: str, *, force: bool = False) -> None:
        super().node_remove(node_id, force=force)
        self._lose()


CHANGES: dict[str, Callable[[Stack], None]] = {
    "promote two": lambda s: s.declared.update(d="manager", e="manager"),
    "swap": lambda s: s.declared.update(a="worker", d="manager"),
    "rebuild a manager": lambda s: s.generation.update(a=1),
    "rebuild all managers": lambda s: s.generation.update(a=1, b=1, c=1),
    "rebuild a worker": lambda s: s.generation.update(d=1),
    "restart all": lambda s: s.restarts.update(FIRST),
    "add a worker": lambda s: s.declared.update(f="worker"),
    "remove a worker": lambda s: s.declared.pop("e") and None,
    "demote to one, then": lambda s: s.declared.update(b="worker", c="worker"),
}
EVENTS: dict[str, Callable[[World, str], None]] = {
    "killed": lambda world, name: (_ for _ in ()).throw(Killed()),
    "off": lambda world, name: setattr(world[name], "on", False),
    "restart": restart,
    "election": lambda world, name: setattr(world, "leaderless_until", world.now + 8),
    "conflicts": lambda world, name: setattr(world, "sequence_errors", 3),
    "answer lost": lambda world, name: setattr(world, "lost", 1),
    # of workers alone: a manager lost for good while another one is out would take the majority along
    "rebuilt": lambda world, name: world.rebuild(WORKER.get(name, name)),
    "made to leave": lambda world, name: leave(world, WORKER.get(name, name)),
    "in b's name": lambda world, name: take_name(world, WORKER.get(name, name), "b"),
}


@settings(max_examples=int(os.environ.get("INTERRUPTIONS", "60")), deadline=None)
@given(
    change=st.sampled_from(sorted(CHANGES)),
    happens=st.lists(
        st.tuples(st.integers(1, 250), st.sampled_from(sorted(EVENTS)), st.sampled_from(sorted(FIRST))), max_size=2
    ),
)
def test_a_change_that_is_cut_short_is_finished_by_the_next_up(
    change: str, happens: list[tuple[int, str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("PROXMOX_SWARM_LOCKS")
        os.environ["PROXMOX_SWARM_LOCKS"] = folder
        managers._last.clear()
        try:
            play(change, happens)
        finally:
            if before is None:
                del os.environ["PROXMOX_SWARM_LOCKS"]
            else:
                os.environ["PROXMOX_SWARM_LOCKS"] = before


def play(change: str, happens: list[tuple[int, str, str]]) -> None:
    made = stack()
    world = made.world
    CHANGES[change](made)
    calls = [0]
    told: list[str] = []

    def seen(node: str, call: str) -> None:
        calls[0] += 1
        for number, event, victim in happens:
            if number == calls[0]:
                told.append(f"{event} ({victim}) before {call} on {node}")
                EVENTS[event](world, victim)

    world.on_call = seen
    try:
        made.up()
    except (Failure, Killed) as error:
        told.append(f"the first `up`: {type(error).__name__}: {str(error).splitlines()[:1]}")
    world.on_call = lambda node, call: None
    note("; ".join(told))
    for machine in world.machines.values():
        if machine.target.node in made.declared:
            machine.on = True
    world.lost = world.sequence_errors = 0  # type: ignore[attr-defined]
    world.pass_time(40)
    for last in range(AGAIN):
        try:
            made.up()
            break
        except Failure as error:
            note(f"`up` again: {error}")
            if last == AGAIN - 1:
                raise
    world.pass_time(5)
    made.assert_as_declared()
