"""Ctrl-C and SIGTERM as a request: stop at the next safe point.

Covered: the first signal sets an event, every signal calls back with its number so far. Not
covered: SIGKILL, which needs no handling: every log is append-only.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
