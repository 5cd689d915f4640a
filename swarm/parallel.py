"""Ask several hosts at once, in threads that never keep the process from ending."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def _outcome(ask: Callable[[T], R], item: T) -> Future[R]:
    result: Future[R] = Future()
    try:
        result.set_result(ask(item))
    except BaseException as error:  # noqa: BLE001 - a thread that ends without an answer would be waited for forever
        result.set_exception(error)
    return result


def as_answered(ask: Callable[[T], R], items: Sequence[T], *, head_start: float = 0.0) -> Iterator[tuple[T, R]]:
    """Pairs of item and answer in the order in which answers come. ``ask`` must come to an end; what it raises is raised.

    With a ``head_start`` the first item is asked alone for so many seconds, which saves asking the others where it is
    likely to do.
    """
    answers: queue.SimpleQueue[tuple[T, Future[R]]] = queue.SimpleQueue()

    def answer(item: T) -> None:
        answers.put((item, _outcome(ask, item)))

    waiting = list(items)
    missing = 0
    while waiting or missing:
        batch = waiting[:1] if head_start and len(waiting) == len(items) else waiting
        waiting = waiting[len(batch) :]
        for item in batch:
            threading.Thread(target=answer, args=(item,), daemon=True).start()
        missing += len(batch)
        try:
            item, result = answers.get(timeout=head_start if waiting else None)
        except queue.Empty:
            continue
        missing -= 1
        yield item, result.result()


def answers_within(ask: Callable[[T], R], items: Sequence[T], seconds: float) -> list[R | None]:
    """The answers, in the order of the items; None for those that had not come after so many seconds in all.

    What ``ask`` raises is raised.
    """
    answers: queue.SimpleQueue[tuple[int, Future[R]]] = queue.SimpleQueue()

    def answer(index: int, item: T) -> None:
        answers.put((index, _outcome(ask, item)))

    for index, item in enumerate(items):
        threading.Thread(target=answer, args=(index, item), daemon=True).start()
    found: list[R | None] = [None] * len(items)
    end = time.monotonic() + seconds
    for _ in items:
        try:
            index, result = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        found[index] = result.result()
    return found


def all_answers(ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The answers, in the order of the items."""
    found = {id(item): answer for item, answer in as_answered(ask, items)}
    return [found[id(item)] for item in items]
