"""What can go wrong with a swarm. As with hosts: what was tried, where, what came back, what to do now."""

from __future__ import annotations

from proxmox_swarm.host.errors import Failure, HostError

__all__ = [
    "BackupUnusable",
    "DrainTimeout",
    "EngineError",
    "Failure",
    "ForeignSwarm",
    "HostError",
    "JoinFailed",
    "LockBusy",
    "NoManager",
    "PortsClosed",
    "QuorumAtRisk",
    "RecoveryRefused",
    "RoleTimeout",
    "RotationFailed",
    "SplitDeclaration",
    "SwarmError",
    "SwarmLocked",
]


class SwarmError(Failure):
    """Anything that failed in or about a swarm."""


class EngineError(SwarmError):
    """The engine answered a request with an HTTP error. ``status`` is its code, ``message`` its text."""

    def __init__(self, status: int, message: str, *, where: str = "", what: str = "asking the engine") -> None:
        self.status = status
        self.message = message
        super().__init__(what, where=where, came_back=f"{message} (HTTP {status})")


class NoManager(SwarmError):
    """None of the managers known to us can take a request for this swarm."""


class QuorumAtRisk(SwarmError):
    """The change would leave the managers without a majority."""


class ForeignSwarm(SwarmError):
    """The node is in another swarm than the declared one."""


class SplitDeclaration(SwarmError):
    """Declared managers are in different swarms."""


class SwarmLocked(SwarmError):
    """The node's swarm state is encrypted and waits for its unlock key."""


class JoinFailed(SwarmError):
    """The node did not become a member."""


class PortsClosed(SwarmError):
    """Ports that a member needs do not get through."""


class RoleTimeout(SwarmError):
    """A promotion or demotion did not complete in its time."""


class RotationFailed(SwarmError):
    """A token, key or CA could not be rotated now, or its rotation did not come to its end in time."""


class DrainTimeout(SwarmError):
    """Tasks did not end in their time on a drained node."""


class LockBusy(SwarmError):
    """Another operation on the same cluster did not end in time."""


class BackupUnusable(SwarmError):
    """A backup that is damaged, or of another swarm, or of another node."""


class RecoveryRefused(SwarmError):
    """Forcing a new cluster would do harm now, or is not called for."""
