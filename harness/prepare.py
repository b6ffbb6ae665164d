"""Making ready what methods need on this machine, before any run starts.

Covered: every method once, side by side; a method that cannot be made ready does not stop the
others: its runs are paused with the reason, and the next `harness resume` tries again. Not covered:
how (each method's `needs`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.interrupt import interruptible, results
from harness.method import METHODS, Method, load_method


def prepare_methods(
    methods: Iterable[Method], say: Callable[[str], None], stop: threading.Event
) -> dict[str, str]:
    """Prepare each method, side by side; the reasons of those that could not be, by the method's
    name.

    say: shows a line of progress, from any thread. stop: gives up, and begins none.
    """
    distinct = list({method.name: method for method in methods}.values())
    with ThreadPoolExecutor(max(1, len(distinct))) as pool:
        reasons = results([pool.submit(_prepare, method, say, stop) for method in distinct])
    named = zip(distinct, reasons, strict=True)
    return {method.name: reason for method, reason in named if reason is not None}


def _prepare(method: Method, say: Callable[[str], None], stop: threading.Event) -> str | None:
    """The reason if it could not be prepared."""
    if method.needs is None or stop.is_set():
        return None
    try:
        method.needs.make(say, stop)
    except EnvironmentMissing as error:
        say(f"{method.title} cannot run here: {error}")
        return str(error)
    return None


def prepare_named(
    names: Iterable[str], say: Callable[[str], None], wheels: Path | None = None
) -> bool:
    """Prepare the named methods, or all that this package has; whether every one is ready. Raises
    UsageError or UnknownName, and KeyboardInterrupt once every one has stopped on a signal.

    wheels: a folder of carried wheels, instead of the package index, for this process and those it
    starts.
    """
    if wheels is not None:
        os.environ["HARNESS_WHEELS"] = str(wheels.resolve())
    wanted = list(names) or sorted(METHODS)
    methods = [load_method(name) for name in wanted]
    stop = threading.Event()
    with interruptible(stop, lambda _signals: say("Stopping ...")):
        unprepared = prepare_methods(methods, say, stop)
    if stop.is_set():
        raise KeyboardInterrupt
    return not unprepared
