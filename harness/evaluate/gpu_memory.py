"""The buffers that a worker on a GPU sees, and the contents that the judge writes into them.

A slot is two allocations of the judge's own, one for all inputs and one for all outputs, laid out
as guard | tensor | guard | tensor | guard. They are made when a workload is bound, so that small
workloads have many slots and large ones few, and given up when the next one is: a confirmation of
many finalists fits the device. How a worker gets them: gpu_sharing.py.

Contents are a seed: the judge draws them in memory of its own, laid out like a slot's inputs, and
copies that into the slot once the call is queued (gpu_gate.py). Both sides' slots, the look for
changed inputs and the reference take the same copy, as long as it is among the latest; otherwise
the seed gives it again. Nothing is computed in memory that was exported.

Covered: fresh contents, poison, changed inputs, late writes, guard bands, memory given back.
Not covered: reads out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import InfraError
from harness.evaluate.gpu_contents import SeedContents, fill
from harness.evaluate.gpu_gate import Gate
from harness.evaluate.gpu_sharing import Memory, slots_within
from harness.evaluate.memory import GUARD_BYTES
from harness.suite import Tensor as Specification
from harness.suite import TorchTask
from harness.types import JsonObject, Workload

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_GUARD = 0xA5
_POISON = 0xFF  # NaN in every float format, -1 in integers
_FREE_SHARE = 0.5
_MOST_KEPT = 8


@dataclass
class _Half:
    """All inputs, or all outputs, of a slot or of a private copy: the piece and a tensor each."""

    piece: torch.Tensor
    views: Tensors


@dataclass
class _Shape:
    """How a half is laid out for the bound workload. gaps: where its guard bands lie."""

    tensors: Sequence[Specification]
    axes: Mapping[str, int]
    offsets: list[int]
    size: int
    gaps: list[tuple[int, int]]

    def half(self, piece: torch.Tensor) -> _Half:
        """A piece of uint8 memory as a half. Its guard bands are the caller's to write."""
        named = zip(self.tensors, self.offsets, strict=True)
        return _Half(piece, {t.name: _view(piece, t, self.axes, at) for t, at in named})


class PrivateInputs:
    """Inputs as the judge draws them, in memory that no worker sees: once for everything that
    needs them. They must not be written.

    device: "cuda" or "cpu", where the judge computes. memory_bytes: how much of the bound
    workload's latest contents is kept, of at most as many as a block and what is drawn beside it.
    """

    def __init__(self, task: TorchTask, device: str, memory_bytes: int) -> None:
        self.task, self.device, self.memory_bytes = task, device, memory_bytes
        self._workload: Workload | None = None
        self._latest: dict[SeedContents, _Half] = {}  # the last one used is the last one here

    def keep_only(self, workload: Workload | None) -> None:
        """Forget what was drawn for other workloads; None: everything."""
        if workload != self._workload:
            self._workload, self._latest = workload, {}

    @contextmanager
    def reading(self, workload: Workload, contents: SeedContents) -> Iterator[Tensors]:
        """The inputs for the task's own code. Raises InfraError if that writes them by torch (which
        counts its writes; a test looks for others)."""
        tensors = self.half(workload, contents).views
        versions = [tensor._version for tensor in tensors.values()]
        with ExitStack() as undo:
            undo.callback(self.keep_only, None)  # what failed halfway may have written, too
            yield tensors
            if versions != [tensor._version for tensor in tensors.values()]:
                raise InfraError(
                    f"Task {self.task.name} writes the inputs that its reference or its work is "
                    "given, and slots are filled from them. Let it copy what it changes."
                )
            undo.pop_all()

    def half(self, workload: Workload, contents: SeedContents) -> _Half:
        """All inputs of a call, laid out like a slot's."""
        self.keep_only(workload)
        half = self._latest.pop(contents, None) or self._drawn(workload, contents)
        self._latest[contents] = half
        most = min(_MOST_KEPT, self.memory_bytes // half.piece.numel())
        while len(self._latest) > max(1, most):
            del self._latest[next(iter(self._latest))]
        return half

    def _drawn(self, workload: Workload, contents: SeedContents) -> _Half:
        import torch

        shape = _shape(self.task.signature.inputs, workload.axes)
        half = shape.half(torch.empty(shape.size, dtype=torch.uint8, device=self.device))
        for start, end in shape.gaps:
            half.piece[start:end].fill_(_GUARD)
        fill(self.task, workload, contents, half.views, self.device)
        return half


class GpuRing:
    """The slots of one side. Implements `program.Ring`.

    inputs: where contents come from. memory_bytes: what the slots may take.
    """

    def __init__(
        self, inputs: PrivateInputs, memory: Memory, gate: Gate, memory_bytes: int
    ) -> None:
        self._private = inputs
        self._signature = inputs.task.signature
        self._memory = memory
        self.gate = gate
        self._device = inputs.device
        self._memory_bytes = memory_bytes
        self._shapes: list[_Shape] = []
        self._slots: list[list[_Half]] = []
        self._given_up: list[torch.Tensor] = []
        self._staged: dict[int, tuple[bool | None, _Half]] = {}  # what a slot gets, or which of it
        self._workload: Workload | None = None
        self.slots = 0

    @property
    def descriptors(self) -> list[int]:
        return [*self._memory.descriptors, *self.gate.descriptors]

    def bind(self, workload: Workload, slots: int | None = None) -> JsonObject:
        self._give_up()
        self._private.keep_only(workload)
        self._make_room()
        self._workload = workload
        axes = workload.axes
        halves = (self._signature.inputs, self._signature.outputs)
        self._shapes = [_shape(tensors, axes) for tensors in halves]
        sizes = [shape.size for shape in self._shapes]
        wanted = slots or slots_within(self._memory_bytes, sum(sizes))
        self.slots = min(wanted, self._memory.most_slots(sizes))
        sources: list[JsonObject] = []
        where: list[dict[str, list[int]]] = []
        for slot in range(self.slots):
            made: list[_Half] = []
            places: dict[str, list[int]] = {}
            for half, shape in enumerate(self._shapes):
                piece, source = self._memory.allocate(slot, half, shape.size)
                piece.fill_(_GUARD)  # guard bands, and over whatever lay there before
                made.append(shape.half(piece))
                for tensor, offset in zip(shape.tensors, shape.offsets, strict=True):
                    places[tensor.name] = [len(sources), offset]
                sources.append(source)
            self._slots.append(made)
            where.append(places)
        self._synchronize()
        gate = self.gate.source
        if self.gate.descriptors:
            gate = gate | {"descriptor": len(self._memory.descriptors)}
        return {
            "op": "bind",
            "workload": {"axes": dict(axes)},
            "memory": sources,
            "gate": gate,
            "slots": where,
        }

    def _make_room(self) -> None:
        """Leave the program what the judge only keeps for its next tensors."""
        import torch

        if self._device == "cuda":
            free, whole = torch.cuda.mem_get_info()
            if free < _FREE_SHARE * whole:
                torch.cuda.empty_cache()

    def release(self) -> JsonObject | None:
        self._give_up()
        axes = {axis.name: 0 for axis in self._signature.axes}
        return {"op": "bind", "workload": {"axes": axes}, "memory": [], "slots": []}

    def _give_up(self) -> None:
        self._given_up += [half.piece for slot in self._slots for half in slot]
        self._slots, self.slots = [], 0
        self._staged = {}

    def freed(self) -> None:
        self._memory.free(self._given_up)
        self._given_up = []

    def write(self, slot: int, contents: SeedContents, *, index: bool | None = None) -> None:
        self._copy(slot, self._private_half(contents).views, index)
        self._synchronize()

    def _copy(self, slot: int, made: Tensors, index: bool | None) -> None:
        for tensor in self._signature.inputs:
            if index is None or tensor.index == index:
                self._inputs(slot)[tensor.name].copy_(made[tensor.name])

    def stage(self, slot: int, contents: SeedContents, *, index: bool | None = None) -> None:
        self._staged[slot] = index, self._private_half(contents)
        self._synchronize()

    def put(self) -> None:
        for slot, (index, half) in self._staged.items():
            if index is None:
                self._slots[slot][0].piece.copy_(half.piece)
            else:
                self._copy(slot, half.views, index)
        self._staged = {}

    def _private_half(self, contents: SeedContents) -> _Half:
        assert self._workload is not None
        return self._private.half(self._workload, contents)

    def _inputs(self, slot: int) -> Tensors:
        return self._slots[slot][0].views

    def _outputs(self, slot: int) -> Tensors:
        return self._slots[slot][1].views

    def poison_inputs(self, slot: int) -> None:
        for tensor in self._signature.inputs:
            if not tensor.index:
                _bytes(self._inputs(slot)[tensor.name]).fill_(_POISON)

    def poison_outputs(self, slot: int) -> None:
        for view in self._outputs(slot).values():
            _bytes(view).fill_(_POISON)

    def unwritten_output(self, slot: int) -> str | None:
        for tensor in self._signature.outputs:
            if "float" in tensor.dtype:
                bits = _bits(self._outputs(slot)[tensor.name])
                if bits.numel() and bool((bits == -1).any()):
                    return tensor.name
        return None

    def outputs(self, slot: int) -> Tensors:
        return {n: v.to(self._device, copy=True) for n, v in self._outputs(slot).items()}

    def changed_input(self, slot: int, contents: SeedContents) -> str | None:
        import torch

        copy = self._private_half(contents)
        there = self._slots[slot][0].piece.to(self._device)
        if torch.equal(there.view(torch.int64), copy.piece.view(torch.int64)):
            return None
        return self._first_difference(self._inputs(slot), copy.views)

    def changed_output(self, slot: int, outputs: Mapping[str, torch.Tensor]) -> str | None:
        return self._first_difference(self._outputs(slot), outputs)

    def _first_difference(
        self, views: Mapping[str, torch.Tensor], copies: Mapping[str, torch.Tensor]
    ) -> str | None:
        import torch

        for name, view in views.items():
            there = view.to(self._device)
            if not torch.equal(_bits(there), _bits(copies[name])):  # NaN equals itself
                return name
        return None

    def broken_guard(self) -> str | None:
        import torch

        bands = [
            (half.piece[start:end], shape.tensors[min(n, len(shape.tensors) - 1)].name)
            for slot in self._slots
            for half, shape in zip(slot, self._shapes, strict=True)
            for n, (start, end) in enumerate(shape.gaps)
        ]
        if not bool((torch.cat([band for band, _ in bands]) != _GUARD).any()):
            return None
        return next(name for band, name in bands if bool((band != _GUARD).any()))

    def close(self) -> None:
        """After the worker's end."""
        self._give_up()
        try:
            self.freed()
        finally:
            self._memory.close()
            self.gate.close()

    def _synchronize(self) -> None:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()


def layout(tensors: Sequence[Specification], axes: Mapping[str, int]) -> tuple[list[int], int]:
    """Where each tensor of a half begins, and the half's size: guards between and around them."""
    offsets, position = [], 0
    for tensor in tensors:
        position += GUARD_BYTES
        offsets.append(position)
        position += -(-tensor.bytes(axes) // 256) * 256
    return offsets, position + GUARD_BYTES


def _shape(tensors: Sequence[Specification], axes: Mapping[str, int]) -> _Shape:
    """The layout of a half; its guard bands lie between, before and behind its tensors."""
    offsets, size = layout(tensors, axes)
    ends = [offset + t.bytes(axes) for offset, t in zip(offsets, tensors, strict=True)]
    return _Shape(
        tensors, axes, offsets, size, list(zip([0, *ends], [*offsets, size], strict=True))
    )


def _view(
    piece: torch.Tensor, tensor: Specification, axes: Mapping[str, int], offset: int
) -> torch.Tensor:
    import torch

    part = piece[offset : offset + tensor.bytes(axes)]
    return part.view(getattr(torch, tensor.dtype)).view(tensor.sizes(axes))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.view(-1).view(torch.uint8)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The elements as integers of their size."""
    import torch

    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(-1).view(kinds[tensor.element_size()])
