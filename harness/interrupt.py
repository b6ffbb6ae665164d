"""Ctrl-C and SIGTERM as a request: stop at the next safe point.

Covered: the first signal sets an event, every signal calls back with its number so far; a wait in
which the main thread hears them. Not covered: SIGKILL, which needs no handling: every log is
append-only.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.25


@contextmanager
def interruptible(stop: threading.Event, on_signal: Callable[[int], None]) -> Iterator[None]:
    """Within it, signals set `stop`. Outside the main thread, where Python delivers no signals, it
    changes nothing. on_signal: called with 1 for the first signal, 2 for the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    times = 0

    def handle(_number: int, _frame: object) -> None:
        nonlocal times
        times += 1
        stop.set()
        on_signal(times)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def results(futures: Sequence[Future[T]], tick: Callable[[], None] = lambda: None) -> list[T]:
    """What they return, or raise, once all are done. It waits in steps: CPython can miss that a
    signal came just before a wait began, and hears of it after the wait. tick: called after each
    step."""
    left = set(futures)
    while left:
        left = wait(left, timeout=POLL_SECONDS).not_done
        tick()
    return [future.result() for future in futures]
