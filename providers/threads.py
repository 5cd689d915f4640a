"""More than four operations at once.

Pulumi's dynamic provider process answers with four threads (pulumi/dynamic/__main__.py, 3.259). Operations that wait, for a
machine to boot or a task to end, then hold up every other call, and with it the engine's one step generator: nothing at
all goes on until the first of them is done (measured: VMs waited 11 s for the boot of others).
"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

PULUMIS = 4
THREADS = 64

_lock = threading.Lock()
_done = False


def widen() -> None:
    """Let the provider process that we are in use up to 64 threads. Elsewhere, and with another Pulumi, this does nothing.

    Another way is more provider processes, each an explicit provider resource: state would hold which resource belongs to
    which, and every process costs its start.
    """
    global _done
    with _lock:
        if _done:
            return
        _done = True
        for pool in gc.get_objects():
            if type(pool) is ThreadPoolExecutor and pool._max_workers == PULUMIS:
                pool._max_workers = THREADS
