"""A worker on an NVIDIA GPU: its memory, and the clock that the score is taken from.

Made inside the sandbox before the filter is installed and before candidate code is loaded: the
driver opens sockets and starts threads, which a candidate may not.

    "memory": [{"slot": S, "bytes": SIZE, "ipc": HEX | "descriptor": N}...]     in a bind request

Memory comes as CUDA IPC handles of the judge's allocations; where the machine has none, as host
memory (a descriptor), which the worker copies to memory of its own before a call and back after it,
outside the timed part.

Covered: both kinds of memory, the stopwatch (cuda_driver.py), torch made ready on the GPU.
Not covered: trust; the judge compares what this clock says with its own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evaluate.channel import WorkerTimes
from harness.evaluate.cpp_program import CppProgram
from harness.evaluate.cuda_driver import CudaError, Driver, Stopwatch
from harness.evaluate.worker import CandidateError, HostMachine, Interface, Place, Program
from harness.types import JsonObject

if TYPE_CHECKING:
    from harness.evaluate.python_program import PythonProgram


@dataclass(frozen=True)
class _Memory:
    """One allocation of a slot. host: the address of the host memory that it mirrors, or 0, and
    then it is the judge's own."""

    slot: int
    address: int
    size: int
    host: int


class GpuMachine:
    """One GPU in a worker. with_torch: make torch's own state on it ready, too."""

    def __init__(self, descriptors: Sequence[int], *, with_torch: bool) -> None:
        self._driver = Driver()
        self._watch = Stopwatch(self._driver)
        self._host = HostMachine(descriptors)
        self._memory: list[_Memory] = []
        if with_torch:
            import torch

            torch.ones(1, device="cuda").add_(1)
            torch.cuda.synchronize()

    def open(self, sources: Sequence[JsonObject]) -> None:
        for memory in self._memory:
            (self._driver.free if memory.host else self._driver.close)(memory.address)
        self._memory = []
        for source in sources:
            slot, size = int(source["slot"]), int(source["bytes"])
            if "ipc" in source:
                address, host = self._driver.open(bytes.fromhex(source["ipc"])), 0
            else:
                mapped = self._host.memory(int(source["descriptor"]))
                host = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
                size = min(size, len(mapped))
                address = self._driver.allocate(size)
            self._memory.append(_Memory(slot, address, size, host))

    def place(self, index: int, offset: int, size: int, shape: tuple[int, ...]) -> Place:
        memory = self._memory[index]
        if offset < 0 or offset + size > memory.size:
            raise CandidateError("memory", "a tensor does not fit its memory")
        return Place(None, offset, shape, memory.address + offset)

    def run(self, program: Program, slot: int) -> tuple[int, WorkerTimes]:
        return self.batch(program, [slot])

    def batch(self, program: Program, slots: Sequence[int]) -> tuple[int, WorkerTimes]:
        watch, clock, code = self._watch, time.perf_counter_ns, 0
        self._copy_in(slots)
        watch.start()
        begun = clock()
        for slot in slots:
            code = code or program.run(slot)
        returned = clock()
        watch.stop()
        ended = clock()
        watch.wait_idle()
        idle = clock()
        self._copy_out(slots)
        return code, WorkerTimes(watch.elapsed_ns(), returned - begun, idle - ended)

    def plan(self, program: Program, slot: int) -> tuple[int, WorkerTimes]:
        self._copy_in([slot])
        start = time.perf_counter_ns()
        code = program.plan(slot)
        self._watch.wait_idle()
        return code, WorkerTimes(time.perf_counter_ns() - start)

    def fetch(self, program: PythonProgram, slot: int) -> None:
        program.fetch(slot)
        self._watch.wait_idle()
        self._copy_out([slot])

    def native(self, path: str, interface: Interface) -> Program:
        return CppProgram(path, interface, self._zeroed)

    def _copy_in(self, slots: Sequence[int]) -> None:
        for memory in self._memory:
            if memory.host and memory.slot in slots:
                self._driver.copy_in(memory.address, memory.host, memory.size)

    def _copy_out(self, slots: Sequence[int]) -> None:
        for memory in self._memory:
            if memory.host and memory.slot in slots:
                self._driver.copy_out(memory.host, memory.address, memory.size)

    def _zeroed(self, size: int) -> int:
        try:
            address = self._driver.allocate(size)
        except CudaError as error:
            raise CandidateError(
                "workspace", f"a workspace of {size} bytes cannot be allocated: {error.name}"
            ) from error
        self._driver.clear(address, size)
        return address
