"""Run one of :mod:`proxmox_swarm.host.remote`'s programs on a host: one round trip, arguments and result as JSON."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from types import TracebackType
from typing import TYPE_CHECKING, Any

from proxmox_swarm.host import pool
from proxmox_swarm.host.errors import CommandFailed

if TYPE_CHECKING:
    from proxmox_swarm.host.connection import Connection

#: Reads program and arguments from stdin, so that neither shows up in the host's process list. ``-I -S`` keeps the
#: start short and the host's own Python packages out of it.
ARGV = (
    "python3",
    "-I",
    "-S",
    "-c",
    "import sys,json;d=json.loads(sys.stdin.buffer.readline());exec(d.pop('program'),d)",
)


@cache
def program(name: str) -> str:
    """The source of a remote program, with the lines that call its ``main``."""
    source = resources.files("proxmox_swarm.host.remote").joinpath(f"{name}.py").read_text()
    return f"{source}\nimport json as _json\nprint(_json.dumps(main(args)), flush=True)\n"


def payload(name: str, args: dict[str, Any]) -> bytes:
    """What goes to the interpreter's stdin: one line of JSON."""
    return json.dumps({"program": program(name), "args": args, "__name__": name}).encode() + b"\n"


def run_script(
    connection: Connection, name: str, args: dict[str, Any], *, what: str, timeout: float, sudo: bool = True
) -> Any:
    """Run ``remote/<name>.py`` with ``args`` and return its result.

    ``what`` is the action in words, for the error. Raises CommandFailed when the program fails or the host has no
    python3, and what :meth:`Connection.run` raises.
    """
    result = connection.run(ARGV, input=payload(name, args), sudo=sudo, timeout=timeout)
    return _answer(connection, what, result.code, result.stdout, result.stderr)


def run_with_data(
    connection: Connection, name: str, args: dict[str, Any], data: bytes = b"", *, what: str, timeout: float
) -> tuple[Any, bytes]:
    """As :func:`run_script`, as root, for a program that reads ``data`` behind its arguments or writes some first.

    Returns the result and what was written before it, without the line end between them.
    """
    result = connection.run(ARGV, input=payload(name, args) + data, sudo=True, timeout=timeout)
    found = _answer(connection, what, result.code, result.stdout, result.stderr)
    return found, result.stdout.rstrip(b"\n").rpartition(b"\n")[0]


class RunningScript:
    """A remote program at work; see :func:`start_script`."""

    def __init__(self, connection: Connection, name: str, args: dict[str, Any], what: str, timeout: float) -> None:
        self._connection = connection
        self._what = what
        self._run = pool.Running(connection.target, connection.command(ARGV), payload(name, args), timeout)

    def __enter__(self) -> RunningScript:
        self._run.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.close()

    def end_input(self) -> None:
        """Tell the program to come to an end by closing its stdin."""
        self._run.end_input()

    def result(self) -> Any:
        """Wait for the end. Raises CommandFailed, CommandTimeout, Unreachable."""
        return _answer(self._connection, self._what, *self._run.finish())


def start_script(
    connection: Connection, name: str, args: dict[str, Any], *, what: str, timeout: float
) -> RunningScript:
    """Start ``remote/<name>.py`` as the login user and go on; to be used in a ``with`` block, which also ends it."""
    return RunningScript(connection, name, args, what, timeout)


def _answer(connection: Connection, what: str, code: int, stdout: bytes, stderr: bytes) -> Any:
    if code != 0:
        error = stderr.decode(errors="replace").strip()
        last = error.splitlines()[-1] if error else f"exit code {code}"
        hint = "Install python3 on the host." if code == 127 else ""
        raise CommandFailed(what, where=str(connection.target), came_back=f"{last}\n{error}", do_now=hint)
    return json.loads(stdout.rstrip(b"\n").rpartition(b"\n")[2])
