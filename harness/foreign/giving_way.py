"""Foreign programs give way to timed blocks: they are stopped while one is wanted or running.

A method's own step holds the machine shared, so that nothing is timed meanwhile. A foreign program
is a step that lasts for the whole run and mostly waits: held like that it would keep everybody from
timing. So one thread holds the machine shared for all programs of this process, looks every
POLL_SECONDS whether somebody wants it quiet, and then stops the programs' process groups
(SIGSTOP), gives the hold up, queues for it again, and lets them go on (SIGCONT).

Where blocks follow each other without a pause, the programs still run for SHARE of the time that
they were stopped, at most LONGEST_TURN_SECONDS at once: they must not starve.

Covered: process groups that are added and removed while others run; blocks timed by other
processes; a machine lock that cannot be had for a while (the programs then run). Not covered: what
a program starts outside its process group (it runs on); wall-clock time-outs inside a program,
which see the pause: give them hours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from harness.errors import EnvironmentMissing
from harness.evaluate import machine

POLL_SECONDS = 0.003  # how long a timed block waits for the programs to notice it
SHARE = 0.1  # of the time they were stopped: what the programs get before they are stopped again
LONGEST_TURN_SECONDS = 0.05  # so that a block never waits longer for its turn

_RETRY_SECONDS = 0.1


class _Programs:
    """Every running program's process group."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._changed = threading.Condition()
        self._running = False
        self._stopped_at: float | None = None
        self._stopped_seconds = 0.0
        self._thread: threading.Thread | None = None

    def add(self, group: int) -> None:
        """From now on the group gives way. It may run at once only if the others do."""
        with self._changed:
            self._groups.add(group)
            if not self._running:
                _signal(group, signal.SIGSTOP)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="giving-way", daemon=True)
                self._thread.start()

    def remove(self, group: int) -> None:
        """Forget the group, running."""
        with self._changed:
            self._groups.discard(group)
            _signal(group, signal.SIGCONT)

    def stopped_seconds(self) -> float:
        """How long the programs have been stopped in all, by the monotonic clock."""
        with self._changed:
            now = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
            return self._stopped_seconds + now

    def _keep(self) -> None:
        while True:
            try:
                with machine.busy():
                    if not self._turn():
                        return
            except (OSError, EnvironmentMissing):
                # No descriptor left, or no lock file: nobody can be given way to for now.
                if not self._let(running=True):
                    return
                time.sleep(_RETRY_SECONDS)
                self._let(running=False)  # somebody may be timing while this waits for its turn

    def _turn(self) -> bool:
        """Let the programs run until the machine is wanted. False when there are none left."""
        turn_seconds = 0.0
        if self._stopped_at is not None:
            waited = time.monotonic() - self._stopped_at
            turn_seconds = min(LONGEST_TURN_SECONDS, SHARE * waited)
        if not self._let(running=True):
            return False
        end = time.monotonic() + turn_seconds
        while self._groups and (time.monotonic() < end or not machine.wanted()):
            time.sleep(POLL_SECONDS)
        self._let(running=False)
        return True

    def _let(self, *, running: bool) -> bool:
        """Let all groups run, or stop them; False when there are none left, and the thread ends."""
        with self._changed:
            if running and self._stopped_at is not None:
                self._stopped_seconds += time.monotonic() - self._stopped_at
            self._stopped_at = None if running else self._stopped_at or time.monotonic()
            self._running = running
            if running and not self._groups:
                self._running, self._thread = False, None
                return False
            for group in self._groups:
                _signal(group, signal.SIGCONT if running else signal.SIGSTOP)
            return True


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


PROGRAMS = _Programs()
"""The programs of this process: one, since there is one machine."""
