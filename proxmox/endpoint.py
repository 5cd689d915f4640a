"""Which of several Proxmox VE endpoints to talk to."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

TIMEOUT = 1.0


def first_answering(endpoints: Sequence[str]) -> str:
    """The first endpoint whose port can be connected to; the first of all where none can, as in a preview without network."""
    return next((endpoint for endpoint in endpoints if answers(endpoint)), endpoints[0])


def answers(endpoint: str) -> bool:
    """Whether the endpoint's port can be connected to."""
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection((parts.hostname, parts.port or 8006), TIMEOUT):
            return True
    except OSError:
        return False
