"""Listen for a moment on the ports that dockerd will use here, answer whoever knocks, and try ports elsewhere meanwhile.

``args``: what to listen on, ``tcp`` and ``udp`` [[address, port], …], ``connect`` [[address, port], …], ``patience``
(seconds).
Ends when stdin does, after 15 seconds at the latest. Result: ``busy`` [[protocol, port, reason], …] and ``closed``
[[address, port, reason], …].
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
import time
from typing import Any


def bind(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """A listening socket that does not block."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(8)
    except OSError:
        sock.close()
        raise
    return sock


def bind_soon(kind: socket.SocketKind, address: str, port: int, end: float) -> socket.socket:
    """Bind, waiting until ``end`` for a dockerd that is still leaving a swarm to let go of the port."""
    while True:
        try:
            return bind(kind, address, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise
            time.sleep(0.05)


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Serve until told to stop."""
    ready = selectors.DefaultSelector()
    busy: list[list[Any]] = []
    start = time.monotonic()
    for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        for address, port in args[protocol]:
            try:
                listener = bind_soon(kind, address, port, start + args["patience"] / 3)
                ready.register(listener, selectors.EVENT_READ, protocol)
            except OSError as error:
                busy.append([protocol, port, error.strerror or str(error)])
    trying: dict[tuple[str, int], str] = {}
    for address, port in args["connect"]:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((address, port))
        trying[(address, port)] = "no answer"
        ready.register(sock, selectors.EVENT_WRITE, (address, port))
    ready.register(sys.stdin, selectors.EVENT_READ, "stdin")
    told_to_stop = False
    # Stopping early leaves the outgoing tries their patience.
    while time.monotonic() - start < 15 and not (
        told_to_stop and ("no answer" not in trying.values() or time.monotonic() - start > args["patience"])
    ):
        for key, _ in ready.select(0.05):
            if key.data == "tcp":
                key.fileobj.accept()[0].close()  # type: ignore[union-attr]
            elif key.data == "udp":
                data, sender = key.fileobj.recvfrom(512)  # type: ignore[union-attr]
                key.fileobj.sendto(data, sender)  # type: ignore[union-attr]
            elif key.data == "stdin":
                told_to_stop = True
                ready.unregister(sys.stdin)
            else:
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[union-attr]
                ready.unregister(key.fileobj)
                if code == 0:
                    del trying[key.data]
                else:
                    trying[key.data] = os.strerror(code)
                key.fileobj.close()  # type: ignore[union-attr]
    return {"busy": busy, "closed": [[*where, reason] for where, reason in trying.items()]}
