"""One lock per GPU, and what its driver says of it.

Covered: an advisory file lock by the device's UUID, shared by all harnesses of a machine and
dropped by the kernel when its holder dies; whether the device is throttled and at what clock its
multiprocessors run, by NVML, where its library is.
Not covered: programs that do not ask for the lock; clocks are never set.

Functions: NVML API reference manual.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from harness.evaluate.machine import open_lock

_LIBRARY = "libnvidia-ml.so.1"
# nvmlClocksEventReasons: hardware slowdown, software and hardware thermal slowdown, power brake.
_THROTTLED = 0x8 | 0x20 | 0x40 | 0x80
_MULTIPROCESSORS = 1  # nvmlClockType_t: NVML_CLOCK_SM


@contextmanager
def alone(uuid: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a GPU; waits for whoever holds it, or raises BlockingIOError. Raises
    EnvironmentMissing."""
    descriptor = open_lock(f"gpu-{uuid}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


class Sensors:
    """NVML's word on one device; none where there is no NVML.

    clocks_mhz: the lowest and the highest clock of its multiprocessors at all looks so far.
    """

    clocks_mhz: tuple[int, int] | None = None

    def __init__(self, uuid: str) -> None:
        self._device: ctypes.c_void_p | None = ctypes.c_void_p()
        try:
            self._nvml = ctypes.CDLL(_LIBRARY)
            name = f"GPU-{uuid}".encode()
            ok = not self._nvml.nvmlInit_v2()
            if not ok or self._nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(self._device)):
                self._device = None
        except OSError:
            self._device = None

    def throttled(self) -> bool:
        """Whether the device now runs below what it was built for. Notes its clock, too."""
        clock, reasons = ctypes.c_uint(), ctypes.c_ulonglong()
        if self._device is not None and not self._nvml.nvmlDeviceGetClockInfo(
            self._device, _MULTIPROCESSORS, ctypes.byref(clock)
        ):
            low, high = self.clocks_mhz or (clock.value, clock.value)
            self.clocks_mhz = min(low, clock.value), max(high, clock.value)
        if self._device is None or self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(
            self._device, ctypes.byref(reasons)
        ):
            return False
        return bool(reasons.value & _THROTTLED)
