"""The memory that a worker on a GPU shares with its judge: the device's, or the host's.

A worker gets the judge's allocations by CUDA IPC (`IpcMemory`); where that is missing, host memory
that it copies (`HostMemory`), which is also what a GPU task on a CPU device uses.

Covered: making and giving up the two allocations of a slot, how many slots there can be.
Not covered: what lies in them (gpu_memory.py).
"""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.errors import InfraError
from harness.evaluate.cuda_driver import CudaError, Driver
from harness.evaluate.memory import Segment
from harness.evaluate.python_program import device_tensor
from harness.types import JsonObject

if TYPE_CHECKING:
    import torch

_ALLOCATION = 2 << 20  # the driver's granularity: an allocation of its own never shares a page
_MOST_SLOTS = 6


class Memory(Protocol):
    """Where slots come from."""

    @property
    def descriptors(self) -> list[int]: ...

    def most_slots(self, sizes: Sequence[int]) -> int:
        """How many slots with halves of these sizes there can be."""
        ...

    def allocate(self, slot: int, half: int, size: int) -> tuple[torch.Tensor, JsonObject]:
        """Bytes for the inputs (half 0) or outputs (1) of a slot: the judge's view [size] uint8,
        and what the worker is told."""
        ...

    def free(self, pieces: Sequence[torch.Tensor]) -> None:
        """The worker has let go of these."""
        ...

    def close(self) -> None: ...


class IpcMemory:
    """Allocations of the device, shared by CUDA IPC."""

    descriptors: list[int] = []

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def most_slots(self, sizes: Sequence[int]) -> int:
        return sys.maxsize

    def allocate(self, slot: int, half: int, size: int) -> tuple[torch.Tensor, JsonObject]:
        whole = -(-size // _ALLOCATION) * _ALLOCATION
        address = self._driver.allocate(whole)
        source = {"slot": slot, "bytes": size, "ipc": self._driver.export(address).hex()}
        return device_tensor(address, "uint8", (size,)), source

    def free(self, pieces: Sequence[torch.Tensor]) -> None:
        for piece in pieces:
            self._driver.free(piece.data_ptr())

    def close(self) -> None:
        """Nothing is left: every piece was freed."""


class HostMemory:
    """Shared memory of the host: files without a name, two for each slot, made at once since
    descriptors are handed over when a worker starts. workloads: the sizes of the halves of each;
    a slot is as large as the largest that has so many within memory_bytes, for a worker on a GPU
    pins all of it, which takes a second for a few gigabytes. driver: so does the judge, whose GPU
    then fills, copies and compares there; one core of the host takes ten times as long."""

    def __init__(
        self, workloads: Sequence[Sequence[int]], memory_bytes: int, driver: Driver | None = None
    ) -> None:
        self._sizes: list[list[int]] = []
        for slot in range(_MOST_SLOTS):
            using = [s for s in workloads if slots_within(memory_bytes, sum(s)) > slot]
            if using:
                self._sizes.append([max(sizes) for sizes in zip(*using, strict=True)])
        self._segments = [
            [Segment(f"slot{s}", size) for size in sizes] for s, sizes in enumerate(self._sizes)
        ]
        self._driver = driver
        self._pinned: dict[int, int] = {}  # addresses on the device by those on the host
        if driver is not None:
            self._pin(driver)

    def _pin(self, driver: Driver) -> None:
        """Raises InfraError: no program runs in this memory yet."""
        for segment in self._all():
            host = segment.bytes.ctypes.data
            try:
                self._pinned[host] = driver.register(host, segment.size)
            except CudaError as error:
                self.close()
                raise InfraError(
                    f"Host memory for the GPU's worker cannot be pinned: {error}. Is there memory "
                    "left, and does the container allow pinning (ulimit -l)?"
                ) from error

    def _all(self) -> list[Segment]:
        return [segment for halves in self._segments for segment in halves]

    @property
    def descriptors(self) -> list[int]:
        return [segment.descriptor for segment in self._all()]

    def most_slots(self, sizes: Sequence[int]) -> int:
        return sum(all(map(operator.le, sizes, there)) for there in self._sizes)

    def allocate(self, slot: int, half: int, size: int) -> tuple[torch.Tensor, JsonObject]:
        import torch

        memory = self._segments[slot][half].bytes
        address = self._pinned.get(memory.ctypes.data)
        if address is None:
            view = torch.from_numpy(memory[:size])
        else:
            view = device_tensor(address, "uint8", (size,))
        return view, {"slot": slot, "bytes": size, "descriptor": 2 * slot + half}

    def free(self, pieces: Sequence[torch.Tensor]) -> None:
        """The next workload takes the same memory."""

    def close(self) -> None:
        if self._driver is not None:
            with contextlib.suppress(CudaError):  # copies to it may be queued
                self._driver.synchronize()
            for host in self._pinned:
                with contextlib.suppress(CudaError):
                    self._driver.unregister(host)
        self._pinned = {}
        for segment in self._all():
            segment.close()
        self._segments = []


def slots_within(memory_bytes: int, slot_bytes: int) -> int:
    """How many slots of this size: as many as fit, at least 2 and at most 6."""
    return min(_MOST_SLOTS, max(2, memory_bytes // max(slot_bytes, 1)))
