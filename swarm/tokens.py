"""Join tokens: read from a manager at the moment of use, checked, and never kept or shown."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from proxmox_swarm.host.redact import redact
from proxmox_swarm.swarm.errors import SwarmError
from proxmox_swarm.swarm.retry import persist

if TYPE_CHECKING:
    from proxmox_swarm.host.deadline import Deadline
    from proxmox_swarm.swarm.engine import EngineApi

__all__ = ["ca_digest36", "join_token", "redact"]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def ca_digest36(pem: str) -> str:
    """The digest of a root CA as join tokens carry it: SHA-256 in base 36, 50 characters (swarmkit ca/config.go)."""
    number = int(hashlib.sha256(pem.encode()).hexdigest(), 16)
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits.rjust(50, "0")


def join_token(manager: EngineApi, role: str, deadline: Deadline) -> str:
    """The token for a role, from a manager, checked against that manager's own root CA.

    The value must go into a request body and nowhere else. Raises SwarmError when the digest does not fit, which is the
    case for the seconds in which a CA rotation ends.
    """
    swarm = persist(manager.swarm_inspect, deadline)
    token: str = swarm["JoinTokens"]["Manager" if role == "manager" else "Worker"]
    digest = ca_digest36(swarm["TLSInfo"]["TrustRoot"])
    if token.split("-")[-2] != digest:
        raise SwarmError(
            "checking the join token",
            where=manager.where,
            came_back=f"it belongs to CA {token.split('-')[-2][:8]}…, the swarm's root CA is {digest[:8]}…",
            do_now="A CA rotation may be ending: run again.",
        )
    return token
