"""The one kind of failure that commands end with."""

from __future__ import annotations


class CommandError(Exception):
    """A step failed. The first line says what and what to do; ``detail`` is what came back."""

    def __init__(self, text: str, detail: str = "") -> None:
        self.detail = detail.strip()
        super().__init__(text + (f":\n{self.detail}" if self.detail else ""))
