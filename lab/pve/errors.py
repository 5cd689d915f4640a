"""The one exception that handlers raise to answer with an error, in the shape Proxmox VE gives it."""

from __future__ import annotations

from collections.abc import Mapping


class PveError(Exception):
    """An answer that is not 200: ``status`` and ``message`` go into the status line, ``errors`` into the body.

    Proxmox VE puts the text of the error into the HTTP reason phrase and, with a line feed, into ``message``.
    """

    def __init__(self, message: str, status: int = 500, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.errors = dict(errors or {})


class TaskError(Exception):
    """A worker task that ends with this text as its exit status."""


def parameter_error(errors: Mapping[str, str]) -> PveError:
    """The answer to parameters that fail verification: 400, each parameter with its own text."""
    return PveError("Parameter verification failed.", 400, errors)
