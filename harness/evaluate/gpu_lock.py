"""One lock per GPU, and what its driver says of it.

Covered: an advisory file lock by the device's UUID, shared by all harnesses of a machine and
dropped by the kernel when its holder dies; whether the device is throttled, by NVML, where its
library is. Not covered: programs that do not ask for the lock; clocks are neither kept nor set.

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


@contextmanager
def alone(uuid: str) -> Iterator[None]:
    """Hold a GPU; waits for whoever holds it. Raises EnvironmentMissing."""
    descriptor = open_lock(f"gpu-{uuid}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Sensors:
    """NVML's word on one device; none where there is no NVML."""

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
        """Whether the device now runs below what it was built for."""
        reasons = ctypes.c_ulonglong()
        if self._device is None or self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(
            self._device, ctypes.byref(reasons)
        ):
            return False
        return bool(reasons.value & _THROTTLED)
