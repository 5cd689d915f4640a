"""A local unix socket whose every connection is carried by one remote command's stdin and stdout."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import asyncssh

from proxmox_swarm.host import pool
from proxmox_swarm.host.errors import Failure
from proxmox_swarm.host.loop import call
from proxmox_swarm.host.target import Target

#: Streams at once on one host; with MAX_SESSIONS in all, some are always left for commands.
MAX_STREAMS = 5
_PREFIX = "proxmox-swarm-"
_folder: Path | None = None


class Tunnel:
    """Listens on ``path``; each accepted connection starts ``command`` on ``target``.

    A stream that cannot be started is closed at once; ``why`` then holds the reason, for whoever finds the connection
    closed without an answer.
    """

    def __init__(self, target: Target, command: str, *, start_timeout: float = 20.0) -> None:
        self.target = target
        self.why: Failure | str | None = None
        self._command = command
        self._start_timeout = start_timeout
        self._server, self.path = call(self._listen())

    async def _listen(self) -> tuple[asyncio.Server, Path]:
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._running: set[asyncio.Task[None]] = set()
        handle, name = tempfile.mkstemp(dir=_socket_folder(), suffix=".sock")
        os.close(handle)
        path = Path(name)
        path.unlink()  # noqa: ASYNC240 - a local name, nothing to wait for
        return await asyncio.start_unix_server(self._accept, path), path

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        place = pool.slot(self.target)
        try:
            async with self._streams, place.sessions:
                process = await place.start(self._command, self._start_timeout)
                try:
                    await self._carry(process, reader, writer)
                finally:
                    process.close()
        except Failure as error:
            self.why = error
        except (OSError, asyncssh.Error) as error:
            self.why = str(error) or type(error).__name__
        finally:
            writer.close()

    async def _carry(self, process: pool.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def up() -> None:
            while data := await reader.read(65536):
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.write_eof()

        async def down() -> int:
            count = 0
            while data := await process.stdout.read(65536):
                count += len(data)
                writer.write(data)
                await writer.drain()
            return count

        sending = asyncio.create_task(up())
        try:
            answered = await down()
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncssh.Error):
                await sending
        if answered:
            self.why = None
        else:
            said = (await process.stderr.read(2000)).decode(errors="replace").strip()
            self.why = said or "the connection was closed without an answer"


def _socket_folder() -> Path:
    """A private folder of this process for its sockets; removed at exit, and after a kill by the next process."""
    global _folder
    if _folder is None:
        base = Path(tempfile.gettempdir())
        for left in base.glob(f"{_PREFIX}{os.getuid()}-*"):
            owner = left.name.split("-")[3]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists() and left.stat().st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)
        _folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-{os.getpid()}-"))
        atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    return _folder
