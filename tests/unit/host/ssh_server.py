"""An SSH server in this process that runs commands on this machine, without root: sudo and docker are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socketserver
import threading
from collections.abc import Coroutine
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import asyncssh

from proxmox_swarm.host.target import Target

SUDO = '#!/bin/sh\n[ "$1" = -n ] || exit 1; shift; [ "$1" = -- ] && shift; exec "$@"\n'
DIAL = """#!/bin/sh
[ "$*" = "system dial-stdio" ] || exit 64
exec python3 -c '
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["FAKE_DOCKER"])
def up():
    while data := os.read(0, 65536): s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536): os.write(1, data)
'
"""


class Server:
    """Listens on 127.0.0.1; counts what clients do."""

    def __init__(self, folder: Path, client_key: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.program("sudo", SUDO)
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.authorized = folder / "authorized_keys"
        self.authorized.write_bytes(asyncssh.read_private_key(client_key).export_public_key())
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        self.logins = 0
        self.sessions = 0
        self.most_sessions = 0
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._acceptor = self._do(self._listen(0))
        self.port = self._acceptor.get_port()

    def program(self, name: str, text: str) -> None:
        """A stand-in for a program of the host."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def target(self, **changes: Any) -> Target:
        public = self.key.export_public_key().decode().strip()
        return Target(
            **{"node": "n1", "address": "127.0.0.1", "user": "me", "host_key": public, "port": self.port, **changes}
        )

    def stop(self) -> None:
        """No more connections; those that are there break."""
        self._do(self._stop())

    def start(self) -> None:
        self._acceptor = self._do(self._listen(self.port))

    def break_connections(self) -> None:
        self._do(self._break())

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self, port: int) -> asyncssh.SSHAcceptor:
        server = self

        class Session(asyncssh.SSHServer):
            def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
                server._connections.append(connection)

            def auth_completed(self) -> None:
                server.logins += 1

        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Session,
            server_host_keys=[self.key],
            authorized_client_keys=str(self.authorized),
            process_factory=self._process,
            encoding=None,
            reuse_address=True,
        )

    async def _stop(self) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        await self._break()

    async def _break(self) -> None:
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.sessions += 1
        self.most_sessions = max(self.most_sessions, self.sessions)
        try:
            pipe = asyncio.subprocess.PIPE
            local = await asyncio.create_subprocess_shell(
                process.command or "", stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment, cwd=self.folder
            )
            sending = asyncio.create_task(_pump(process.stdin, local.stdin))
            await asyncio.gather(_pump(local.stdout, process.stdout), _pump(local.stderr, process.stderr))
            sending.cancel()
            process.exit(await local.wait())
        finally:
            self.sessions -= 1


async def _pump(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        if isinstance(sink, asyncio.StreamWriter):
            sink.close()


class FakeDocker:
    """dockerd's HTTP on a unix socket. ``answers`` maps "METHOD /path" to (status, text)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        #: How many bytes of each answer are promised and never sent, as when dockerd dies at that moment.
        self.missing = 0
        self.start()

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                fake.connections += 1
                fake.open.append(self.request)
                super().setup()

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                fake.requests.append((f"{self.command} {self.path}", self.rfile.read(length).decode()))
                status, text = fake.answers.get(f"{self.command} {self.path}", (404, '{"message": "page not found"}'))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode()) + fake.missing))
                self.close_connection = bool(fake.missing)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        class Threaded(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.open: list[Any] = []
        self.path.unlink(missing_ok=True)
        self.server = Threaded(str(self.path), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As a restart of dockerd begins: every connection closes."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.open:
            _shut(connection)


def _shut(connection: Any) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(2)
    connection.close()
