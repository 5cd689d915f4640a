"""The daemon's control socket: one JSON request and one JSON answer a connection.

The socket also says which process serves it (SO_PEERCRED, translated by the kernel into the caller's PID namespace), so no
PID file can go stale or name a process that took over the number.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LIMIT = 1 << 20


class NotRunningError(RuntimeError):
    """No daemon listens on the lab's control socket."""


class ControlError(RuntimeError):
    """The daemon refused a request."""


@contextmanager
def _short(path: Path) -> Any:
    """A name for ``path`` that fits into a socket address (108 bytes) however deep the directory is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class Client:
    """Talks to the daemon of the lab whose control socket is ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            with _short(self._path) as name:
                connection.connect(name)
        except OSError as error:
            connection.close()
            raise NotRunningError(f"the lab in {self._path.parent.parent} is not running: lab up") from error
        return connection

    def pid(self) -> int:
        """The daemon's process id as seen from here. Raises ``NotRunningError``."""
        with self._connect(5.0) as connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    def ask(self, command: str, timeout: float = 10.0, **arguments: Any) -> Any:
        """Send a request and return the answer. Raises ``NotRunningError``, ``ControlError``, ``TimeoutError``."""
        with self._connect(timeout) as connection:
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            received = b""
            while block := connection.recv(65536):
                received += block
        if not received:
            raise NotRunningError(f"the lab in {self._path.parent.parent} ended while it was asked for '{command}'")
        answer = json.loads(received)
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer["result"]


Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Server:
    """The daemon's side: a handler for each command."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket file left by a dead daemon is replaced."""
        self._path.unlink(missing_ok=True)
        with _short(self._path) as name:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(name)
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LIMIT)

    async def close(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if not line:
                return
            request = json.loads(line)
            handler = self._handlers.get(request.pop("command", ""))
            if handler is None:
                answer: dict[str, Any] = {"error": "no such command"}
            else:
                try:
                    answer = {"result": await handler(request)}
                except (KeyError, TypeError, ValueError, RuntimeError) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode())
            await writer.drain()
        except (ConnectionError, json.JSONDecodeError):
            pass
        finally:
            writer.close()
