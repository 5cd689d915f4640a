"""One round: a change is declared, something breaks while `up` makes it, it is mended, `up` runs again, all is judged."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import changes, faults, judge, moments, quorum
from tests.chaos.changes import Change
from tests.chaos.declaration import BASE, Declaration
from tests.chaos.faults import Fault
from tests.chaos.moments import Moment
from tests.lab.project import Project
from tests.lab.watch import Probe, QuorumWatch

#: Runs of `up` a person has patience for once everything is mended.
AGAIN = 2
#: Longer than all the deadlines that one `up` of all nodes may meet one after the other.
UP_LIMIT = 900.0
#: After `up` has ended well: nodes that an election made unknown send their next heartbeat within this.
SETTLE = 45.0


@dataclass(frozen=True)
class Round:
    """What is changed and what breaks when. All of it, and what was declared before, follows from seed and number."""

    number: int
    before: Declaration
    change: Change
    fault: Fault
    moment: Moment

    def __str__(self) -> str:
        return f"{self.change.what} | {self.fault}, {self.moment}"


@dataclass
class Outcome:
    """``seconds`` from the moment all was mended until the engines agreed; ``runs`` of `up` in that time."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    runs: int = 0
    #: the longest time without an acknowledged write of the probe
    gap: float = 0.0
    #: machines that held a certificate of the same node at some time, by its id: docs/runbooks/two-engines-one-node.md
    sharing: dict[str, list[str]] = field(default_factory=dict)


def plan(seed: str, count: int) -> Iterator[Round]:
    """The first rounds of a seed: always the same."""
    now = BASE
    for number in range(1, count + 1):
        rng = Random(f"{seed}/{number}")
        change = changes.draw(rng, now)
        everyone = Declaration({**now.nodes, **change.declared.nodes})
        fault = faults.draw(rng, everyone, change.nodes)
        yield Round(number, now, change, fault, moments.draw(rng, change.steps))
        now = change.declared


def play(project: Project, probe: Probe, this: Round, logs: Path) -> Outcome:
    """Play a round on a swarm that is as declared before it. The output of each `up` goes to a file in ``logs``."""
    outcome = Outcome()
    begun = time.time()
    # By hand any worker may become a manager: all are watched that may be one.
    with QuorumWatch(
        project, sorted({*this.before.managers, *this.change.declared.managers, *_promoted(this)})
    ) as watch:
        struck = _play(project, this, logs, outcome)
        seen = watch.moments(begun)
    victim = this.fault.victim if this.fault.kind in faults.OF_NODES else ""
    if lost := quorum.trouble(seen, victim, struck):
        outcome.problems.append(f"quorum was lost: {lost}")
    if not outcome.problems:
        lost_writes = probe.lost()
        outcome.problems += (
            [f"{len(lost_writes)} acknowledged writes are lost: {lost_writes[:3]}"] if lost_writes else []
        )
    outcome.gap = probe.gaps(begun)
    if outcome.problems:
        outcome.sharing |= project.sharing()
    return outcome


def _promoted(this: Round) -> tuple[str, ...]:
    return this.change.nodes if this.change.by_hand else ()


def _play(project: Project, this: Round, logs: Path, outcome: Outcome) -> float:
    """All of it but the witnesses; the time at which the fault struck."""
    former = judge.ids(project, this.before)
    everyone = Declaration({**this.before.nodes, **this.change.declared.nodes})
    project.declare(**this.change.declared.settings())
    for node, script in this.change.by_hand:
        project.ssh(this.before.nodes[node].address, script)
    struck = _disturbed_up(project, this, everyone, logs / f"{this.number}-up.log", outcome)
    begun = time.monotonic()
    faults.mend(this.fault, project, everyone)
    for run in range(1, AGAIN + 1):
        outcome.runs = run
        code = _ended(project.start("make", "--silent", "up", log=logs / f"{this.number}-again-{run}.log"), UP_LIMIT)
        if code == 0:
            break
        outcome.notes.append(f"`up` number {run} afterwards {_how(code)}")
    else:
        outcome.problems.append(f"{AGAIN} runs of `up` did not bring it back")
    limit = time.monotonic() + (0 if outcome.problems else SETTLE)
    while left := judge.problems(project, this.change.declared, former, this.change.rejoins):
        if time.monotonic() > limit:
            break
        time.sleep(1)
    outcome.seconds = time.monotonic() - begun
    outcome.problems += left or judge.recorded(project)
    return struck


def _disturbed_up(project: Project, this: Round, everyone: Declaration, log: Path, outcome: Outcome) -> float:
    """An `up` during which the fault strikes; when it did (``time.time()``)."""
    up = project.start("make", "--silent", "up", log=log)
    if not moments.reached(this.moment, project, lambda: up.poll() is None):
        outcome.notes.append("`up` had ended before that moment")
    begun, struck = time.monotonic(), time.time()
    note = faults.strike(this.fault, project, everyone, up.pid if up.poll() is None else None)
    if note:
        outcome.notes.append(note)
    if this.fault.lasts is not None:
        time.sleep(max(0.0, this.fault.lasts - (time.monotonic() - begun)))
        faults.mend(this.fault, project, everyone)
    code = _ended(up, UP_LIMIT)
    outcome.notes.append(f"the `up` that it struck {_how(code)}")
    if code != 0:
        outcome.sharing |= project.sharing()
    if code is None:
        outcome.problems.append(f"`up` did not end in {UP_LIMIT:.0f} s")
    return struck


def _ended(up: subprocess.Popen[bytes], limit: float) -> int | None:
    """The exit status, or None when it had to be killed."""
    try:
        return up.wait(limit)
    except subprocess.TimeoutExpired:
        faults.kill("group", up.pid)
        up.wait()
        return None


def _how(code: int | None) -> str:
    if code is None:
        return "did not end"
    return "ended well" if code == 0 else f"failed ({code})"
