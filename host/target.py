"""Where a host is and by which key it is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One host to log in to.

    ``host_key`` is the pinned public key as OpenSSH writes it (``ssh-ed25519 AAAA…``): a host that shows another key is
    refused, there is no trust on first use.
    """

    node: str
    address: str
    user: str
    host_key: str
    port: int = 22

    def __str__(self) -> str:
        return f"{self.node} ({self.address})"
