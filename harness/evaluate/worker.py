"""The untrusted side: loads one candidate, maps the judge's memory, answers calls until it ends.

Runs in a process forked from the warm parent after the sandbox has been entered. JSON requests:

    {"op": "load", "language": "cpp" | "cuda" | "python" | "triton", "file": NAME, "signature":
     {"axes": [NAME...], "inputs": [{"name", "dtype", "shape", "index"}...], "outputs": [...]}}
        -> {"ok": true, "workspace": bool, "plan": bool}
    {"op": "bind", "workload": {"axes": {NAME: SIZE}}, "memory": [...], "gate": {...}, "slots":
     [{TENSOR: [INDEX, OFFSET]}...]} -> {"ok": true, "workspace_bytes": N}; INDEX: into the
     descriptors that the worker was started with, or into "memory" (gpu_worker.py)
    {"op": "memory", "memory": [...]} -> {"ok": true}, if the worker can take it
    {"op": "compile", "workloads": [AXES...], "capability", "processes", "seconds"} -> of a Triton
     program, where there is no GPU (triton_ahead.py)
    {"op": "defer"}, {"op": "keep", "kept": bool}, {"op": "fetch", "slot": SLOT}: of a submission
     (inspected_side.py, python_program.py) -> {"ok": true}
    {"op": "report"} -> {"ok": true, "report": {...}}: what it says of itself
    {"op": "diagnose", "what": LOOK} -> {"ok": true, FIGURE: NUMBER...}, of the last contents of the
     first slot (gpu_diagnostics.py)
    {"op": "error"} -> {"error_class": ..., "message": ...} of the last call that returned non-zero
Each may answer {"ok": false, "error_class", "message"}. Then frames: RUN and PLAN on a slot, BATCH
on the first slots, and PING. Where there is a gate, RUN and BATCH are answered by QUEUED first.

Covered
- a cpp candidate runs without torch and without numpy in the process
- non-index inputs are NULL (cpp) or None (python) in `plan`, and in `workspace_bytes`
- a python candidate's returned tensors are copied into the outputs within the call; a wrong shape,
  a wrong dtype or a tensor subclass is an error
- every python call gets fresh containers and fresh tensor objects over the same memory
- an exception, an unusable library or a tensor outside its memory becomes a bounded message
Not covered
- trust: nothing that this process says is believed; the judge compares outputs and reads its own
  clock
- hangs, crashes and exits: the judge sees the channel time out or close, and the exit status
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.evaluate.channel import Kind, WorkerEnd, WorkerTimes
from harness.types import JsonObject

if TYPE_CHECKING:
    from harness.evaluate.python_program import PythonProgram

MESSAGE_CHARACTERS = 2000
ITEM_BYTES: Mapping[str, int] = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "int32": 4,
    "int64": 8,
}  # fmt: skip
NATIVE = ("cpp", "cuda")  # a shared library behind the C ABI; the others are Python files
_RAISED = 1  # return code of a call that raised


@dataclass(frozen=True)
class TensorSpecification:
    """One tensor of the signature, as the judge described it."""

    name: str
    dtype: str
    shape: tuple[str | int, ...]
    index: bool

    def sizes(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(axes[s] if isinstance(s, str) else s for s in self.shape)


@dataclass(frozen=True)
class Interface:
    """Axes, then inputs, then outputs, in the signature's order."""

    axes: tuple[str, ...]
    inputs: tuple[TensorSpecification, ...]
    outputs: tuple[TensorSpecification, ...]


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `memory` from byte `offset` on, with this shape; on a GPU at `address`
    (0 on a CPU)."""

    memory: mmap.mmap | None
    offset: int
    shape: tuple[int, ...]
    address: int = 0


Slot = Mapping[str, Place]


class CandidateError(Exception):
    """The candidate cannot be loaded or bound, or a call failed in a way that has a name."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class Program(Protocol):
    """A loaded candidate."""

    has_workspace: bool
    has_plan: bool

    def bind(self, axes: Mapping[str, int], slots: Sequence[Slot]) -> int:
        """Prepare every slot's arguments. Returns the workspace's bytes."""
        ...

    def run(self, slot: int) -> int: ...

    def plan(self, slot: int) -> int: ...

    def renew(self, slot: int) -> None:
        """After a call, outside its time: fresh argument objects for the slot's next call."""
        ...


class Machine(Protocol):
    """Where a program runs: its memory and its clocks."""

    def open(self, sources: Sequence[JsonObject]) -> None:
        """Take the memory of the next workload, and let go of the last one's."""
        ...

    def place(self, index: int, offset: int, size: int, shape: tuple[int, ...]) -> Place:
        """A tensor of `size` bytes. Raises CandidateError if it does not fit its memory."""
        ...

    def gate(self, source: JsonObject) -> None:
        """Take the word that calls wait for."""
        ...

    def run(
        self, program: Program, slots: Sequence[int], number: int, queued: Callable[[], None]
    ) -> tuple[int, WorkerTimes]:
        """Calls back to back, timed as one: return code (of the first that is not 0) and times.
        number: the word that lets them through the gate, if there is one; queued: then to be
        called once they are queued."""
        ...

    def plan(self, program: Program, slot: int) -> tuple[int, WorkerTimes]: ...

    def diagnose(self, program: Program, slot: int, what: str) -> dict[str, float]:
        """One look at a program beyond its score."""
        ...

    def fetch(self, program: PythonProgram, slot: int) -> None:
        """Copy what the slot's last call returned into its outputs, outside any call."""
        ...

    def native(self, path: str, interface: Interface) -> Program:
        """A shared library behind the C ABI, loaded."""
        ...


class HostMachine:
    """The CPU. descriptors: the judge's memory, in the order in which it names it."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = descriptors
        self._memory: dict[int, mmap.mmap] = {}
        self._gate: memoryview | None = None

    def open(self, sources: Sequence[JsonObject]) -> None:
        """Nothing to take: all memory came as descriptors."""

    def place(self, index: int, offset: int, size: int, shape: tuple[int, ...]) -> Place:
        memory = self.memory(index)
        if offset < 0 or offset + size > len(memory):
            raise CandidateError("memory", "a tensor does not fit its memory")
        return Place(memory, offset, shape)

    def memory(self, index: int) -> mmap.mmap:
        """The mapping of a descriptor, made once."""
        if index not in self._memory:
            descriptor = self._descriptors[index]
            self._memory[index] = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
            os.close(descriptor)  # the map keeps a duplicate; both would exceed the limit
        return self._memory[index]

    def gate(self, source: JsonObject) -> None:
        offset = int(source["offset"])
        memory = self.memory(int(source["descriptor"]))
        self._gate = memoryview(memory)[offset : offset + 4].cast("I")

    def run(
        self, program: Program, slots: Sequence[int], number: int, queued: Callable[[], None]
    ) -> tuple[int, WorkerTimes]:
        if self._gate is not None:
            queued()
            while self._gate[0] != number & 0xFFFFFFFF:
                time.sleep(0)
        start, code = time.perf_counter_ns(), 0
        for slot in slots:
            code = code or program.run(slot)
        return code, WorkerTimes(time.perf_counter_ns() - start)

    def plan(self, program: Program, slot: int) -> tuple[int, WorkerTimes]:
        start = time.perf_counter_ns()
        code = program.plan(slot)
        return code, WorkerTimes(time.perf_counter_ns() - start)

    def diagnose(self, program: Program, slot: int, what: str) -> dict[str, float]:
        raise CandidateError("diagnose", "a program on a CPU is not diagnosed")

    def fetch(self, program: PythonProgram, slot: int) -> None:
        program.fetch(slot)

    def native(self, path: str, interface: Interface) -> Program:
        from harness.evaluate.cpp_program import CppProgram

        return CppProgram(path, interface)


class Worker:
    """One candidate's service loop."""

    def __init__(self, end: WorkerEnd, machine: Machine) -> None:
        self._end = end
        self._machine = machine
        self._interface: Interface | None = None
        self._program: Program | None = None
        self._error: JsonObject = {"error_class": "", "message": ""}

    def serve(self) -> None:
        """Answer requests until the judge closes the channel, which ends the process."""
        end, nothing = self._end, WorkerTimes(0)
        while True:
            kind, slot, number, nonce = end.next()
            if kind == Kind.PING:
                end.reply(kind, 0, number, nonce, nothing)
            elif kind == Kind.JSON:
                end.reply_json(self._answer(end.text(number)), nonce)
            else:
                program = self._program
                if program is None:
                    end.reply(kind, _RAISED, number, nonce, nothing)
                    continue
                try:
                    code, times = self._call(program, kind, slot, number, nonce)
                except Exception as error:  # noqa: BLE001 - the worker's outermost frame
                    self._error, code, times = _described(error), _RAISED, nothing
                end.reply(kind, code, number, nonce, times)
                for done in _slots(kind, slot):
                    program.renew(done)

    def _call(
        self, program: Program, kind: int, slot: int, number: int, nonce: bytes
    ) -> tuple[int, WorkerTimes]:
        if kind == Kind.PLAN:
            return self._machine.plan(program, slot)

        def queued() -> None:
            self._end.reply(Kind.QUEUED, 0, number, nonce, WorkerTimes(0))

        return self._machine.run(program, _slots(kind, slot), number, queued)

    def _answer(self, request: JsonObject) -> JsonObject:
        try:
            if request["op"] == "load":
                return self._load(request)
            if request["op"] == "bind":
                return self._bind(request)
            if request["op"] == "memory":
                self._machine.open(request["memory"])
                return {"ok": True}
            if request["op"] == "compile":
                return self._compile(request)
            if request["op"] in ("defer", "keep", "fetch", "report"):
                return self._inspect(request)
            if request["op"] == "diagnose":
                if self._program is None:
                    raise CandidateError("protocol", "diagnose before load")
                found = self._machine.diagnose(self._program, 0, request["what"])
                return {"ok": True} | found
            if request["op"] == "error":
                return self._error
            raise CandidateError("protocol", f"unknown op {request['op']!r}")
        except Exception as error:  # noqa: BLE001 - the worker's outermost frame
            return {"ok": False} | _described(error)

    def _load(self, request: JsonObject) -> JsonObject:
        signature = request["signature"]
        inputs, outputs = (
            tuple(
                TensorSpecification(t["name"], t["dtype"], tuple(t["shape"]), t["index"])
                for t in signature[group]
            )
            for group in ("inputs", "outputs")
        )
        self._interface = Interface(tuple(signature["axes"]), inputs, outputs)
        # Relative: the folders above the job folder may be closed to this user.
        path = os.path.join(".", os.path.basename(request["file"]))
        if request["language"] in NATIVE:
            gc.disable()  # the loop makes no cycles, and a collection would be timed
            self._program = self._machine.native(path, self._interface)
        else:
            from harness.evaluate.python_program import PythonProgram

            self._program = PythonProgram(path, self._interface)
        return {
            "ok": True,
            "workspace": self._program.has_workspace,
            "plan": self._program.has_plan,
        }

    def _bind(self, request: JsonObject) -> JsonObject:
        if self._interface is None or self._program is None:
            raise CandidateError("protocol", "bind before load")
        axes = request["workload"]["axes"]
        tensors = {t.name: t for t in (*self._interface.inputs, *self._interface.outputs)}
        self._machine.open(request.get("memory", ()))
        if "gate" in request:
            self._machine.gate(request["gate"])
        slots = [
            {name: self._place(tensors[name], axes, *where) for name, where in slot.items()}
            for slot in request["slots"]
        ]
        return {"ok": True, "workspace_bytes": self._program.bind(axes, slots)}

    def _place(
        self, tensor: TensorSpecification, axes: Mapping[str, int], index: int, offset: int
    ) -> Place:
        shape = tensor.sizes(axes)
        size = ITEM_BYTES[tensor.dtype] * math.prod(shape)
        return self._machine.place(index, offset, size, shape)

    def _compile(self, request: JsonObject) -> JsonObject:
        from harness.evaluate.python_program import PythonProgram
        from harness.evaluate.triton_ahead import compile_all

        if not isinstance(self._program, PythonProgram):
            raise CandidateError("protocol", "compile before load")
        return compile_all(
            self._program.entry,
            self._program.tensors,
            request["workloads"],
            request["capability"],
            request["processes"],
            request["seconds"],
        )

    def _inspect(self, request: JsonObject) -> JsonObject:
        from harness.evaluate.python_program import PythonProgram

        program = self._program
        if not isinstance(program, PythonProgram):
            raise CandidateError("protocol", "only a program in Python can be inspected")
        if request["op"] == "report":
            return {"ok": True, "report": program.report()}
        if request["op"] == "fetch":
            self._machine.fetch(program, int(request["slot"]))
        elif request["op"] == "keep":
            program.keep(kept=bool(request["kept"]))
        else:
            program.deferred = True
        return {"ok": True}


def _slots(kind: int, slot: int) -> Sequence[int]:
    """The slots that a call is for."""
    return range(slot) if kind == Kind.BATCH else (slot,)


def _described(error: Exception) -> JsonObject:
    """An error as bounded text. str() of a candidate's exception is the candidate's code."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the worker's outermost frame
        text = "(its message cannot be shown)"
    if isinstance(error, CandidateError):
        return {"error_class": error.error_class, "message": text[:MESSAGE_CHARACTERS]}
    name = type(error).__name__
    return {"error_class": name, "message": f"{name}: {text}"[:MESSAGE_CHARACTERS]}
