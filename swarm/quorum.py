"""The arithmetic of raft: how many managers make a majority, and what may be taken away from it. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass


def majority(managers: int) -> int:
    """How many of so many managers must be reachable for the swarm to take decisions."""
    return managers // 2 + 1


@dataclass(frozen=True)
class Quorum:
    """The managers in raft and how many of them are reachable."""

    managers: int
    reachable: int

    @property
    def margin(self) -> int:
        """How many reachable managers can be lost before decisions stop; negative when they have stopped."""
        return self.reachable - majority(self.managers)

    def __str__(self) -> str:
        spare = f"can lose {self.margin}" if self.margin > 0 else "NONE TO SPARE" if self.margin == 0 else "NO QUORUM"
        return f"{self.reachable} of {self.managers} managers reachable, {majority(self.managers)} needed, {spare}"


def can_remove(quorum: Quorum, *, reachable: bool) -> str | None:
    """None when a manager (reachable or not) may leave raft, else the reason why not.

    The change itself needs today's majority, and what remains needs the majority of the smaller set.
    """
    if quorum.margin < 0:
        return f"the swarm has no quorum ({quorum})"
    if quorum.managers <= 1:
        return "it is the last manager"
    after = Quorum(quorum.managers - 1, quorum.reachable - (1 if reachable else 0))
    if after.margin < 0:
        return f"without it {after.reachable} of {after.managers} would be reachable, {majority(after.managers)} needed"
    return None


def can_pause(quorum: Quorum, *, reachable: bool) -> str | None:
    """None when a manager may be out for a while (its engine restarts) and come back, else the reason why not.

    One or two managers cannot spare any; they are still allowed it, one at a time, while all are reachable: decisions
    stop for that while and nothing is lost.
    """
    if not reachable:
        return None
    if quorum.managers <= 2 and quorum.reachable == quorum.managers:
        return None
    if quorum.margin <= 0:
        return f"without it there would be no majority ({quorum})"
    return None
