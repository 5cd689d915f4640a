"""Which errors of an engine may be tried again, and how. Nothing is retried blindly: what is written is read again first."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.swarm.errors import EngineError, NoManager

T = TypeVar("T")

#: A node's version moves with its heartbeats and certificates, so that conflicts are normal without a second writer.
SEQUENCE_RETRIES = 10
#: A leader is elected within a few election ticks; a swarm that has none after this long has lost its quorum.
LEADER_PATIENCE = 90.0

_LEADERLESS = (
    "does not have a leader",
    "DeadlineExceeded",
    "context deadline exceeded",
    "lost leader status",
    "Manager is being prepared",
    "trouble connecting to the cluster",
    "control.sock",
)


class Retry(Enum):
    """What an engine's error calls for."""

    NEVER = "never"
    REREAD = "the object changed in between: read it again"
    LEADERLESS = "no leader at the moment: wait; a write that timed out may have been applied"
    JOINING = "the join goes on in the background: watch it"


def classify(error: EngineError) -> Retry:
    """The class of an error. Texts are compared because 500 and 503 mean many things (moby daemon/cluster/errors.go)."""
    if "update out of sequence" in error.message:
        return Retry.REREAD
    if "Timeout was reached before node joined" in error.message:
        return Retry.JOINING
    if error.status >= 500 and any(text in error.message for text in _LEADERLESS):
        return Retry.LEADERLESS
    return Retry.NEVER


def persist(action: Callable[[], T], deadline: Deadline) -> T:
    """Run an action that reads what it is about to write, again where the error allows it, until the deadline.

    Raises the last EngineError, or NoManager when the manager that was asked went away and no other answers.
    """
    conflicts = 0
    patience = Deadline.after(min(LEADER_PATIENCE, deadline.left), deadline.clock)
    pause = 0.1
    while True:
        try:
            return action()
        except EngineError as error:
            kind = classify(error)
            if kind is Retry.REREAD and conflicts < SEQUENCE_RETRIES:
                conflicts += 1
                deadline.clock.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - jitter between writers
            elif kind is Retry.LEADERLESS and not patience.over:
                deadline.clock.sleep(pause)
                pause = min(pause * 2, 2.0)
            else:
                raise
        except NoManager:
            if patience.over:
                raise
            deadline.clock.sleep(pause)
            pause = min(pause * 2, 2.0)
