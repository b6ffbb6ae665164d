"""The machine lock: nothing else computes while a block is timed.

On a CPU suite the machine is the device. Whoever computes (a build, a method's step, the simulated
model, a report) holds the lock shared (`busy`); a timed block holds it exclusively (`quiet`).
Waiting for a live model is not computing: `released` gives the shared lock up around such a wait.

Covered: all threads and processes of this machine that go through this module, also those of
another comparison (two advisory file locks: a turnstile, so that a waiting `quiet` is not starved
by a stream of `busy`, and the room itself); `wanted`, by which a long shared hold (the programs of
foreign methods, harness/foreign/giving_way.py) sees that it should be given up. Not covered:
programs that do not ask. Steal time and the width of the intervals show those.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import EnvironmentMissing

_held = threading.local()  # depth: nested shared holds of this thread; room: its open file


def open_lock(name: str) -> int:
    """The descriptor of a lock file that every user of this machine can take. Raises
    EnvironmentMissing."""
    path = Path(tempfile.gettempdir()) / f"kernel-search-harness-{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot open the machine lock {path}: {error.strerror}. "
            "Set TMPDIR to a folder that every user of this machine's harness can write."
        ) from error
    if os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, 0o666)  # whatever the umask: other users must be able to take it too
    return descriptor


def _acquire(mode: int) -> int:
    """Take the room in `mode` behind the turnstile; the open descriptor holds it."""
    turnstile, room = open_lock("turnstile"), open_lock("room")
    with ExitStack() as undo, ExitStack() as passed:
        undo.callback(os.close, room)
        passed.callback(os.close, turnstile)
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(room, mode)
        undo.pop_all()
    return room


@contextmanager
def busy() -> Iterator[None]:
    """Hold the machine shared while computing. Nests within a thread."""
    depth = getattr(_held, "depth", 0)
    if depth == 0:
        _held.room = _acquire(fcntl.LOCK_SH)
    _held.depth = depth + 1
    try:
        yield
    finally:
        _held.depth -= 1
        if _held.depth == 0:
            os.close(_held.room)


@contextmanager
def released() -> Iterator[None]:
    """Give up this thread's shared hold around a wait (a live model, a queue), and take it
    again."""
    depth = getattr(_held, "depth", 0)
    if depth:
        os.close(_held.room)
        _held.depth = 0
    try:
        yield
    finally:
        if depth:
            _held.room = _acquire(fcntl.LOCK_SH)
            _held.depth = depth


def wanted() -> bool:
    """Whether somebody stands in the turnstile: a `quiet` that waits, or one that just enters."""
    turnstile = open_lock("turnstile")
    try:
        fcntl.flock(turnstile, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(turnstile)
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Hold the machine alone while a block is timed. The calling thread must not hold it shared."""
    if getattr(_held, "depth", 0):
        raise RuntimeError("quiet() inside busy() would wait for itself")
    room = _acquire(fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(room)
