"""Modules of the domain, imported when they are first used.

The program that declares resources imports every provider, and a preview calls nothing of the domain: SSH and Docker
libraries alone would be a third of its time.
"""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """Stands for a module; any attribute imports it. Safe for threads, as the import system is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
