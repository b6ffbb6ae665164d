"""Takes chance out of ShinkaEvolve from outside, so that a serial run can be replayed.

The package has no option for a seed. It draws from four places, and each gets a source that the
run's seed fixes:

    `random` in its modules      a generator of its own: the process-wide one is also drawn from by
                                 libraries, by how often depends on their versions
    `numpy.random` in them       a stand-in for numpy with a generator of its own
    RANDOM() in its SQL          an SQL function of that name on every connection
    uuid.uuid4                   from a generator

and finished jobs are told apart by the text of their process id, which the system gives out again:
they get a number instead. The number of cores, which the package takes as a limit on jobs although
nothing is evaluated here, is said to be 64. Its clients wait for an answer for as long as it takes:
one that gave up and asked again would be a second call, paid and logged.

Not covered: what is done at once. Concurrent jobs and summaries end in an order that is not pinned.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import sys
import uuid
from typing import Any

import numpy as np
import shinka.core
import shinka.database
import shinka.embed.client
import shinka.launch.local
import shinka.llm.client
import shinka.prompts

NEVER_SECONDS = 10**6


class _Draws:
    """numpy.random with one seeded generator behind it."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)
        self._seeds = random.Random(seed)

    def default_rng(self, seed: int | None = None) -> np.random.Generator:
        return np.random.default_rng(self._seeds.getrandbits(64) if seed is None else seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name, None) or getattr(np.random, name)


class _Numpy:
    """numpy, but for its random numbers."""

    def __init__(self, draws: _Draws) -> None:
        self.random = draws

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def pin(seed: int) -> None:
    """Pin every source named above. Call it after everything is imported."""
    draws = random.Random(f"{seed} draws")
    numbers = _Numpy(_Draws(random.Random(f"{seed} numpy").getrandbits(32)))
    for name, module in list(sys.modules.items()):
        if name == "shinka" or name.startswith("shinka."):
            if getattr(module, "random", None) is random:
                module.random = draws  # type: ignore[attr-defined]
            if getattr(module, "np", None) is np:
                module.np = numbers  # type: ignore[attr-defined]
    rows = random.Random(f"{seed} rows")
    connect = sqlite3.connect

    def connect_pinned(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)
        connection.create_function("random", 0, lambda: rows.getrandbits(64) - (1 << 63))
        return connection

    sqlite3.connect = connect_pinned  # type: ignore[assignment]
    identities = random.Random(f"{seed} identities")
    uuid.uuid4 = lambda: uuid.UUID(int=identities.getrandbits(128), version=4)
    os.cpu_count = lambda: 64
    for module in (shinka.llm.client, shinka.embed.client):
        module.TIMEOUT = NEVER_SECONDS
    _number_jobs()


def _number_jobs() -> None:
    """A finished job is recognised by str(job): a number that never comes again."""
    jobs = shinka.launch.local.ProcessWithLogging
    numbers = itertools.count(1)
    begin = jobs.__init__

    def begin_numbered(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self.number = next(numbers)

    jobs.__init__ = begin_numbered
    jobs.__str__ = lambda self: f"job {self.number}"
