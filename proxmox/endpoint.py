"""Which of several Proxmox VE endpoints to talk to."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

TIMEOUT = 1.5


def first_answering(endpoints: Sequence[str]) -> str:
    """The first endpoint that answers; the first of all where none does, as in a preview without network."""
    return next((endpoint for endpoint in endpoints if answers(endpoint)), endpoints[0])


def answers(endpoint: str) -> bool:
    """Whether the API behind the endpoint answers a request, with whatever answer: a port alone may be open and dead.

    Nothing secret is sent, so the certificate is not looked at here; whoever talks to the endpoint then does that.
    """
    parts = urlsplit(endpoint)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 8006, timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", "/api2/json/version")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
