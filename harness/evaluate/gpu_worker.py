"""A worker on an NVIDIA GPU: its memory, and the clock that the score is taken from.

Made inside the sandbox before the filter is installed and before candidate code is loaded: the
driver opens sockets and starts threads, which a candidate may not. A bind request names

    "memory": [{"slot": S, "bytes": SIZE, "ipc": HEX | "descriptor": N}...]
    "gate": {"ipc": HEX} | {"descriptor": N, "offset": BYTES}

Memory comes as CUDA IPC handles of the judge's allocations; where the machine has none, as host
memory (a descriptor), which the worker copies to memory of its own before a call and back after it,
outside the timed part. Calls are queued behind the gate (gpu_gate.py).

Covered: both kinds of memory, the stopwatch (cuda_driver.py), torch made ready on the GPU.
Not covered: trust; the judge compares what this clock says with its own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evaluate import gpu_diagnostics
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
    """One GPU in a worker. use: "driver"; "torch" or "profiler": torch's own state on it is made
    ready, too."""

    def __init__(self, descriptors: Sequence[int], use: str) -> None:
        self._driver = Driver()
        self._watch = Stopwatch(self._driver)
        self._host = HostMachine(descriptors)
        self._memory: list[_Memory] = []
        self._pinned: dict[int, tuple[int, int]] = {}  # descriptor: host address, device address
        self._gate = 0
        self._evicted = (0, 0)  # where memory is copied in: a buffer that pushes it out of the L2
        self._torch = use != "driver"
        if self._torch:
            import torch

            torch.ones(1, device="cuda").add_(1)
            torch.cuda.synchronize()
        if use == "profiler":
            gpu_diagnostics.make_profiler_ready()

    def gate(self, source: JsonObject) -> None:
        if self._gate:
            return
        if "ipc" in source:
            self._gate = self._driver.open(bytes.fromhex(source["ipc"]))
        else:
            self._gate = self._registered(int(source["descriptor"]))[1] + int(source["offset"])
            size = 2 * self._driver.attribute("l2_bytes")
            self._evicted = (self._driver.allocate(size), size)

    def _registered(self, descriptor: int) -> tuple[int, int]:
        if descriptor not in self._pinned:
            mapped = self._host.memory(descriptor)
            host = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            self._pinned[descriptor] = host, self._driver.register(host, len(mapped))
        return self._pinned[descriptor]

    def open(self, sources: Sequence[JsonObject]) -> None:
        for memory in self._memory:
            (self._driver.free if memory.host else self._driver.close)(memory.address)
        self._memory = []
        if self._torch and not sources:  # others are timed meanwhile, and want the room
            import torch

            torch.cuda.empty_cache()
        for source in sources:
            slot, size = int(source["slot"]), int(source["bytes"])
            if "ipc" in source:
                address, host = self._driver.open(bytes.fromhex(source["ipc"])), 0
            else:
                host = self._registered(int(source["descriptor"]))[0]
                address = self._driver.allocate(size)
            self._memory.append(_Memory(slot, address, size, host))

    def place(self, index: int, offset: int, size: int, shape: tuple[int, ...]) -> Place:
        memory = self._memory[index]
        if offset < 0 or offset + size > memory.size:
            raise CandidateError("memory", "a tensor does not fit its memory")
        return Place(None, offset, shape, memory.address + offset)

    def run(
        self, program: Program, slots: Sequence[int], number: int, queued: Callable[[], None]
    ) -> tuple[int, WorkerTimes]:
        watch, clock, code = self._watch, time.perf_counter_ns, 0
        watch.hold(self._gate, number)
        self._copy_in(slots)
        watch.start()
        begun = clock()
        for slot in slots:
            code = code or program.run(slot)
        returned = clock()
        watch.stop()
        self._copy_out(slots)
        queued()
        watch.wait()
        ended = clock()
        watch.wait_idle()
        idle = clock()
        return code, WorkerTimes(watch.elapsed_ns(), returned - begun, idle - ended)

    def plan(self, program: Program, slot: int) -> tuple[int, WorkerTimes]:
        self._copy_in([slot])
        start = time.perf_counter_ns()
        code = program.plan(slot)
        self._watch.wait_idle()
        return code, WorkerTimes(time.perf_counter_ns() - start)

    def diagnose(self, program: Program, slot: int, what: str) -> dict[str, float]:
        self._copy_in([slot])
        found = gpu_diagnostics.diagnose(program, slot, what)
        self._watch.wait_idle()
        return found

    def fetch(self, program: PythonProgram, slot: int) -> None:
        program.fetch(slot)
        self._copy_out([slot])
        self._watch.wait_idle()

    def native(self, path: str, interface: Interface) -> Program:
        return CppProgram(path, interface, self._zeroed)

    def _copy_in(self, slots: Sequence[int]) -> None:
        for memory in self._memory:
            if memory.host and memory.slot in slots:
                self._driver.copy_in(memory.address, memory.host, memory.size)
        if self._evicted[1]:
            self._driver.fill(*self._evicted)

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
