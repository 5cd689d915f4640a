"""A command inside the lab as a person meets it: on a terminal, where it may ask."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from typing import Self

from tests.lab.project import Project


class Terminal:
    """A command on a pseudo-terminal from ``with`` to its end, at which it is killed if it still runs."""

    def __init__(self, swarm: Project, *argv: str) -> None:
        self._end, theirs = pty.openpty()
        try:
            self._process = swarm.open(*argv, terminal=theirs)
        finally:
            os.close(theirs)
        self._seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._end)

    @property
    def said(self) -> str:
        """All that was seen so far: what it said, and what was typed."""
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    def shows(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        """The first match of a regular expression in what it says, once it is there."""
        limit = time.monotonic() + seconds
        while (found := re.search(pattern, self.said)) is None:
            assert self._read(limit), f"it never said {pattern}:\n{self.said}"
        return found

    def type(self, line: str) -> None:
        """What a person types, and Enter."""
        os.write(self._end, f"{line}\n".encode())

    def ends(self, seconds: float = 90) -> int:
        """Its exit status, once it has ended by itself."""
        limit = time.monotonic() + seconds
        while self._read(limit):
            pass
        return self._process.wait(max(1.0, limit - time.monotonic()))

    def _read(self, limit: float) -> bool:
        """Take what comes next; False when the command has ended, or the time is over."""
        ready, _, _ = select.select([self._end], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            return False
        try:
            more = os.read(self._end, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self._seen += more
        return bool(more)
