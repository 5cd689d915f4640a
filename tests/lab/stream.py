"""What a program inside the lab writes, line by line, for as long as a test wants it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress


class Stream:
    """A process inside the lab that writes lines, started again whenever it ends: its machine may be gone for a while."""

    def __init__(self, start: Callable[[], subprocess.Popen[str]], take: Callable[[str], None], pause: float) -> None:
        self._start = start
        self._take = take
        self._pause = pause
        self._over = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                if self._over.is_set():
                    return
                self._process = self._start()
            with self._process as process:
                assert process.stdout is not None
                for line in process.stdout:
                    self._take(line)
            self._over.wait(self._pause)

    def stop(self) -> None:
        """End it, by its id."""
        with self._lock:
            self._over.set()
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
        self._thread.join(10)
