"""The CUDA driver's functions that the judge and its workers need, called through ctypes.

The driver's own API (libcuda) and not torch's: a worker that runs a plain CUDA library never loads
torch; the handles of a worker's stopwatch exist before candidate code does; and memory that is
shared by CUDA IPC must be allocations of its own, which torch's caching allocator does not give.
The context is the device's primary one, which torch uses too, and every operation goes to the
legacy default stream, which waits for all blocking streams.

Covered: context, memory, IPC handles, registered host memory, events, fills, copies, words in
memory that a stream waits for or writes, attributes of the device.
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
_DEVICE_MAP = 2  # CU_MEMHOSTREGISTER_DEVICEMAP
_WORD = 0xFFFFFFFF
_EMPTY_KERNEL = b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry empty() { ret; }\n"
_ATTRIBUTES = {
    "multiprocessors": 16,
    "l2_bytes": 38,
    "major": 75,
    "minor": 76,
    "stream_memory_operations": 122,
}  # CUdevice_attribute


_ONE_THREAD = (c_uint(1),) * 6  # a grid of one block of one thread


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
        """ "multiprocessors", "l2_bytes", "major" or "minor" (compute capability), or
        "stream_memory_operations" (1 where a stream can wait for a word in memory)."""
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

    def register(self, host: int, size: int) -> int:
        """Pin host memory, so that copies of it can be queued: its address on the device."""
        self._call("cuMemHostRegister_v2", c_void_p(host), c_size_t(size), c_uint(_DEVICE_MAP))
        address = c_uint64()
        self._call("cuMemHostGetDevicePointer_v2", byref(address), c_void_p(host), c_uint(0))
        return address.value

    def unregister(self, host: int) -> None:
        """Undo `register`."""
        self._call("cuMemHostUnregister", c_void_p(host))

    def copy_in(self, address: int, host: int, size: int) -> None:
        """Queue a copy from registered host memory to the device."""
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(address), c_void_p(host), c_size_t(size), None)

    def copy_out(self, host: int, address: int, size: int) -> None:
        """Queue a copy from the device to registered host memory."""
        self._call("cuMemcpyDtoHAsync_v2", c_void_p(host), c_uint64(address), c_size_t(size), None)

    def fill(self, address: int, size: int) -> None:
        """Queue writing zeros to `size` bytes (a multiple of 4)."""
        words = c_size_t(size // 4)
        self._call("cuMemsetD32Async", c_uint64(address), c_uint(0), words, None)

    def write_word(self, address: int, value: int) -> None:
        """Queue writing a 32-bit word, after everything that was queued before."""
        self._call("cuStreamWriteValue32_v2", None, c_uint64(address), c_uint(value), c_uint(0))

    def clear(self, address: int, size: int) -> None:
        """Set every byte to zero; returns when it is done."""
        self._call("cuMemsetD8_v2", c_uint64(address), ctypes.c_ubyte(0), c_size_t(size))
        self.synchronize()

    def event(self) -> c_void_p:
        """A fresh event with timing, blocking waits off."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), c_uint(0))
        return event

    def empty_kernel(self) -> c_void_p:
        """A kernel that does nothing."""
        module, kernel = c_void_p(), c_void_p()
        self._call("cuModuleLoadData", byref(module), c_char_p(_EMPTY_KERNEL))
        self._call("cuModuleGetFunction", byref(kernel), module, c_char_p(b"empty"))
        return kernel

    def record(self, event: c_void_p) -> None:
        """Queue taking the time."""
        self._call("cuEventRecord", event, None)

    def wait(self, event: c_void_p) -> None:
        """Wait until the device has come to an event."""
        self._call("cuEventSynchronize", event)

    def elapsed_ns(self, start: c_void_p, stop: c_void_p) -> int:
        """Device time between two events (resolution about 0.5 us)."""
        milliseconds = c_float()
        self._call("cuEventElapsedTime", byref(milliseconds), start, stop)
        return round(milliseconds.value * 1e6)

    def synchronize(self) -> None:
        """Wait until the context is idle."""
        self._call("cuCtxSynchronize")


class Stopwatch:
    """Times what is put on the device's default stream between `start` and `stop`.

    Before the start event the stream waits for a word in memory (`hold`), while the host queues the
    work that is timed, so that the host's own time does not leak in; then it runs an empty kernel,
    so that the device has changed to this context. Without that, a cooperative launch was timed
    with the change in it: on an H100, 167 us instead of 21 (FlashInfer's latent attention). Every
    handle is made here, before candidate code is loaded.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._start, self._stop = driver.event(), driver.event()
        self._hold = driver.function("cuStreamWaitValue32_v2")
        self._kernel = driver.empty_kernel()
        self._launch = driver.function("cuLaunchKernel")
        self._record = driver.function("cuEventRecord")
        self._wait = driver.function("cuStreamSynchronize")
        self._elapsed = driver.function("cuEventElapsedTime")
        self._idle = driver.function("cuCtxSynchronize")
        self._empty()  # loaded now, and not behind the hold
        self.wait_idle()

    def hold(self, address: int, value: int) -> None:
        """The stream goes no further until the 32-bit word at `address` is `value` or more (by the
        sign of their difference), and then runs the empty kernel. Raises CudaError."""
        self._check(self._hold(None, c_uint64(address), c_uint(value & _WORD), c_uint(0)))
        self._empty()

    def _empty(self) -> None:
        self._check(self._launch(self._kernel, *_ONE_THREAD, c_uint(0), None, None, None))

    def start(self) -> None:
        """Put the start event on the stream."""
        self._check(self._record(self._start, None))

    def stop(self) -> None:
        """Put the stop event on the stream."""
        self._check(self._record(self._stop, None))

    def wait(self) -> None:
        """Wait for everything that was put on the stream."""
        self._check(self._wait(None))

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
