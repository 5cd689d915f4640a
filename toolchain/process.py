"""Runs one program with a deadline and ends it with everything it started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proxmox_swarm.toolchain.errors import SourceFailed


def run(
    command: Sequence[str | Path],
    *,
    deadline: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_error_line: Callable[[str], bool] = lambda line: False,
    tick: Callable[[float], None] = lambda elapsed: None,
    every: float = 5.0,
) -> str:
    """Run ``command`` and return its standard output.

    ``env`` is added to the environment. ``on_error_line`` sees each line of standard error as it comes and returns
    True for a line that is only progress, which is then kept out of errors. ``tick`` is called every ``every``
    seconds with the seconds since the start. Raises SourceFailed when the program is not there, fails, or runs
    longer than ``deadline`` seconds.
    """
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A group of its own, so that compilers and the like can be ended together with it.
            start_new_session=True,
        )
    except OSError as error:
        raise SourceFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    output: list[str] = []
    last_lines: deque[str] = deque(maxlen=12)
    readers = [
        threading.Thread(target=_collect, args=(process.stdout, output.append), daemon=True),
        threading.Thread(
            target=_collect,
            args=(process.stderr, lambda line: None if on_error_line(line.rstrip()) else last_lines.append(line)),
            daemon=True,
        ),
    ]
    for reader in readers:
        reader.start()
    started = time.monotonic()
    try:
        while True:
            elapsed = time.monotonic() - started
            if elapsed > deadline:
                raise SourceFailed(f"{name} did not finish within {deadline:.0f} s and was ended")
            try:
                process.wait(timeout=min(every, max(0.05, deadline - elapsed)))
                break
            except subprocess.TimeoutExpired:
                tick(time.monotonic() - started)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for reader in readers:
        reader.join(timeout=5)
    if process.returncode != 0:
        said = "".join(last_lines).strip().replace("\n", "\n    ") or "no message"
        raise SourceFailed(f"{name} ended with status {process.returncode}: {said}")
    return "".join(output)


def _collect(stream: object, take: Callable[[str], object]) -> None:
    for line in stream:  # type: ignore[attr-defined]
        take(line)
