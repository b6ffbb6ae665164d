"""A Python candidate in its worker: a file that defines `run(inputs, outputs)` on torch tensors.

    def run(inputs, outputs): ...    # writes outputs.<name>, or returns a tensor, tuple or dict
    def plan(inputs): ...            # optional; inputs that are not index metadata are None

inputs and outputs hold a CPU tensor per tensor of the signature, inputs also an int per axis. What
is returned is copied into the outputs within the call: a tuple in the signature's order, a dict by
name.

Covered: fresh containers and tensor objects for every call; exact type, shape and dtype of what is
returned. Not covered: any isolation from the candidate, which shares this interpreter.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from torch import Tensor

MODULE_NAME = "candidate"


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
        self._run: Callable[[SimpleNamespace, SimpleNamespace], object] = run
        self._plan: Callable[[SimpleNamespace], object] | None = getattr(module, "plan", None)
        self.has_plan = callable(self._plan)
        self._axes: dict[str, int] = {}
        self._slots: list[dict[str, Tensor]] = []
        self._ready: dict[int, tuple[SimpleNamespace, SimpleNamespace, SimpleNamespace]] = {}

    def bind(self, axes: Mapping[str, int], slots: Sequence[Slot]) -> int:
        interface = self._interface
        self._axes = {name: axes[name] for name in interface.axes}
        tensors = (*interface.inputs, *interface.outputs)
        self._slots = [{t.name: self._tensor(t, slot[t.name]) for t in tensors} for slot in slots]
        for slot in range(len(self._slots)):
            self.renew(slot)
        return 0

    def renew(self, slot: int) -> None:
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
        result = self._run(inputs, outputs)
        if result is not None:
            self._copy(result, self._slots[slot])
        return 0

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
            empty: Tensor = torch.empty(place.shape, dtype=dtype)
            return empty
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


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
