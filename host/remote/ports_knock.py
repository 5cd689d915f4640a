"""Knock on another host's ports, where ``ports_listen`` is about to answer.

``args``: ``tcp`` and ``udp`` [[address, port], …], ``patience`` (seconds without any answer after which a port is closed).
Result: ``closed`` [[protocol, port, reason], …].
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any


def tcp(address: str, port: int, end: float) -> str | None:
    """None when a connection is accepted before ``end``, else the last reason."""
    while True:
        try:
            socket.create_connection((address, port), max(0.1, end - time.monotonic())).close()
        except TimeoutError:
            return "no answer"
        except OSError as error:
            # The listener's interpreter may still be starting.
            if time.monotonic() > end:
                return error.strerror or str(error)
            time.sleep(0.02)
        else:
            return None


def udp(address: str, port: int, end: float) -> str | None:
    """None when a datagram is answered before ``end``."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        while time.monotonic() < end:
            try:
                sock.sendto(b"proxmox-swarm port test", (address, port))
                sock.recvfrom(512)
            except OSError:
                time.sleep(0.02)
            else:
                return None
    return "no answer"


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Try all ports at once."""
    end = time.monotonic() + args["patience"]
    closed: list[list[Any]] = []

    def one(protocol: str, address: str, port: int) -> None:
        reason = (tcp if protocol == "tcp" else udp)(address, port, end)
        if reason:
            closed.append([protocol, port, reason])

    threads = [
        threading.Thread(target=one, args=(protocol, *where)) for protocol in ("tcp", "udp") for where in args[protocol]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"closed": sorted(closed)}
