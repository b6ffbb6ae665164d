"""A Python or Triton candidate in its worker: a file with `run(inputs, outputs)` on torch tensors.

    def run(inputs, outputs): ...    # writes outputs.<name>, or returns a tensor, tuple or dict
    def plan(inputs): ...            # optional; inputs that are not index metadata are None

inputs and outputs hold a tensor per tensor of the signature (on the GPU where the task is), inputs
also an int per axis. What is returned is copied into the outputs within the call: a tuple in the
signature's order, a dict by name.

A submission (inspected_side.py) is `deferred`: what it returns is held, and copied when the judge
fetches it. It may define `observe(inputs, result)`, called then, and `report()`.

Covered: fresh containers and tensor objects for every call; exact type, shape and dtype of what is
returned. Not covered: any isolation from the candidate, which shares this interpreter.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from harness.evaluate.worker import (
    CandidateError,
    Interface,
    Place,
    Slot,
    TensorSpecification,
)
from harness.types import JsonObject

if TYPE_CHECKING:
    from torch import Tensor

MODULE_NAME = "candidate"
MOST_REPORT_CHARACTERS = 1 << 15


class PythonProgram:
    """A loaded file. Raises CandidateError("load") if it defines no `run`; else what it raises."""

    has_workspace = False

    def __init__(self, path: str, interface: Interface) -> None:
        import torch

        self._torch = torch
        self._interface = interface
        threads = os.environ.get("OMP_NUM_THREADS")
        if threads is not None:
            torch.set_num_threads(int(threads))
        module = ModuleType(MODULE_NAME)
        module.__file__ = path
        sys.modules[MODULE_NAME] = module
        with open(path, encoding="utf-8") as file:
            source = file.read()
        exec(compile(source, path, "exec"), module.__dict__)
        run = getattr(module, "run", None)
        if not callable(run):
            raise CandidateError("load", "the program defines no function run(inputs, outputs)")
        self.entry: Callable[[SimpleNamespace, SimpleNamespace], object] = run
        self._plan: Callable[[SimpleNamespace], object] | None = getattr(module, "plan", None)
        self.has_plan = callable(self._plan)
        self._observe: Callable[[SimpleNamespace, object], object] | None = getattr(
            module, "observe", None
        )
        self._report: Callable[[], object] | None = getattr(module, "report", None)
        self.deferred = False
        self._kept = False
        self._returned: dict[int, tuple[SimpleNamespace, object]] = {}
        self._axes: dict[str, int] = {}
        self._slots: list[dict[str, Tensor]] = []
        self._ready: dict[int, tuple[SimpleNamespace, SimpleNamespace, SimpleNamespace]] = {}

    @property
    def tensors(self) -> dict[str, list[tuple[str, str, tuple[str | int, ...]]]]:
        """(name, dtype, shape) of every input and output, as triton_ahead.py wants them."""
        groups = (("inputs", self._interface.inputs), ("outputs", self._interface.outputs))
        return {group: [(t.name, t.dtype, t.shape) for t in tensors] for group, tensors in groups}

    def bind(self, axes: Mapping[str, int], slots: Sequence[Slot]) -> int:
        interface = self._interface
        self._axes = {name: axes[name] for name in interface.axes}
        tensors = (*interface.inputs, *interface.outputs)
        self._slots = [{t.name: self._tensor(t, slot[t.name]) for t in tensors} for slot in slots]
        self._ready, self._returned = {}, {}
        self.keep(kept=False)
        return 0

    def keep(self, *, kept: bool) -> None:
        """Fresh containers for every slot; from then on the same for all of its calls, or not."""
        self._kept = False
        for slot in range(len(self._slots)):
            self.renew(slot)
        self._kept = kept

    def renew(self, slot: int) -> None:
        if self._kept:
            return
        tensors, interface = self._slots[slot], self._interface
        inputs = SimpleNamespace(
            **self._axes, **{t.name: tensors[t.name].detach() for t in interface.inputs}
        )
        planned = SimpleNamespace(
            **self._axes,
            **{t.name: tensors[t.name].detach() if t.index else None for t in interface.inputs},
        )
        outputs = SimpleNamespace(**{t.name: tensors[t.name].detach() for t in interface.outputs})
        self._ready[slot] = (inputs, outputs, planned)

    def run(self, slot: int) -> int:
        inputs, outputs, _ = self._ready[slot]
        result = self.entry(inputs, outputs)
        if self.deferred:
            self._returned[slot] = (inputs, result)
        elif result is not None:
            self._copy(result, self._slots[slot])
        return 0

    def fetch(self, slot: int) -> None:
        """Observe the slot's last call, and copy what it returned into the outputs."""
        inputs, result = self._returned.pop(slot)
        if callable(self._observe):
            self._observe(inputs, result)
        if result is not None:
            self._copy(result, self._slots[slot])

    def report(self) -> JsonObject:
        """What the program reports of itself; {} if it does not."""
        report = self._report() if callable(self._report) else {}
        text = json.dumps(report, allow_nan=False)
        if len(text) > MOST_REPORT_CHARACTERS or not isinstance(report, dict):
            raise CandidateError("report", "the report is too long, or no dictionary")
        known: JsonObject = json.loads(text)
        return known

    def plan(self, slot: int) -> int:
        if self._plan is None:
            raise CandidateError("plan", "the program defines no function plan(inputs)")
        self._plan(self._ready[slot][2])
        return 0

    def _tensor(self, tensor: TensorSpecification, place: Place) -> Tensor:
        torch = self._torch
        dtype = getattr(torch, tensor.dtype)
        count = 1
        for size in place.shape:
            count *= size
        if count == 0:
            empty: Tensor = torch.empty(
                place.shape, dtype=dtype, device="cuda" if place.memory is None else "cpu"
            )
            return empty
        if place.memory is None:
            return device_tensor(place.address, tensor.dtype, place.shape)
        flat: Tensor = torch.frombuffer(place.memory, dtype=dtype, count=count, offset=place.offset)
        return flat.view(place.shape)

    def _copy(self, result: object, tensors: Mapping[str, Tensor]) -> None:
        names = [t.name for t in self._interface.outputs]
        if isinstance(result, dict):
            values = dict(result)
        elif isinstance(result, (tuple, list)):
            values = dict(zip(names, result, strict=False)) if len(result) == len(names) else {}
        else:
            values = {names[0]: result} if len(names) == 1 else {}
        if set(values) != set(names):
            raise CandidateError(
                "shape", f"run returned {_kind(result)}, expected {len(names)} tensors: {names}"
            )
        for name in names:
            value, output = values[name], tensors[name]
            if type(value) is not self._torch.Tensor:
                raise CandidateError("dtype", f"output {name} is {_kind(value)}, expected a tensor")
            if value.shape != output.shape:
                raise CandidateError(
                    "shape",
                    f"output {name} has shape {tuple(value.shape)}, expected {tuple(output.shape)}",
                )
            if value.dtype != output.dtype:
                raise CandidateError(
                    "dtype", f"output {name} has dtype {value.dtype}, expected {output.dtype}"
                )
            if value.data_ptr() != output.data_ptr() or value.stride() != output.stride():
                output.copy_(value)


class _DeviceArray:
    """Memory of the GPU as libraries exchange it (CUDA Array Interface, version 3)."""

    def __init__(self, address: int, count: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (count,), "typestr": "|u1", "data": (address, False), "version": 3,
        }  # fmt: skip


def device_tensor(address: int, dtype: str, shape: Sequence[int]) -> Tensor:
    """A contiguous torch tensor over memory of the current GPU that somebody else owns."""
    import torch

    kind = getattr(torch, dtype)
    size = math.prod(shape) * kind.itemsize
    if not size:
        return torch.empty(*shape, dtype=kind, device="cuda")
    flat: Tensor = torch.as_tensor(_DeviceArray(address, size), device="cuda")
    return flat.view(kind).view(*shape)


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
