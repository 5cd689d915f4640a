"""`make chaos [ROUNDS=30] [SEED=…] [ROUND=n] [KEEP=1]`: changes declared while something breaks, and what becomes of them.

Runs in a lab of its own, which is gone afterwards. The same seed gives the same rounds; ROUND=n plays only that one, from
what was declared before it. A round that failed is told with its change, fault and moment; the exit status is 1 then.
KEEP=1 ends with the first round that fails and leaves its lab as it is, to be looked at.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

from proxmox_swarm.lab import Lab
from tests.chaos import judge, rounds
from tests.chaos.declaration import Declaration
from tests.chaos.rounds import Outcome, Round
from tests.lab.probe import DISKS, Probe
from tests.lab.project import Project


class Arena:
    """A lab and a project folder for the rounds; after a failed round everything begins anew."""

    def __init__(self, project: Project, logs: Path) -> None:
        self.project = project
        self.logs = logs
        self._probe: Probe | None = None

    def play(self, this: Round) -> Outcome:
        """One round, from what was declared before it.

        A round that fails because the engines made one node of two says nothing about us, and is played once more.
        """
        outcome = self._play(this)
        if outcome.problems and outcome.sharing:
            first = outcome
            outcome = self._play(this)
            told = "; ".join(first.problems)
            outcome.notes.append(f"at first the engines had made one node of two, {first.sharing}: {told}")
        return outcome

    def _play(self, this: Round) -> Outcome:
        try:
            probe = self._probe or self.begin(this.before)
            outcome = rounds.play(self.project, probe, this, self.logs)
        except Exception as error:  # a round that breaks its own tools has failed too
            outcome = Outcome([f"{type(error).__name__}: {error}"])
        if outcome.problems:
            self.end()
            with suppress(Exception):  # there may be nothing left to ask
                judge.evidence(self.project, this.change.declared, self.logs / f"{this.number}-evidence.txt")
        return outcome

    def begin(self, declared: Declaration) -> Probe:
        """A new swarm as declared, with the probe on all data disks."""
        Lab(self.project.folder).down(purge=True)
        at_work = declared
        for name in DISKS:
            at_work = at_work.node(name, availability="active")
        self.project.declare(**at_work.settings())
        self.project.make("up")
        self._probe = Probe(self.project, manager=declared.managers[0])
        self._probe.__enter__()
        if at_work != declared:
            self.project.declare(**declared.settings())
            self.project.make("up")
        return self._probe

    def end(self) -> None:
        """No more writes: the swarm is given up."""
        if self._probe is not None:
            self._probe.stop()
            self._probe = None


def run(arena: Arena, seed: str, count: int, only: int | None = None, *, keep: bool = False) -> bool:
    """Play rounds and tell about each; whether all passed. ``keep``: end with the first that does not."""
    print(f"seed {seed}: {f'round {only}' if only else f'{count} rounds'}", flush=True)
    failed: list[int] = []
    worst = gap = 0.0
    for this in rounds.plan(seed, only or count):
        if only and this.number != only:
            continue
        print(f"round {this.number:>3}  {this}", flush=True)
        outcome = arena.play(this)
        worst, gap = max(worst, outcome.seconds), max(gap, outcome.gap)
        told = "FAILED" if outcome.problems else "ok"
        print(
            f"           {told}, {outcome.seconds:.0f} s, {outcome.runs} `up`; {'; '.join(outcome.notes)}", flush=True
        )
        if outcome.problems:
            failed.append(this.number)
            print("".join(f"           - {problem}\n" for problem in outcome.problems), end="")
            print(f"           again: make chaos SEED={seed} ROUND={this.number}", flush=True)
            if keep:
                break
    words = f"failed: {', '.join(map(str, failed))}" if failed else "all passed"
    print(
        f"seed {seed}: {1 if only else count} rounds, {words}; worst time to converge {worst:.0f} s, "
        f"longest time without a write {gap:.0f} s",
        flush=True,
    )
    return not failed


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", default="", help="any text; drawn where there is none")
    parser.add_argument("--only", type=int, help="play this round alone")
    parser.add_argument("--keep", action="store_true", help="end with the first failure, and leave its lab")
    asked = parser.parse_args()
    seed = asked.seed or str(SystemRandom().randrange(10**6))
    work = Path(tempfile.mkdtemp(prefix="proxmox-swarm-chaos-", dir="/var/tmp"))
    (work / "logs").mkdir()
    passed: bool | None = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arena = Arena(Project(work / "lab", work / "project"), work / "logs")
    try:
        passed = run(arena, seed, asked.rounds, asked.only, keep=asked.keep)
    finally:
        arena.end()
        _leave(work, passed, keep=asked.keep)
    sys.exit(0 if passed else 1)


def _leave(work: Path, passed: bool | None, *, keep: bool) -> None:
    """Nothing stays but the logs of what failed, unless the lab is to be looked at."""
    if not passed:
        print(f"what each `up` said: {work / 'logs'}", flush=True)
    if keep and passed is False:
        print(f"the lab as it is: cd {work / 'project'}; export PROXMOX_SWARM_LAB={work / 'lab'}", flush=True)
        return
    Lab(work / "lab").down()
    for folder in (work / "lab", work / "project", *([work] if passed else [])):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
