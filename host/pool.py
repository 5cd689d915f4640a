"""The open SSH connections of this process, one per host, living on the background loop (nothing here blocks)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import asyncssh

from proxmox_swarm.host.credentials import Jump, jump_host, known_hosts, login_options
from proxmox_swarm.host.errors import AuthenticationFailed, CommandTimeout, HostKeyMismatch, Unreachable
from proxmox_swarm.host.loop import call
from proxmox_swarm.host.target import Target

#: sshd's default MaxSessions is 10 per connection; one is left free.
MAX_SESSIONS = 9
#: A peer that vanished without a word is noticed within three times this many seconds.
KEEPALIVE = 5
#: Opening a channel on a healthy connection takes milliseconds; longer means that the peer is gone.
CHANNEL_TIMEOUT = 10.0

#: The kernel of a host that runs answers a connection within its first two repetitions, however busy the host is.
DIAL_TIMEOUT = 6.0

Process = asyncssh.SSHClientProcess[bytes]
Key = tuple[Target, Jump | None]


class Slot:
    """One host's connection: opened by whoever comes first, replaced when it is found broken."""

    def __init__(self, target: Target, jump: Jump | None) -> None:
        self.target = target
        self.jump = jump
        self.sessions = asyncio.Semaphore(MAX_SESSIONS)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._opening: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._patience = 0.0

    async def get(self, timeout: float, tcp_timeout: float | None = None) -> tuple[asyncssh.SSHClientConnection, bool]:
        """The connection, and whether it was open before.

        Those who ask while somebody is trying share that try and its end: else each of them would wait in turn for a
        host that is off. Only one with more patience than the one who tried tries again.
        """
        patience = tcp_timeout or min(timeout, DIAL_TIMEOUT)
        while True:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection, True
            if self._opening is None:
                self._patience = patience
                self._opening = asyncio.create_task(self._open(timeout, patience))
                # Nobody may be left to hear of its failure.
                self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            shared = self._patience
            try:
                return await asyncio.shield(self._opening), False
            except Unreachable:
                if shared >= patience:
                    raise

    async def _open(self, timeout: float, patience: float) -> asyncssh.SSHClientConnection:
        try:
            self._connection = await _open(self.target, self.jump, timeout, patience)
            return self._connection
        finally:
            self._opening = None

    def drop(self, connection: asyncssh.SSHClientConnection) -> None:
        """Forget a connection that turned out to be broken."""
        if self._connection is connection:
            self._connection = None
        connection.abort()

    async def start(self, command: str, timeout: float) -> Process:
        """Start a command. A kept connection that turns out to be dead is replaced once, before anything has run."""
        async with _limit(timeout, self.target, "connecting by SSH"):
            while True:
                connection, reused = await self.get(timeout)
                try:
                    async with asyncio.timeout(CHANNEL_TIMEOUT):
                        return await connection.create_process(command, encoding=None)
                except (OSError, asyncssh.Error, TimeoutError) as error:
                    self.drop(connection)
                    if not reused:
                        raise _lost(self.target, error) from error


_slots: dict[Key, Slot] = {}
_jumps: dict[Jump, asyncssh.SSHClientConnection] = {}
_jumping = asyncio.Lock()


def slot(target: Target) -> Slot:
    """The slot of a host (by way of the jump host of the environment). Only to be called on the background loop."""
    key = (target, jump_host())
    return _slots.setdefault(key, Slot(*key))


async def ensure(target: Target, timeout: float, tcp_timeout: float | None = None) -> None:
    """Have an open connection to the host within ``timeout`` seconds."""
    async with _limit(timeout, target, "connecting by SSH"):
        await slot(target).get(timeout, tcp_timeout)


async def run(target: Target, command: str, data: bytes, timeout: float) -> tuple[int, bytes, bytes]:
    """Run a command and feed it ``data``: exit code (-1 when a signal ended it), stdout, stderr."""
    place = slot(target)
    async with _limit(timeout, target, f"waiting {timeout:.0f} s for `{command[:60]}`"), place.sessions:
        process = await place.start(command, timeout)
        try:
            # A command that has ended already does not read; whether it succeeded is told by its code.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(data)
                process.stdin.write_eof()
            stdout, stderr = await process.communicate()
        except (OSError, asyncssh.Error) as error:
            raise _lost(target, error) from error
        finally:
            process.close()
        if process.returncode is None:
            raise _lost(target, ConnectionResetError("the connection broke while the command ran"))
        return process.returncode, stdout or b"", stderr or b""


class Running:
    """A command whose stdin stays open until it is told to end. Used from outside the loop."""

    def __init__(self, target: Target, command: str, data: bytes, timeout: float) -> None:
        self._target, self._command, self._data, self._timeout = target, command, data, timeout
        self._place: Slot | None = None
        self._process: Process | None = None

    def start(self) -> None:
        """Start the command and feed it its data."""
        call(self._start())

    async def _start(self) -> None:
        place = slot(self._target)
        async with _limit(self._timeout, self._target, "connecting by SSH"):
            await place.sessions.acquire()
        self._place = place
        self._process = await place.start(self._command, self._timeout)
        self._process.stdin.write(self._data)

    def end_input(self) -> None:
        """Close its stdin."""
        call(self._end_input())

    async def _end_input(self) -> None:
        if self._process is not None:
            self._process.stdin.write_eof()

    def finish(self) -> tuple[int, bytes, bytes]:
        """Wait for its end: exit code, stdout, stderr."""
        return call(self._finish())

    async def _finish(self) -> tuple[int, bytes, bytes]:
        assert self._process is not None, "finish() before start()"  # noqa: S101
        async with _limit(self._timeout, self._target, f"waiting {self._timeout:.0f} s for `{self._command[:60]}`"):
            stdout, stderr = await self._process.communicate()
        if self._process.returncode is None:
            raise _lost(self._target, ConnectionResetError("the connection broke while the command ran"))
        return self._process.returncode, stdout or b"", stderr or b""

    def close(self) -> None:
        """Give the session back; ends a command that is still running as soon as it reads or writes."""
        call(self._close())

    async def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        if self._place is not None:
            self._place.sessions.release()
            self._place = None


@contextlib.asynccontextmanager
async def _limit(timeout: float, target: Target, what: str) -> Any:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as error:
        if what.startswith("connecting"):
            raise Unreachable(
                what,
                where=str(target),
                came_back=f"no answer in {timeout:.0f} s",
                do_now="Check that the machine runs and that this network reaches it.",
            ) from error
        raise CommandTimeout(
            what, where=str(target), came_back="not finished", do_now="It may still run on the host; run again."
        ) from error


async def _open(target: Target, jump: Jump | None, timeout: float, tcp_timeout: float) -> asyncssh.SSHClientConnection:
    where = str(target)
    try:
        pinned = asyncssh.import_public_key(target.host_key)
    except asyncssh.KeyImportError as error:
        raise HostKeyMismatch(
            "reading the pinned host key", where=where, came_back=str(error), do_now="Give it as `ssh-ed25519 AAAA…`."
        ) from error
    options: dict[str, Any] = {
        "username": target.user,
        "known_hosts": ([pinned], [], []),
        "config": None,
        "preferred_auth": "publickey",
        "login_timeout": timeout,
        "connect_timeout": timeout,
        "keepalive_interval": KEEPALIVE,
        "keepalive_count_max": 2,
        "compression_algs": ["none"],
        **login_options(),
    }
    try:
        if jump is not None:
            options["tunnel"] = await _jump(jump, timeout)
        else:
            options["sock"] = await _dial(target, tcp_timeout)
        return await asyncssh.connect(target.address, target.port, **options)
    except asyncssh.HostKeyNotVerifiable as error:
        raise _mismatch(target) from error
    except asyncssh.KeyExchangeFailed as error:
        # A host without a key of the pinned kind is another machine too.
        if "host key" in str(error).lower():
            raise _mismatch(target) from error
        raise _lost(target, error) from error
    except asyncssh.PermissionDenied as error:
        raise AuthenticationFailed(
            f"logging in as {target.user}",
            where=where,
            came_back=str(error) or "permission denied",
            do_now="Check PROXMOX_SWARM_SSH_KEY or ssh-agent against the public keys in swarm:access.",
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise _lost(target, error) from error


async def _dial(target: Target, timeout: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM))[
        0
    ]
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        async with asyncio.timeout(timeout):
            await loop.sock_connect(sock, address)
    except TimeoutError:
        sock.close()
        raise ConnectionError(f"port {target.port} does not answer within {timeout:.0f} s") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _jump(jump: Jump, timeout: float) -> asyncssh.SSHClientConnection:
    # One connection for all hosts: sshd drops logins that come too many at a time (MaxStartups).
    async with _jumping:
        return await _open_jump(jump, timeout)


async def _open_jump(jump: Jump, timeout: float) -> asyncssh.SSHClientConnection:
    open_already = _jumps.get(jump)
    if open_already is not None and not open_already.is_closed():
        return open_already
    where = f"jump host {jump.user}@{jump.host}:{jump.port}"
    try:
        _jumps[jump] = await asyncssh.connect(
            jump.host,
            jump.port,
            username=jump.user,
            known_hosts=str(known_hosts()),
            config=None,
            login_timeout=timeout,
            connect_timeout=timeout,
            keepalive_interval=KEEPALIVE,
            **login_options(),
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyMismatch(
            "connecting by SSH",
            where=where,
            came_back=str(error),
            do_now=f"Put its host key into {known_hosts()} (ssh-keyscan, then compare it with the host's own).",
        ) from error
    except asyncssh.PermissionDenied as error:
        raise AuthenticationFailed(
            "logging in", where=where, came_back=str(error), do_now="Check the key against that host."
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise Unreachable(
            "connecting by SSH", where=where, came_back=str(error), do_now="Check PROXMOX_SWARM_SSH_JUMP."
        ) from error
    return _jumps[jump]


def _lost(target: Target, error: BaseException) -> Unreachable:
    # asyncio words connection errors by the socket call that failed; the system's own text is the plainer one.
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    return Unreachable(
        "connecting by SSH",
        where=str(target),
        came_back=reason,
        do_now="Check that the machine runs and that this network reaches it, then run again.",
    )


def _mismatch(target: Target) -> HostKeyMismatch:
    return HostKeyMismatch(
        "checking the host key",
        where=str(target),
        came_back=f"it is not the pinned {' '.join(target.host_key.split()[:2])}",
        do_now="Another machine has this address, or it was rebuilt by hand: nothing was sent to it. "
        "Compare the key on its console before you change settings.",
    )
