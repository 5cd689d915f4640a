"""The lab's own record: one JSON line for each request, each start and end of a task, each answer that breaks the schema.

Nothing secret goes in: no headers at all, and no value of a parameter that carries a secret.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SECRET = {"password", "cipassword", "token", "secret", "key", "content", "input-data", "tfa-challenge", "otp"}


class Record:
    """An append-only JSON lines file; without a path it only counts."""

    def __init__(self, path: Path | None = None) -> None:
        self._stream = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._stream = os.fdopen(descriptor, "a", buffering=1)
        self.counts: dict[str, int] = {"requests": 0, "rejected": 0, "unserved": 0, "schema_violations": 0, "tasks": 0}
        self.violations: list[str] = []

    def write(self, event: str, **fields: Any) -> None:
        """Add a line with the time in seconds since the epoch."""
        if self._stream:
            self._stream.write(json.dumps({"time": round(time.time(), 4), "event": event, **fields}) + "\n")

    def violation(self, operation: str, complaints: list[str]) -> None:
        """Note an answer that does not fit the official schema: a defect of the lab."""
        self.counts["schema_violations"] += 1
        self.violations.append(f"{operation}: {'; '.join(complaints[:3])}")
        self.write("violation", operation=operation, complaints=complaints)

    def close(self) -> None:
        """Close the file."""
        if self._stream:
            self._stream.close()


def without_secrets(path: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they may be written down. ``content`` is secret only where it is a file's text."""
    in_agent = "/agent/" in path
    return {k: "…" if k in _SECRET and (k != "content" or in_agent) else v for k, v in parameters.items()}
