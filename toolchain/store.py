"""Where downloaded and built tools are kept: one directory per content, complete or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxmox_swarm.toolchain.errors import ToolchainError

Report = Callable[[str], None]

LOCK_DEADLINE = 3600.0
"""Seconds to wait for another run that prepares the same tools; a build takes minutes."""

_UNFINISHED = ".unfinished-"


def root() -> Path:
    """Return the directory of all entries, by the XDG base directory rules. It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "proxmox-swarm" / "toolchain"


def entry(name: str) -> Path | None:
    """Return the directory of a finished entry, or None."""
    path = root() / name
    return path if path.is_dir() else None


def add(name: str, fill: Callable[[Path], None]) -> Path:
    """Make an entry with ``fill``, which gets an empty directory to put files into.

    The directory gets its final name only after ``fill`` returned, so a kill leaves no half-made entry.
    Call it inside ``locked``. Whatever ``fill`` raises is passed on.
    """
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=root()) as scratch:
        made = Path(scratch) / "entry"
        made.mkdir()
        fill(made)
        final = root() / name
        made.rename(final)
    return final


@contextmanager
def locked(report: Report) -> Iterator[None]:
    """Hold the only right to add entries; wait while another run has it, saying so through ``report``.

    The lock is the kernel's, so it goes with its owner. Raises ToolchainError after ``LOCK_DEADLINE`` seconds.
    """
    root().mkdir(parents=True, exist_ok=True, mode=0o700)
    with (root() / "lock").open("a", encoding="ascii") as handle:
        _acquire(handle.fileno(), report)
        # Nobody else is at work now, so what is unfinished was left by a killed run.
        for leftover in root().glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _acquire(descriptor: int, report: Report) -> None:
    started = time.monotonic()
    next_line = 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - started
            if waited > LOCK_DEADLINE:
                raise ToolchainError(
                    f"another run has been preparing the tools for more than {LOCK_DEADLINE:.0f} s: "
                    f"end it (`fuser {root() / 'lock'}` names it) and run this again"
                ) from None
            if waited >= next_line:
                report(f"waiting for another run that is preparing the tools ({waited:.0f} s)")
                next_line = waited + 10
            time.sleep(0.2)
        else:
            return
