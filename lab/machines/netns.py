"""A network namespace held by a file descriptor: no file, no mount, gone with the process that holds it."""

import ctypes
import os
import threading
from pathlib import Path

CLONE_NEWNET = 0x40000000

# IPv6 addresses are usable at once: the lab's networks have no duplicates, and the wait is 1-2 s at each boot.
SETTINGS = {"net/ipv6/conf/default/accept_dad": "0", "net/ipv6/conf/all/accept_dad": "0"}


class NetworkNamespace:
    """A fresh, empty network namespace; ``path`` names it to programs while it is open."""

    def __init__(self) -> None:
        result: list[int | OSError] = []
        # unshare(2) moves one thread only: this one, which then ends
        thread = threading.Thread(target=_create, args=(result,))
        thread.start()
        thread.join()
        [outcome] = result
        if isinstance(outcome, OSError):
            raise outcome
        self._fd = outcome
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._fd}")

    def close(self) -> None:
        """Lets go; the namespace ends with its last process."""
        os.close(self._fd)


def _create(result: list[int | OSError]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "unshare(CLONE_NEWNET)")
        for name, value in SETTINGS.items():
            file = Path("/proc/sys") / name
            if file.exists():  # a kernel without IPv6
                file.write_text(value)
        result.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        result.append(error)
