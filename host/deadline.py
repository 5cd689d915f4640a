"""Waiting: every wait has an end, and the clock can be replaced by one that does not make tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Clock:
    """Seconds that only go forward, and a way to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True)
class Deadline:
    """A point in time after which waiting ends. ``Deadline.after(30)`` is half a minute from now."""

    seconds: float
    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The moment ``seconds`` from now."""
        return cls(seconds, clock.now() + seconds, clock)

    @property
    def left(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.at - self.clock.now())

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock.now() >= self.at

    def poll(self, check: Callable[[], T | None], interval: float = 0.1) -> T | None:
        """The first result of ``check`` that is not None, or None once the deadline has passed.

        ``check`` runs at least once, and once more after the deadline, so that a slow check still counts.
        """
        while True:
            last_round = self.over
            result = check()
            if result is not None or last_round:
                return result
            self.clock.sleep(min(interval, self.left) or 0.001)
