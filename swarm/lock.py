"""One operation at a time on a cluster's managers, across the threads and processes of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxmox_swarm.host.deadline import SYSTEM_CLOCK, Clock, Deadline
from proxmox_swarm.swarm.errors import LockBusy

#: Whoever holds the lock has deadlines of its own, of which a drain is the longest; the kernel frees it after a crash.
PATIENCE = 3600.0

_held = threading.local()


def lock_folder() -> Path:
    """A private folder for lock files: in XDG_RUNTIME_DIR, else /run for root, else the temporary folder."""
    base = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.getuid() == 0 and os.access("/run", os.W_OK) else "")
    folder = Path(base or tempfile.gettempdir()) / f"proxmox-swarm-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or folder.is_symlink() or status.st_mode & 0o077:
        raise LockBusy(
            f"using {folder} for locks",
            came_back="it belongs to somebody else or is open to others",
            do_now="Remove it, or set XDG_RUNTIME_DIR.",
        )
    return folder


@contextmanager
def cluster_lock(name: str, purpose: str, clock: Clock = SYSTEM_CLOCK, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a cluster (``name``: its id, or what stands for it before it has one).

    Deadlines of what is done under it should be counted from inside: other nodes' turns may come first.

    The kernel gives it back when the process dies. A thread that holds it already may take it again. Raises LockBusy,
    which tells who holds it, when ``patience`` seconds have passed.
    """
    held: dict[str, int] = _held.__dict__.setdefault("names", {})
    if held.get(name):
        yield
        return
    path = lock_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
    # Each open file has a lock of its own, so that threads exclude each other as processes do.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = Deadline.after(patience, clock)
        if deadline.poll(lambda: _try(handle), 0.05) is None:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            raise LockBusy(
                purpose,
                came_back=f"another operation on this cluster has been at work for {patience:.0f} s: {holder}",
                do_now="Wait for it and run again.",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}: {purpose}".encode(), 0)
        held[name] = 1
        try:
            yield
        finally:
            del held[name]
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _try(handle: int) -> bool | None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True
