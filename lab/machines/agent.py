"""Speaks to the QEMU guest agent inside a machine: JSON lines over its unix socket.

Protocol: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html. Every conversation opens with
``guest-sync-delimited``, whose answer follows a 0xFF byte: it skips what an earlier client left unread.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("run/qemu-ga.sock")

# These answer nothing when they succeed (qemu-ga reference, "success-response: false").
SILENT = frozenset({"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"})

SILENT_WAIT = 0.5
ANSWER_LIMIT = 64 << 20  # bytes in one line: guest-file-read answers up to 48 MB


class AgentNotRunning(RuntimeError):
    """Nothing answers on the agent's socket: not started yet, stopped, or no such machine."""


class AgentError(RuntimeError):
    """The agent answered with an error; ``kind`` is its class (``CommandNotFound``, ``GenericError``)."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


async def ask(root: Path, command: str, arguments: Mapping[str, object] | None, timeout: float) -> object:
    """Sends one command (with or without the ``guest-`` prefix) to the agent below ``root``; returns its answer.

    ``timeout`` in seconds covers the whole conversation. Raises `AgentNotRunning` or `AgentError`.
    """
    name = command if command.startswith("guest-") else f"guest-{command}"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(str(root / SOCKET), limit=ANSWER_LIMIT)
            try:
                return await _converse(reader, writer, name, arguments)
            finally:
                writer.close()
    except TimeoutError as error:
        raise AgentNotRunning(f"QEMU guest agent did not answer {name} within {timeout:.0f} s") from error
    except (OSError, EOFError) as error:
        raise AgentNotRunning("QEMU guest agent is not running") from error


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, arguments: Mapping[str, object] | None
) -> object:
    token = secrets.randbelow(1 << 31)
    await _send(writer, "guest-sync-delimited", {"id": token})
    await reader.readuntil(b"\xff")
    while (await _answer(reader)) != token:
        await reader.readuntil(b"\xff")
    await _send(writer, name, arguments)
    if name not in SILENT:
        return await _answer(reader)
    try:
        return await asyncio.wait_for(_answer(reader), SILENT_WAIT)
    except (TimeoutError, OSError, EOFError):
        return None


async def _send(writer: asyncio.StreamWriter, name: str, arguments: Mapping[str, object] | None) -> None:
    message: dict[str, object] = {"execute": name}
    if arguments:
        message["arguments"] = dict(arguments)
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> object:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("connection closed")
    answer = json.loads(line)
    if "error" in answer:
        raise AgentError(answer["error"].get("class", "GenericError"), answer["error"].get("desc", ""))
    return answer.get("return")
