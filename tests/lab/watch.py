"""Witnesses of what a cluster goes through while something is done to it: they ask engines and disks, never our own code.

`QuorumWatch` asks every manager's engine twice a second; `Probe` writes to a replicated service all the time.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.lab.probe import Probe
from tests.lab.project import ADDRESS, MANAGERS, Project
from tests.lab.stream import Stream

__all__ = ["Answer", "Moment", "Probe", "QuorumWatch", "moments"]

HERE = Path(__file__).parent
ASKED_EVERY = 0.5
#: An answer older than this says nothing about now. An engine without a leader takes a second for one, see engine_asker.py.
FRESH = 2.0
#: Its own connection to each machine, given up soon when the machine is gone.
SSH = (
    "ssh", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What one manager's engine said at one time (``time.time()``, which machines and tests share)."""

    at: float
    manager: str
    #: whether it takes itself for an active manager
    control: bool
    #: the managers in raft, by name: whether the leader reaches each; None where it knows of no leader
    raft: dict[str, bool] | None


@dataclass(frozen=True)
class Moment:
    """The managers at one time."""

    at: float
    #: the managers that are up: listed as reachable where an engine knows a leader, else those that answer as managers
    reachable: frozenset[str]
    #: the size of raft; None without a leader
    in_raft: int | None
    leader_known: bool


def moments(answers: Iterable[Answer]) -> list[Moment]:
    """What was so at each answer, from the newest of every manager that is not older than `FRESH`."""
    newest: dict[str, Answer] = {}
    found: list[Moment] = []
    for answer in sorted(answers, key=lambda a: a.at):
        newest[answer.manager] = answer
        fresh = [a for a in newest.values() if answer.at - a.at <= FRESH]
        listing = max((a for a in fresh if a.raft is not None), key=lambda a: a.at, default=None)
        if listing is not None and listing.raft is not None:
            reachable = frozenset(name for name, reached in listing.raft.items() if reached)
            found.append(Moment(answer.at, reachable, len(listing.raft), leader_known=True))
        else:
            up = frozenset(a.manager for a in fresh if a.control)
            found.append(Moment(answer.at, up, None, leader_known=False))
    return found


class QuorumWatch:
    """Asks every manager's engine twice a second from ``with`` to its end.

    One process a manager stays on its machine and asks its engine there, over the engine's own socket: a ping for its
    own place, the nodes for what the leader sees. A manager that is away answers nothing and is waited for.
    """

    def __init__(self, swarm: Project, managers: Iterable[str] = MANAGERS) -> None:
        self._swarm = swarm
        self._managers = tuple(managers)
        self._answers: deque[Answer] = deque()
        self._streams: list[Stream] = []

    def __enter__(self) -> Self:
        asker = (HERE / "engine_asker.py").read_text()
        for name in self._managers:
            command = (*SSH, f"ansible@{ADDRESS[name]}", f"sudo -n python3 -S -u - {ASKED_EVERY} <<'END'\n{asker}\nEND")
            self._streams.append(
                Stream(
                    lambda command=command: self._swarm.open(*command),  # type: ignore[misc]
                    lambda line, name=name: self._take(name, line),  # type: ignore[misc]
                    pause=0.3,
                )
            )
        self._await_all()
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.stop()
        self._streams.clear()

    def _await_all(self) -> None:
        """Return when all have answered, so that nothing begins unseen; managers that are away may stay so."""
        limit = time.monotonic() + 30
        while {a.manager for a in tuple(self._answers)} != set(self._managers) and time.monotonic() < limit:
            time.sleep(0.05)

    def _take(self, manager: str, line: str) -> None:
        with suppress(ValueError, KeyError):  # a line that broke off
            said = json.loads(line)
            self._answers.append(Answer(said["at"], manager, said["control"], said["raft"]))

    def moments(self, since: float = 0.0) -> list[Moment]:
        """What was seen from a time on (``time.time()``)."""
        return [moment for moment in moments(tuple(self._answers)) if moment.at >= since]

    def fewest(self, since: float = 0.0) -> Moment:
        """The moment with the fewest reachable managers; the first of them where there are several."""
        return min(self.moments(since), key=lambda moment: len(moment.reachable))

    def most_away(self, since: float = 0.0) -> frozenset[str]:
        """The most managers that were away at once."""
        return max((frozenset(self._managers) - m.reachable for m in self.moments(since)), key=len)

    def leaderless(self, since: float = 0.0) -> float:
        """The longest time, in seconds, in which no engine knew a leader: an election, or worse."""
        longest, begun = 0.0, None
        for moment in self.moments(since):
            if moment.leader_known:
                begun = None
            else:
                begun = moment.at if begun is None else begun
                longest = max(longest, moment.at - begun)
        return longest

    def unseen(self, since: float = 0.0) -> float:
        """The longest time, in seconds, in which nobody answered at all: how far the rest can be trusted."""
        times = [moment.at for moment in self.moments(since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))

    def told(self, since: float = 0.0) -> str:
        """All of it in a line, for messages."""
        fewest = self.fewest(since)
        return (
            f"fewest reachable {len(fewest.reachable)} ({', '.join(sorted(fewest.reachable))}) at {fewest.at:.1f}, "
            f"no leader for {self.leaderless(since):.1f} s, nobody asked for {self.unseen(since):.1f} s, "
            f"{len(self.moments(since))} answers"
        )
