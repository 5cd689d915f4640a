"""Whether a round kept its quorum, out of what a :class:`tests.lab.watch.QuorumWatch` saw. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.watch import Moment

#: So long after a manager died the others may still count on it, and whoever asks them is told that all is well.
UNNOTICED = 20.0
#: Elections of a loaded machine take several rounds.
ELECTION = 45.0


def majority(managers: int) -> int:
    """How many of so many managers must be there for decisions."""
    return managers // 2 + 1


def trouble(seen: Sequence[Moment], victim: str = "", struck: float = 0.0) -> str:
    """How the quorum was lost, in words; empty when it was kept, or when the fault itself took the majority away.

    ``victim`` is the manager that was struck at ``struck`` (``time.time()``), if one was.
    """
    if victim and _needed(seen, victim, struck):
        seen = [moment for moment in seen if moment.at < struck]
    known = [moment for moment in seen if moment.leader_known and moment.in_raft is not None]
    for moment in known:
        if len(moment.reachable) >= majority(moment.in_raft or 0):
            continue
        if victim and _at_once(known, victim, struck, moment):
            return ""
        return f"{len(moment.reachable)} of {moment.in_raft} managers reachable, {majority(moment.in_raft or 0)} needed"
    without = _leaderless(seen)
    return f"no leader for {without:.0f} s" if without > ELECTION else ""


def _needed(seen: Sequence[Moment], victim: str, struck: float) -> bool:
    """Whether the managers had no majority without the victim when it was struck."""
    before = [moment for moment in seen if moment.at <= struck and moment.in_raft is not None]
    if not before:
        return False
    last = before[-1]
    return len(last.reachable - {victim}) < majority(last.in_raft or 0)


def _at_once(known: Sequence[Moment], victim: str, struck: float, lost: Moment) -> bool:
    """Whether another manager went away so soon after the victim that nobody could know of the victim's end."""
    gone = {name for moment in known if moment.at <= struck for name in moment.reachable} - lost.reachable - {victim}
    last_seen = [moment.at for moment in known if moment.at <= lost.at and gone & moment.reachable]
    return bool(last_seen) and struck <= max(last_seen) <= struck + UNNOTICED


def _leaderless(seen: Sequence[Moment]) -> float:
    longest, begun = 0.0, None
    for moment in seen:
        if moment.leader_known:
            begun = None
        else:
            begun = moment.at if begun is None else begun
            longest = max(longest, moment.at - begun)
    return longest
