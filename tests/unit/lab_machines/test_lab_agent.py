"""The guest agent's protocol, against a socket that answers as qemu-ga does."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxmox_swarm.lab.machines import AgentError, AgentNotRunning
from proxmox_swarm.lab.machines.agent import SOCKET, ask

Reply = Callable[[dict[str, object]], bytes]


def with_agent(root: Path, reply: Reply, use: Callable[[], Awaitable[object]]) -> object:
    """What ``use`` returns while an agent at ``root`` answers each request with ``reply``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(reply(json.loads(line)))
            await writer.drain()
        writer.close()

    async def main() -> object:
        (root / SOCKET).parent.mkdir(parents=True)
        server = await asyncio.start_unix_server(serve, str(root / SOCKET))
        async with server:
            return await use()

    return asyncio.run(main())


def synced(request: dict[str, object], answer: object) -> bytes:
    if request["execute"] == "guest-sync-delimited":
        return b"\xff" + json.dumps({"return": request["arguments"]["id"]}).encode() + b"\n"
    return json.dumps(answer).encode() + b"\n"


def test_adds_the_prefix_and_returns_the_answer(tmp_path: Path) -> None:
    seen = []

    def reply(request: dict[str, object]) -> bytes:
        seen.append(request["execute"])
        return synced(request, {"return": {"id": "debian"}})

    assert with_agent(tmp_path, reply, lambda: ask(tmp_path, "get-osinfo", None, 1)) == {"id": "debian"}
    assert seen == ["guest-sync-delimited", "guest-get-osinfo"]


def test_arguments_are_sent(tmp_path: Path) -> None:
    def reply(request: dict[str, object]) -> bytes:
        return synced(request, {"return": request.get("arguments")})

    asked = {"path": "/etc/hostname"}
    assert with_agent(tmp_path, reply, lambda: ask(tmp_path, "guest-file-open", asked, 1)) == asked


def test_skips_what_an_earlier_client_left_unread(tmp_path: Path) -> None:
    def reply(request: dict[str, object]) -> bytes:
        stale = b'{"return": "old"}\n\xff{"return": 1}\n' if request["execute"] == "guest-sync-delimited" else b""
        return stale + synced(request, {"return": "new"})

    assert with_agent(tmp_path, reply, lambda: ask(tmp_path, "ping", None, 1)) == "new"


def test_an_error_of_the_agent_keeps_its_class(tmp_path: Path) -> None:
    def reply(request: dict[str, object]) -> bytes:
        return synced(request, {"error": {"class": "CommandNotFound", "desc": "no such command"}})

    with pytest.raises(AgentError, match="no such command") as caught:
        with_agent(tmp_path, reply, lambda: ask(tmp_path, "nonsense", None, 1))
    assert caught.value.kind == "CommandNotFound"


def test_a_shutdown_answers_nothing(tmp_path: Path) -> None:
    def reply(request: dict[str, object]) -> bytes:
        return synced(request, {}) if request["execute"] == "guest-sync-delimited" else b""

    assert with_agent(tmp_path, reply, lambda: ask(tmp_path, "shutdown", None, 2)) is None


def test_no_socket_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(AgentNotRunning, match="QEMU guest agent is not running"):
        asyncio.run(ask(tmp_path, "ping", None, 1))


def test_silence_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(AgentNotRunning, match="did not answer guest-ping"):
        with_agent(tmp_path, lambda request: b"", lambda: ask(tmp_path, "ping", None, 0.2))


def test_a_closed_connection_is_not_running(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / SOCKET).parent.mkdir(parents=True)
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(tmp_path / SOCKET))
        async with server:
            with pytest.raises(AgentNotRunning):
                await ask(tmp_path, "ping", None, 1)

    asyncio.run(main())
