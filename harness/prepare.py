"""Making ready what methods need on this machine, before any run starts.

Covered: every method once; a method that cannot be made ready does not stop the others: its runs
are paused with the reason, and the next `harness resume` tries again. Not covered: how (each
method's `needs`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.method import METHODS, Method, load_method


def prepare_methods(
    methods: Iterable[Method], say: Callable[[str], None], stop: threading.Event
) -> dict[str, str]:
    """Prepare each method; the reasons of those that could not be, by the method's name.

    say: shows a line of progress. stop: gives up, and begins no other.
    """
    failed: dict[str, str] = {}
    for method in {method.name: method for method in methods}.values():
        if method.needs is None or stop.is_set():
            continue
        try:
            method.needs.make(say, stop)
        except EnvironmentMissing as error:
            say(f"{method.title} cannot run here: {error}")
            failed[method.name] = str(error)
    return failed


def prepare_named(
    names: Iterable[str], say: Callable[[str], None], wheels: Path | None = None
) -> bool:
    """Prepare the named methods, or all that this package has; whether every one is ready. Raises
    UsageError or UnknownName.

    wheels: a folder of carried wheels, instead of the package index, for this process and those it
    starts.
    """
    if wheels is not None:
        os.environ["HARNESS_WHEELS"] = str(wheels.resolve())
    wanted = list(names) or sorted(METHODS)
    methods = [load_method(name) for name in wanted]
    return not prepare_methods(methods, say, threading.Event())
