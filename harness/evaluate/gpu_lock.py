"""One lock per GPU, and what its driver says of it.

Covered: an advisory file lock by the device's UUID, shared by all harnesses of a machine and
dropped by the kernel when its holder dies; clocks, temperature, power and reasons for throttling by
NVML, where its library is. Not covered: programs that do not ask for the lock; clocks are never
set.

Standard library only. Functions: NVML API reference manual.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.types import JsonObject

_LIBRARY = "libnvidia-ml.so.1"
_CLOCKS = {"sm_mhz": 1, "memory_mhz": 2}  # nvmlClockType_t
_TEMPERATURE_GPU = 0
# nvmlClocksEventReasons: a thermal or power limit below what the device was built for.
_THROTTLED = {0x8: "hardware", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "brake"}


@contextmanager
def alone(uuid: str) -> Iterator[None]:
    """Hold a GPU; waits for whoever holds it. Raises EnvironmentMissing."""
    path = Path(tempfile.gettempdir()) / f"kernel-search-harness-gpu-{uuid}.lock"
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot open the GPU's lock {path}: {error.strerror}. Set TMPDIR to a folder that "
            "every user of this machine's harness can write."
        ) from error
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Sensors:
    """NVML's readings of one device; empty where there is no NVML."""

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

    def read(self) -> JsonObject:
        """{sm_mhz, memory_mhz, temperature_c, power_w, throttled: [reason...]}, what is known."""
        if self._device is None:
            return {}
        found: JsonObject = {}
        value = ctypes.c_uint()
        for name, kind in _CLOCKS.items():
            if not self._nvml.nvmlDeviceGetClockInfo(self._device, kind, ctypes.byref(value)):
                found[name] = value.value
        if not self._nvml.nvmlDeviceGetTemperature(
            self._device, _TEMPERATURE_GPU, ctypes.byref(value)
        ):
            found["temperature_c"] = value.value
        if not self._nvml.nvmlDeviceGetPowerUsage(self._device, ctypes.byref(value)):
            found["power_w"] = value.value / 1000
        reasons = ctypes.c_ulonglong()
        if not self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(
            self._device, ctypes.byref(reasons)
        ):
            names = [name for bit, name in _THROTTLED.items() if reasons.value & bit]
            found["throttled"] = names
        return found
