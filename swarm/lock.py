"""One operation at a time on a cluster's managers, across the threads and processes of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
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
    """A private folder for lock files: in PROXMOX_SWARM_LOCKS, else /run for root, else /tmp.

    Not where a login session has its files (XDG_RUNTIME_DIR, TMPDIR): a job of cron or of CI has to meet the same locks.
    """
    shared = "/run" if os.getuid() == 0 and os.access("/run", os.W_OK) else "/tmp"  # noqa: S108 - its owner is checked
    folder = Path(os.environ.get("PROXMOX_SWARM_LOCKS") or shared) / f"proxmox-swarm-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or folder.is_symlink() or status.st_mode & 0o077:
        raise LockBusy(
            f"using {folder} for locks",
            came_back="it belongs to somebody else or is open to others",
            do_now="Remove it, or set PROXMOX_SWARM_LOCKS to a folder of yours.",
        )
    return folder


@contextmanager
def cluster_lock(
    name: str, purpose: str, clock: Clock = SYSTEM_CLOCK, patience: float = PATIENCE, *, shared: bool = False
) -> Iterator[None]:
    """Hold the lock of a cluster (``name``: its id, or what stands for it before it has one).

    Deadlines of what is done under it should be counted from inside: other nodes' turns may come first.

    ``shared`` holders exclude only those who want it alone. The kernel gives it back when the process dies. A thread that
    holds it already may take it again, one that shares it not for itself alone. Raises LockBusy,
    which tells who holds it, when ``patience`` seconds have passed.
    """
    held: dict[str, bool] = _held.__dict__.setdefault("names", {})
    if name in held:
        if held[name] and not shared:
            raise RuntimeError(f"{purpose}: the lock is shared by this thread already")
        yield
        return
    path = lock_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
    # Each open file has a lock of its own, so that threads exclude each other as processes do.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = Deadline.after(patience, clock)
        if deadline.poll(lambda: _try(handle, shared=shared), 0.05) is None:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "several processes, on workers"
            raise LockBusy(
                purpose,
                came_back=f"another operation on this cluster has been at work for {patience:.0f} s: {holder}",
                do_now="Wait for it and run again.",
            )
        if not shared:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}: {purpose}".encode(), 0)
        held[name] = shared
        try:
            yield
        finally:
            del held[name]
            if not shared:
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _try(handle: int, *, shared: bool) -> bool | None:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True
