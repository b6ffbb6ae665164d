"""Foreign programs give way to timed blocks: they are stopped while one is wanted or running.

A method's own step holds the machine shared, so that nothing is timed meanwhile. A foreign program
is a step that lasts for the whole run and mostly waits: held like that it would keep everybody from
timing. So one thread holds the machine shared for all programs of this process, looks every
POLL_SECONDS whether somebody wants it quiet, and then stops the programs' process groups
(SIGSTOP), gives the hold up, queues for it again, and lets them go on (SIGCONT).

Covered: process groups that are added and removed while others run; blocks timed by other
processes. Not covered: what a program starts outside its process group (it runs on); wall-clock
time-outs inside a program, which see the pause: give them hours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from harness.evaluate import machine

POLL_SECONDS = 0.003  # how long a timed block waits at most for the programs to notice it


class _Programs:
    """Every running program's process group."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._changed = threading.Condition()
        self._running = False
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

    def _keep(self) -> None:
        try:
            while True:
                with machine.busy():
                    if not self._let(running=True):
                        return
                    while self._groups and not machine.wanted():
                        time.sleep(POLL_SECONDS)
                    self._let(running=False)
        finally:  # without the lock's file nobody can be given way to: rather disturb than hang
            self._let(running=True)

    def _let(self, *, running: bool) -> bool:
        """Let all groups run, or stop them; False when there are none left, and the thread ends."""
        with self._changed:
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
