"""The gate in front of a call on a GPU: its inputs exist only once it is queued.

For each call, in this order:

1. the worker puts on its default stream: wait for a word in memory, an empty kernel, an event, what
   the program launches, an event; and says that it is queued;
2. the judge, in its own context: an event, copy the inputs into the slot (one copy for each slot),
   overwrite twice the L2 cache, an event, write the word;
3. the worker says that its context is idle; the judge puts another event on its stream.

Between the judge's last two events lie the whole call, two changes of context (0.32 ms for a short
call to 0.59 ms for one of 40 ms or more, the same for every program) and nothing that the program
can choose: neither its host time, nor its word. The device runs one context at a time, so whatever
the worker still computes when it says that it is done, on any stream, delays the judge's last
event; and if it computed between the judge's first two, they would be milliseconds apart
(`prepare_ns`). Work that was queued ahead of the inputs cannot use them.

A program that waits for its own work within a call is let through after a moment; its host time is
then in its latency, as it would be for a user.

Covered: `Gate` on a GPU (word in device memory, or in host memory where CUDA IPC is missing), and
on a CPU, for the interpreter. Not covered: CUDA MPS, where contexts run side by side.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.evaluate.channel import Hold
from harness.evaluate.cuda_driver import CudaError, Driver
from harness.evaluate.memory import GUARD_BYTES, Segment
from harness.types import JsonObject

_WORD_BYTES = 2 << 20  # an allocation of its own


@dataclass(frozen=True)
class GateTimes:
    """The last call, and preparing it, by the judge's clock, in nanoseconds."""

    wall_ns: int
    prepare_ns: int


class Gate(Hold, Protocol):
    """One worker's gate. `ready`, then the channel's `open` and `ended`, then `times`."""

    @property
    def source(self) -> JsonObject:
        """What the worker is told of its word (but for the number of its descriptor)."""
        ...

    @property
    def descriptors(self) -> list[int]:
        """Memory that the worker must be started with: one descriptor, or none."""
        ...

    def ready(self, number: int, patience_seconds: float, put: Callable[[], None]) -> None:
        """The next call: the word that lets it through, and what copies its inputs."""
        ...

    def times(self) -> GateTimes: ...

    def busy_ns(self) -> int:
        """How long the device lets the judge wait for something small: long if a program has left
        work on it."""
        ...

    def close(self) -> None: ...


class JudgeClock:
    """The judge's events and what it overwrites the L2 cache with, for all its gates."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._bytes = 2 * driver.attribute("l2_bytes")
        self._buffer = driver.allocate(self._bytes)
        self._events = [driver.event() for _ in range(3)]

    def prepare(self) -> None:
        """Queue: take the time, before inputs are copied."""
        self._driver.record(self._events[0])

    def start(self, address: int, value: int) -> None:
        """Queue: evict the L2 cache, take the time, write the word."""
        self._driver.fill(self._buffer, self._bytes)
        self._driver.record(self._events[1])
        self._driver.write_word(address, value)

    def stop(self) -> GateTimes:
        begun, opened, ended = self._events
        self._driver.record(ended)
        self._driver.wait(ended)
        elapsed = self._driver.elapsed_ns
        return GateTimes(elapsed(opened, ended), elapsed(begun, opened))

    def busy_ns(self) -> int:
        self._driver.synchronize()
        begun = time.perf_counter_ns()
        self._driver.fill(self._buffer, 4)
        self._driver.synchronize()
        return time.perf_counter_ns() - begun


class _Calls:
    """What both kinds of gate remember of a call."""

    patience_seconds = 0.0

    def __init__(self) -> None:
        self._number = 0
        self._put: Callable[[], None] = _nothing
        self._times = GateTimes(0, 0)

    def ready(self, number: int, patience_seconds: float, put: Callable[[], None]) -> None:
        self._number, self.patience_seconds, self._put = number, patience_seconds, put

    def times(self) -> GateTimes:
        return self._times


class GpuGate(_Calls):
    """On a GPU. shared: the word lies in device memory, shared by CUDA IPC; else in host memory."""

    def __init__(self, driver: Driver, clock: JudgeClock, *, shared: bool) -> None:
        super().__init__()
        self._driver, self._clock = driver, clock
        self._segment = None if shared else Segment("gate", 4)
        if self._segment is None:
            self._word = driver.allocate(_WORD_BYTES)
            driver.clear(self._word, _WORD_BYTES)
        else:
            self._host = self._segment.bytes.ctypes.data
            try:
                self._word = driver.register(self._host, self._segment.size) + GUARD_BYTES
            except CudaError:
                self._segment.close()
                raise

    @property
    def source(self) -> JsonObject:
        if self._segment is None:
            return {"ipc": self._driver.export(self._word).hex()}
        return {"offset": GUARD_BYTES}

    @property
    def descriptors(self) -> list[int]:
        return [] if self._segment is None else [self._segment.descriptor]

    def open(self) -> None:
        self._clock.prepare()
        self._put()
        self._clock.start(self._word, self._number)

    def ended(self) -> None:
        self._times = self._clock.stop()

    def busy_ns(self) -> int:
        return self._clock.busy_ns()

    def close(self) -> None:
        """After the worker's end."""
        if self._segment is None:
            self._driver.free(self._word)
        else:
            self._driver.unregister(self._host)
            self._segment.close()


class HostGate(_Calls):
    """On a CPU: the worker looks at a word in shared memory, and calls the program then."""

    def __init__(self) -> None:
        super().__init__()
        self._segment = Segment("gate", 4)
        self._word = ctypes.c_uint32.from_address(self._segment.bytes.ctypes.data + GUARD_BYTES)
        self._begun = self._opened = 0

    @property
    def source(self) -> JsonObject:
        return {"offset": GUARD_BYTES}

    @property
    def descriptors(self) -> list[int]:
        return [self._segment.descriptor]

    def open(self) -> None:
        self._begun = time.perf_counter_ns()
        self._put()
        self._opened = time.perf_counter_ns()
        self._word.value = self._number

    def ended(self) -> None:
        now = time.perf_counter_ns()
        self._times = GateTimes(now - self._opened, self._opened - self._begun)

    def busy_ns(self) -> int:
        return 0

    def close(self) -> None:
        self._segment.close()


def _nothing() -> None:
    """No call is ready."""
