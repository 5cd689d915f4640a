"""The engine of a manager, and of another one where that one goes away in the middle of an operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxmox_swarm.swarm.engine import EngineApi
from proxmox_swarm.swarm.errors import EngineError, HostError, NoManager
from proxmox_swarm.swarm.retry import Retry, classify

#: What an engine answers that has stopped being a manager, or waits for its unlock key (moby daemon/cluster/errors.go).
_TURNED_AWAY = ("not a swarm manager", "not part of a swarm", "needs to be unlocked")


class Relay:
    """Answers as an :class:`EngineApi` does. A call that the manager does not live through raises NoManager.

    The next call then goes to what ``another`` finds. Nothing is sent twice from here: whether a write was applied is for
    the caller to read, which :func:`~proxmox_swarm.swarm.retry.persist` makes it do.
    """

    def __init__(self, engine: EngineApi, another: Callable[[], EngineApi]) -> None:
        self._engine: EngineApi | None = engine
        self._another = another
        self._where = engine.where

    @property
    def where(self) -> str:
        """Node and address of the manager that was asked last."""
        return self._where

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **options: Any) -> Any:
            return self._ask(name, *args, **options)

        return ask

    def _ask(self, name: str, *args: Any, **options: Any) -> Any:
        if self._engine is None:
            self._engine = self._another()
            self._where = self._engine.where
        try:
            return getattr(self._engine, name)(*args, **options)
        except HostError as error:
            self._engine = None
            raise NoManager(error.what, where=error.where, came_back=error.came_back, do_now=error.do_now) from error
        except EngineError as error:
            # A manager without a leader may be the one that is cut off from the others.
            if classify(error) is Retry.LEADERLESS:
                self._engine = None
            elif error.status == 503 and any(text in error.message for text in _TURNED_AWAY):
                self._engine = None
                raise NoManager(error.what, where=error.where, came_back=error.came_back) from error
            raise
