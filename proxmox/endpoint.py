"""Which of several Proxmox VE endpoints to talk to."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

TIMEOUT = 1.0


def first_answering(endpoints: Sequence[str]) -> str:
    """The first endpoint whose port can be connected to; the first of all where none can, as in a preview without network."""
    for endpoint in endpoints:
        parts = urlsplit(endpoint)
        try:
            with socket.create_connection((parts.hostname, parts.port or 8006), TIMEOUT):
                return endpoint
        except OSError:
            continue
    return endpoints[0]
