"""The CUDA driver's functions that the judge and its workers need, called through ctypes.

The driver's own API (libcuda) and not torch's: a worker that runs a plain CUDA library never loads
torch; the handles of a worker's stopwatch exist before candidate code does; and memory that is
shared by CUDA IPC must be allocations of its own, which torch's caching allocator does not give.
The context is the device's primary one, which torch uses too, and every operation goes to the
legacy default stream, which waits for all blocking streams.

Covered: context, memory, IPC handles, events, fills, one delay kernel, attributes of the device.
Not covered: several devices in one process (each process sees one).

Standard library only. Functions and their meaning: CUDA Driver API reference manual.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

LIBRARY = "libcuda.so.1"
IPC_HANDLE_BYTES = 64
_LAZY_PEER_ACCESS = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
_ATTRIBUTES = {
    "multiprocessors": 16,
    "l2_bytes": 38,
    "major": 75,
    "minor": 76,
}  # CUdevice_attribute

# One thread waits until the device's own clock has advanced by so many nanoseconds; a bound on the
# number of looks ends it where that clock stands still. PTX, so that no compiler is needed.
_DELAY_PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry delay(.param .u64 nanoseconds)
{
    .reg .pred %p<3>;
    .reg .u64 %t<5>;
    .reg .u32 %n<2>;
    ld.param.u64 %t1, [nanoseconds];
    mov.u64 %t2, %globaltimer;
    mov.u32 %n1, 0;
wait:
    mov.u64 %t3, %globaltimer;
    sub.u64 %t4, %t3, %t2;
    add.u32 %n1, %n1, 1;
    setp.lt.u64 %p1, %t4, %t1;
    setp.lt.and.u32 %p2, %n1, 4000000, %p1;
    @%p2 bra wait;
    ret;
}
\0"""


class CudaError(OSError):
    """A driver call failed. name: the driver's name of the error, e.g. CUDA_ERROR_OUT_OF_MEMORY."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call}: {name} ({code})")
        self.code = code
        self.name = name


class IpcHandle(ctypes.Structure):
    """CUipcMemHandle: 64 opaque bytes."""

    _fields_ = [("reserved", c_char * IPC_HANDLE_BYTES)]


class Driver:
    """The driver with one device's primary context current in the calling thread.

    index: among the devices that CUDA_VISIBLE_DEVICES leaves. Raises CudaError or OSError where
    there is no driver or no device.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = ctypes.CDLL(LIBRARY)
        self._call("cuInit", c_uint(0))
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), c_int(index))
        context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code:
            raise self.error(name, code)

    def error(self, call: str, code: int) -> CudaError:
        """The exception for a return code of the driver."""
        text = c_char_p()
        self._cuda.cuGetErrorName(c_int(code), byref(text))
        return CudaError(call, code, (text.value or b"unknown error").decode())

    def function(self, name: str) -> Callable[..., int]:
        """A driver function to call directly: it returns 0, or a code for `error`."""
        function: Callable[..., int] = getattr(self._cuda, name)
        return function

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, c_int(256), self._device)
        return text.value.decode()

    @property
    def uuid(self) -> str:
        """As nvidia-smi prints it, without "GPU-"."""
        raw = (c_char * 16)()
        self._call("cuDeviceGetUuid", byref(raw), self._device)
        text = bytes(raw).hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    @property
    def version(self) -> int:
        """The CUDA version that the driver supports, as 1000 x major + 10 x minor."""
        value = c_int()
        self._call("cuDriverGetVersion", byref(value))
        return value.value

    @property
    def memory_bytes(self) -> int:
        """The device's whole memory."""
        size = c_size_t()
        self._call("cuDeviceTotalMem_v2", byref(size), self._device)
        return size.value

    @property
    def free_bytes(self) -> int:
        """What is free of it now."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def attribute(self, name: str) -> int:
        """ "multiprocessors", "l2_bytes", "major" or "minor" (compute capability)."""
        value = c_int()
        attribute = c_int(_ATTRIBUTES[name])
        self._call("cuDeviceGetAttribute", byref(value), attribute, self._device)
        return value.value

    def allocate(self, size: int) -> int:
        """The address of `size` fresh bytes of the device, an allocation of their own."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", c_uint64(address))

    def export(self, address: int) -> bytes:
        """The IPC handle of a whole allocation."""
        handle = IpcHandle()
        self._call("cuIpcGetMemHandle", byref(handle), c_uint64(address))
        return ctypes.string_at(byref(handle), IPC_HANDLE_BYTES)

    def open(self, handle: bytes) -> int:
        """The address in this process of another process's allocation."""
        record = IpcHandle()
        ctypes.memmove(byref(record), handle, IPC_HANDLE_BYTES)
        address = c_uint64()
        self._call("cuIpcOpenMemHandle_v2", byref(address), record, c_uint(_LAZY_PEER_ACCESS))
        return address.value

    def close(self, address: int) -> None:
        """Undo `open`."""
        self._call("cuIpcCloseMemHandle", c_uint64(address))

    def copy_in(self, address: int, host: int, size: int) -> None:
        """From host memory to the device; returns when it is done."""
        self._call("cuMemcpyHtoD_v2", c_uint64(address), c_void_p(host), c_size_t(size))

    def copy_out(self, host: int, address: int, size: int) -> None:
        """From the device to host memory; returns when it is done."""
        self._call("cuMemcpyDtoH_v2", c_void_p(host), c_uint64(address), c_size_t(size))

    def clear(self, address: int, size: int) -> None:
        """Set every byte to zero; returns when it is done."""
        self._call("cuMemsetD8_v2", c_uint64(address), ctypes.c_ubyte(0), c_size_t(size))
        self.synchronize()

    def event(self) -> c_void_p:
        """A fresh event with timing, blocking waits off."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), c_uint(0))
        return event

    def synchronize(self) -> None:
        """Wait until the context is idle."""
        self._call("cuCtxSynchronize")

    def delay_kernel(self) -> c_void_p:
        """The function `delay(nanoseconds)` (uint64), at most about a second."""
        module, function = c_void_p(), c_void_p()
        self._call("cuModuleLoadData", byref(module), c_char_p(_DELAY_PTX))
        self._call("cuModuleGetFunction", byref(function), module, c_char_p(b"delay"))
        return function


class Stopwatch:
    """Times what is put on the device's default stream between `start` and `stop`.

    Before the start event the stream is held: a fill of twice the L2 cache evicts what was left
    there, and a kernel then waits about a millisecond, while the host queues the work that is
    timed, so that the host's own time does not leak in. Every handle is made here, before candidate
    code is loaded.
    """

    DELAY_NS = 1_000_000

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._flush_bytes = 2 * driver.attribute("l2_bytes")
        self._buffer = c_uint64(driver.allocate(self._flush_bytes))
        self._start, self._stop = driver.event(), driver.event()
        self._kernel = driver.delay_kernel()
        self._nanoseconds = c_uint64(self.DELAY_NS)
        self._parameters = (c_void_p * 1)(ctypes.cast(byref(self._nanoseconds), c_void_p))
        self._fill = driver.function("cuMemsetD32Async")
        self._launch = driver.function("cuLaunchKernel")
        self._record = driver.function("cuEventRecord")
        self._wait = driver.function("cuEventSynchronize")
        self._elapsed = driver.function("cuEventElapsedTime")
        self._idle = driver.function("cuCtxSynchronize")
        self._words = c_size_t(self._flush_bytes // 4)
        self._grid = tuple(c_uint(n) for n in (1, 1, 1, 1, 1, 1, 0))

    def start(self) -> None:
        """Put the flush, the delay and the start event on the stream. Raises CudaError."""
        stream = c_void_p(None)
        self._check(self._fill(self._buffer, c_uint(0), self._words, stream))
        self._check(self._launch(self._kernel, *self._grid, stream, self._parameters, None))
        self._check(self._record(self._start, stream))

    def stop(self) -> None:
        """Put the stop event on the stream and wait for it."""
        self._check(self._record(self._stop, c_void_p(None)))
        self._check(self._wait(self._stop))

    def wait_idle(self) -> None:
        """Wait for everything in the context, whatever stream it is on."""
        self._check(self._idle())

    def elapsed_ns(self) -> int:
        """Device time between the two events (resolution about 0.5 us)."""
        milliseconds = c_float()
        self._check(self._elapsed(byref(milliseconds), self._start, self._stop))
        return round(milliseconds.value * 1e6)

    def _check(self, code: int) -> None:
        if code:
            raise self._driver.error("timing", code)
