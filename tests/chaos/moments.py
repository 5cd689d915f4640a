"""When a fault strikes: so many seconds after ``up`` began, or when a step of it is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.lab.support import Site, pending

LONGEST = 25.0
POLL = 0.02


@dataclass(frozen=True)
class Step:
    """A resource (the end of its type, its name) and what is done to it: creating, updating or deleting."""

    kind: str
    name: str
    doing: str

    def __str__(self) -> str:
        return f"while {self.doing} {self.kind.rpartition(':')[2]} {self.name}"


@dataclass(frozen=True)
class Moment:
    """``seconds`` after ``up`` began where there is no step; otherwise so long after the step began."""

    seconds: float
    step: Step | None = None

    def __str__(self) -> str:
        later = f"{self.seconds:.1f} s after" if self.seconds else ""
        return f"{later or 'at'} the start" if self.step is None else " ".join(filter(None, (later, str(self.step))))


def draw(rng: Random, steps: tuple[Step, ...]) -> Moment:
    """Half of the moments by time, half by one of these steps."""
    if rng.random() < 0.4 or not steps:
        return Moment(round(rng.uniform(0.5, LONGEST), 1))
    return Moment(rng.choice((0.0, 0.0, 0.5, 2.0)), rng.choice(steps))


def reached(moment: Moment, site: Site, running: Callable[[], bool]) -> bool:
    """Wait for the moment; False when what ``running`` looks at ended before it came."""
    file = site.folder / "state" / ".pulumi" / "stacks" / "swarm" / "lab.json"
    seen = 0
    while moment.step is not None:
        if not running():
            return False
        written = file.stat().st_mtime_ns if file.exists() else 0
        if written != seen and pending(site, moment.step.kind, moment.step.name, moment.step.doing):
            break
        seen = written
        time.sleep(POLL)
    limit = time.monotonic() + moment.seconds
    while time.monotonic() < limit:
        if not running():
            return False
        time.sleep(POLL)
    return running()
