"""A C++ or CUDA candidate in its worker: a shared library behind the plain C ABI, through ctypes.

    int run(const Inputs*, const Outputs*, void* workspace, void* stream);
    size_t workspace_bytes(const Inputs*);               // optional; may depend on the axes only
    int plan(const Inputs*, void* workspace);            // optional

Inputs: every axis as int64_t, then one pointer per input tensor, in the signature's order. Outputs:
one pointer per output tensor. All fields are 8 bytes, so both are arrays of 64-bit words here.
During `plan` and `workspace_bytes` the pointers of inputs that are not index metadata are NULL.

Covered: the workspace (one for all slots, zeroed when bound, aligned to 64 bytes at least), missing
functions. The stream is NULL: none on a CPU, the default one on a GPU; another one only where a
program is captured in a graph (gpu_diagnostics.py).
Not covered: what native code does to this process.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping, Sequence

from harness.evaluate.worker import CandidateError, Interface, Place, Slot


class CppProgram:
    """A loaded library. Raises CandidateError("load") if it cannot be loaded or has no `run`.

    allocate: zeroed device memory for the workspace; None on a CPU.
    """

    def __init__(
        self, path: str, interface: Interface, allocate: Callable[[int], int] | None = None
    ) -> None:
        self._interface = interface
        self._device_memory = allocate
        try:
            library = ctypes.CDLL(path)
            self._run = library.run
        except (OSError, AttributeError) as error:
            raise CandidateError("load", str(error)) from error
        self._run.argtypes = [ctypes.c_void_p] * 4
        self._run.restype = ctypes.c_int
        self._workspace_bytes = getattr(library, "workspace_bytes", None)
        self._plan = getattr(library, "plan", None)
        if self._workspace_bytes is not None:
            self._workspace_bytes.argtypes = [ctypes.c_void_p]
            self._workspace_bytes.restype = ctypes.c_size_t
        if self._plan is not None:
            self._plan.argtypes = [ctypes.c_void_p] * 2
            self._plan.restype = ctypes.c_int
        self.has_workspace = self._workspace_bytes is not None
        self.has_plan = self._plan is not None
        self.stream = ctypes.c_void_p(None)
        self._workspace: mmap.mmap | None = None
        self._kept_alive: list[ctypes.Array[ctypes.c_int64]] = []
        self._run_arguments: list[tuple[ctypes.c_void_p, ...]] = []
        self._plan_arguments: list[tuple[ctypes.c_void_p, ...]] = []

    def bind(self, axes: Mapping[str, int], slots: Sequence[Slot]) -> int:
        interface = self._interface
        sizes = [axes[name] for name in interface.axes]
        self._kept_alive = []
        self._run_arguments, self._plan_arguments = [], []
        workspace, length = ctypes.c_void_p(None), 0
        for slot in slots:
            pointers = [_address(slot[t.name]) for t in interface.inputs]
            planned = [p if t.index else 0 for p, t in zip(pointers, interface.inputs, strict=True)]
            inputs = self._words([*sizes, *pointers])
            plan_inputs = self._words([*sizes, *planned])
            outputs = self._words([_address(slot[t.name]) for t in interface.outputs])
            if self._workspace_bytes is not None and not self._run_arguments:
                length = self._workspace_bytes(plan_inputs)
                workspace = self._allocate(length)
            self._run_arguments.append((inputs, outputs, workspace))
            self._plan_arguments.append((plan_inputs, workspace))
        return length

    def run(self, slot: int) -> int:
        return int(self._run(*self._run_arguments[slot], self.stream))

    def plan(self, slot: int) -> int:
        if self._plan is None:
            raise CandidateError("plan", "the library has no plan function")
        return int(self._plan(*self._plan_arguments[slot]))

    def renew(self, slot: int) -> None:
        """Nothing to renew: native code gets the same structs."""

    def _words(self, values: Sequence[int]) -> ctypes.c_void_p:
        array = (ctypes.c_int64 * max(len(values), 1))(*values)
        self._kept_alive.append(array)
        return ctypes.c_void_p(ctypes.addressof(array))

    def _allocate(self, length: int) -> ctypes.c_void_p:
        if length == 0:
            return ctypes.c_void_p(None)
        try:
            if self._device_memory is not None:
                return ctypes.c_void_p(self._device_memory(length))
            self._workspace = mmap.mmap(-1, length)
        except (OSError, OverflowError, ValueError) as error:
            raise CandidateError(
                "workspace", f"a workspace of {length} bytes cannot be allocated: {error}"
            ) from error
        return ctypes.c_void_p(_start(self._workspace))


def _start(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _address(place: Place) -> int:
    if place.memory is None:
        return place.address
    return _start(place.memory) + place.offset
