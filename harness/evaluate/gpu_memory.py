"""The buffers that a worker on a GPU sees, and the contents that the judge writes into them.

A slot is two allocations of the judge's own, one for all inputs and one for all outputs, laid out
as guard | tensor | guard | tensor | guard. They are made when a workload is bound, so that small
workloads have many slots and large ones few, and given up when the next one is: a confirmation of
many finalists fits the device. A worker gets them by CUDA IPC (`IpcMemory`); where that is missing,
as host memory that it copies (`HostMemory`), which is also what a GPU task on a CPU device uses.

Contents are a seed: the judge fills a slot in place before each call, and makes the same contents
again in memory of its own to compare a slot with them or to compute expected values. Nothing is
computed in memory that was exported.

Covered: fresh contents, poison, changed inputs, late writes, guard bands, memory given back.
Not covered: reads out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.evaluate.cuda_driver import Driver
from harness.evaluate.memory import GUARD_BYTES, Segment
from harness.evaluate.python_program import device_tensor
from harness.suite import Tensor as Specification
from harness.suite import TorchTask
from harness.types import JsonObject, Workload

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_GUARD = 0xA5
_POISON = 0xFF  # NaN in every float format, -1 in integers
_ALLOCATION = 2 << 20  # the driver's granularity: an allocation of its own never shares a page
_MOST_SLOTS = 12


@dataclass(frozen=True)
class SeedContents:
    """One call's inputs: what the task's `fill` draws from a seed; with `flip`, one element of
    every floating-point tensor is then changed, at places that derive from it."""

    seed: int
    flip: int | None = None


class Memory(Protocol):
    """Where slots come from."""

    @property
    def descriptors(self) -> list[int]: ...

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
    descriptors are handed over when a worker starts. sizes: of the largest workload's halves."""

    def __init__(self, sizes: tuple[int, int], slots: int) -> None:
        self._segments = [[Segment(f"slot{s}", size) for size in sizes] for s in range(slots)]

    @property
    def descriptors(self) -> list[int]:
        return [segment.descriptor for halves in self._segments for segment in halves]

    def allocate(self, slot: int, half: int, size: int) -> tuple[torch.Tensor, JsonObject]:
        import torch

        view = torch.from_numpy(self._segments[slot][half].bytes[:size])
        return view, {"slot": slot, "bytes": size, "descriptor": 2 * slot + half}

    def free(self, pieces: Sequence[torch.Tensor]) -> None:
        """The next workload takes the same memory."""

    def close(self) -> None:
        for halves in self._segments:
            for segment in halves:
                segment.close()


@dataclass
class _Slot:
    """The judge's views of one slot: its two pieces, and a tensor each."""

    pieces: list[torch.Tensor]
    views: Tensors


class GpuRing:
    """The slots of one side. Implements `program.Ring`.

    device: "cuda" or "cpu", where the judge computes. memory_bytes: what the slots may take.
    """

    def __init__(self, task: TorchTask, memory: Memory, device: str, memory_bytes: int) -> None:
        self._task = task
        self._signature = task.signature
        self._memory = memory
        self._device = device
        self._memory_bytes = memory_bytes
        self._slots: list[_Slot] = []
        self._gaps: list[list[tuple[int, int]]] = []  # where the guard bands of each half lie
        self._given_up: list[torch.Tensor] = []
        self._private: Tensors = {}
        self._workload: Workload | None = None
        self.slots = 0

    @property
    def descriptors(self) -> list[int]:
        return self._memory.descriptors

    def bind(self, workload: Workload, slots: int | None = None) -> JsonObject:
        self._give_up()
        self._workload = workload
        axes = workload.axes
        halves = (self._signature.inputs, self._signature.outputs)
        layouts = [layout(tensors, axes) for tensors in halves]
        self._gaps = [_gaps(t, axes, made) for t, made in zip(halves, layouts, strict=True)]
        self.slots = slots or slots_within(self._memory_bytes, sum(size for _, size in layouts))
        sources: list[JsonObject] = []
        where: list[dict[str, list[int]]] = []
        for slot in range(self.slots):
            made, places, pieces = {}, {}, []
            for half, (tensors, (offsets, size)) in enumerate(zip(halves, layouts, strict=True)):
                piece, source = self._memory.allocate(slot, half, size)
                piece.fill_(_GUARD)
                pieces.append(piece)
                for tensor, offset in zip(tensors, offsets, strict=True):
                    made[tensor.name] = _view(piece, tensor, axes, offset)
                    places[tensor.name] = [len(sources), offset]
                sources.append(source)
            self._slots.append(_Slot(pieces, made))
            where.append(places)
        return {"op": "bind", "workload": {"axes": dict(axes)}, "memory": sources, "slots": where}

    def release(self) -> JsonObject | None:
        self._give_up()
        axes = {axis.name: 0 for axis in self._signature.axes}
        return {"op": "bind", "workload": {"axes": axes}, "memory": [], "slots": []}

    def _give_up(self) -> None:
        self._given_up += [piece for slot in self._slots for piece in slot.pieces]
        self._slots, self._private, self.slots = [], {}, 0

    def freed(self) -> None:
        self._memory.free(self._given_up)
        self._given_up = []

    def write(self, slot: int, contents: SeedContents, *, index: bool | None = None) -> None:
        views = {t.name: self._slots[slot].views[t.name] for t in self._signature.inputs}
        if index is None and next(iter(views.values())).device.type == self._device:
            self._fill(contents, views)
        else:
            made = self.private(contents)
            for tensor in self._signature.inputs:
                if index is None or tensor.index == index:
                    views[tensor.name].copy_(made[tensor.name])
        self._synchronize()

    def private(self, contents: SeedContents) -> Tensors:
        """The same contents in memory that no worker sees. Valid until the next call."""
        assert self._workload is not None
        if not self._private:
            self._private = empty_tensors(self._signature.inputs, self._workload, self._device)
        self._fill(contents, self._private)
        return self._private

    def _fill(self, contents: SeedContents, tensors: Tensors) -> None:
        assert self._workload is not None
        fill(self._task, self._workload, contents, tensors, self._device)

    def poison_inputs(self, slot: int) -> None:
        for tensor in self._signature.inputs:
            if not tensor.index:
                _bytes(self._slots[slot].views[tensor.name]).fill_(_POISON)

    def poison_outputs(self, slot: int) -> None:
        for tensor in self._signature.outputs:
            _bytes(self._slots[slot].views[tensor.name]).fill_(_POISON)

    def unwritten_output(self, slot: int) -> str | None:
        for tensor in self._signature.outputs:
            if "float" in tensor.dtype:
                bits = _bits(self._slots[slot].views[tensor.name])
                if bits.numel() and bool((bits == -1).any()):
                    return tensor.name
        return None

    def outputs(self, slot: int) -> Tensors:
        names = [tensor.name for tensor in self._signature.outputs]
        return {n: self._slots[slot].views[n].to(self._device, copy=True) for n in names}

    def changed_input(self, slot: int, contents: SeedContents) -> str | None:
        made = self.private(contents)
        return self._first_difference(slot, made, self._signature.inputs)

    def changed_output(self, slot: int, outputs: Mapping[str, torch.Tensor]) -> str | None:
        return self._first_difference(slot, outputs, self._signature.outputs)

    def _first_difference(
        self, slot: int, copies: Mapping[str, torch.Tensor], tensors: Iterable[Specification]
    ) -> str | None:
        import torch

        for tensor in tensors:
            view = self._slots[slot].views[tensor.name].to(self._device)
            if not torch.equal(_bits(view), _bits(copies[tensor.name])):  # NaN equals itself
                return tensor.name
        return None

    def broken_guard(self) -> str | None:
        import torch

        halves = (self._signature.inputs, self._signature.outputs)
        for slot in self._slots:
            for piece, tensors, gaps in zip(slot.pieces, halves, self._gaps, strict=True):
                bands = [piece[start:end] for start, end in gaps]
                if bool((torch.cat(bands) != _GUARD).any()):
                    wrong = [bool((band != _GUARD).any()) for band in bands]
                    return tensors[min(wrong.index(True), len(tensors) - 1)].name
        return None

    def close(self) -> None:
        """After the worker's end."""
        self._give_up()
        self.freed()
        self._memory.close()

    def _synchronize(self) -> None:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()


def slots_within(memory_bytes: int, slot_bytes: int) -> int:
    """How many slots of this size: as many as fit, at least 2 and at most 12."""
    return min(_MOST_SLOTS, max(2, memory_bytes // max(slot_bytes, 1)))


def layout(tensors: Sequence[Specification], axes: Mapping[str, int]) -> tuple[list[int], int]:
    """Where each tensor of a half begins, and the half's size: guards between and around them."""
    offsets, position = [], 0
    for tensor in tensors:
        position += GUARD_BYTES
        offsets.append(position)
        position += -(-tensor.bytes(axes) // 256) * 256
    return offsets, position + GUARD_BYTES


def _gaps(
    tensors: Sequence[Specification], axes: Mapping[str, int], made: tuple[list[int], int]
) -> list[tuple[int, int]]:
    """What lies between, before and behind the tensors of a half."""
    offsets, size = made
    ends = [offset + t.bytes(axes) for offset, t in zip(offsets, tensors, strict=True)]
    return list(zip([0, *ends], [*offsets, size], strict=True))


def empty_tensors(tensors: Iterable[Specification], workload: Workload, device: str) -> Tensors:
    """Uninitialised private tensors of a workload."""
    import torch

    return {
        t.name: torch.empty(t.sizes(workload.axes), dtype=getattr(torch, t.dtype), device=device)
        for t in tensors
    }


def fill(
    task: TorchTask, workload: Workload, contents: SeedContents, tensors: Tensors, device: str
) -> None:
    """Write a call's contents into its input tensors on `device`."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(contents.seed)
    task.fill(workload, generator, tensors)
    if contents.flip is None:
        return
    places = torch.Generator()
    places.manual_seed(contents.flip)
    for tensor in task.signature.inputs:
        flat = tensors[tensor.name].view(-1)
        if tensor.index or tensor.fixed or not flat.is_floating_point() or not flat.numel():
            continue
        position = int(torch.randint(flat.numel(), (1,), generator=places))
        element = flat[position : position + 1]
        element.copy_(torch.where(element.isfinite(), 1 - element, 1))


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

    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(-1).view(kinds[tensor.element_size()])
