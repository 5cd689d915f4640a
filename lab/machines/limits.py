"""Kernel limits that about ten machines exhaust: raised while any lab runs, put back after the last one.

Every lab holds a shared lock on one file of this boot, in which the first one wrote the old values. Whoever gets the
lock for itself alone is the last one, and restores. A lab that was killed holds no lock, so the next one (or `clean`)
restores for it.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

STATE = Path("/run/proxmox-swarm-limits.json")
SYSCTL = Path("/proc/sys")

# Each machine has about 25 inotify instances and 15 kernel keyrings; the defaults are 128 and 200 for all of root's.
WANTED = {
    "fs/inotify/max_user_instances": 8192,
    "fs/inotify/max_user_watches": 1048576,
    "kernel/keys/maxkeys": 20000,
    "kernel/keys/maxbytes": 2000000,
}


class Limits:
    """Raised limits, held until `restore`."""

    def __init__(self, state: Path = STATE, sysctl: Path = SYSCTL) -> None:
        self._state, self._sysctl = state, sysctl
        self._lock: IO[str] | None = None

    def raise_(self) -> None:
        """Raises what is lower than wanted and remembers it. Harmless when done already."""
        while not self._lock:
            file = _open(self._state)
            try:
                if self._first(file) or _current(file, self._state):
                    self._lock = file
            finally:
                if self._lock is not file:
                    file.close()

    def restore(self) -> None:
        """Lets go; puts the old values back when no other lab holds the limits."""
        if self._lock:
            self._lock.close()
            self._lock = None
        restore(self._state, self._sysctl)

    def _first(self, file: IO[str]) -> bool:
        """Takes the shared lock, after raising when nobody else has it; True when that was done and still counts."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_SH)  # a writer needs moments
            return False
        text = file.read()
        saved: dict[str, int] = json.loads(text) if text else {}  # of a lab that was killed: the true old values
        for name, wanted in WANTED.items():
            current = int((self._sysctl / name).read_text())
            if current < wanted:
                saved.setdefault(name, current)
        file.seek(0)
        file.truncate()
        json.dump(saved, file)
        file.flush()
        for name in saved:
            (self._sysctl / name).write_text(f"{WANTED[name]}\n")
        fcntl.flock(file, fcntl.LOCK_SH)  # not atomic: a `restore` may have come between
        return _current(file, self._state)


def restore(state: Path = STATE, sysctl: Path = SYSCTL) -> None:
    """Puts back what a lab raised, unless one still runs."""
    if not state.exists():
        return
    with _open(state) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        text = file.read()
        for name, value in (json.loads(text) if text else {}).items():
            (sysctl / name).write_text(f"{value}\n")
        state.unlink(missing_ok=True)


def _open(state: Path) -> IO[str]:
    return os.fdopen(os.open(state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")


def _current(file: IO[str], state: Path) -> bool:
    """Is this locked file the one others see, and filled? Not when it was unlinked, or its writer was killed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), state.stat()) and os.fstat(file.fileno()).st_size > 0
    except FileNotFoundError:
        return False
