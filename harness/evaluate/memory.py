"""The buffers that a worker sees: judge-made, one allocation each, guarded, never the judge's own.

Each tensor of each ring slot is a shared-memory file of its own (memfd), sealed against resizing (a
worker that shrank it would kill the judge by SIGBUS), laid out as guard | payload | guard. The
judge keeps its own private copy of every input and never computes in exported memory.

Covered: poisoning of outputs, comparison of inputs against the private copy, guard bands.
Not covered: reads out of bounds (no trace is left in memory).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable, Mapping

import numpy as np

from harness.suite import Array, Arrays, Signature, Tensor
from harness.types import JsonObject, Workload

GUARD_BYTES = 4096
_GUARD = 0xA5  # not the poison, so that an overwrite by poison shows too
_POISON = 0xFF  # NaN in every float format, -1 in integers
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """One tensor's memory in one slot. capacity_bytes: the largest payload that it must hold."""

    def __init__(self, name: str, capacity_bytes: int) -> None:
        self.size = 2 * GUARD_BYTES + -(-max(capacity_bytes, 1) // 4096) * 4096
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, self.size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self._map = mmap.mmap(self.descriptor, self.size)
        self.bytes: Array = np.frombuffer(self._map, dtype=np.uint8)
        self._payload_bytes = 0

    def bind(self, dtype: str, shape: tuple[int, ...]) -> Array:
        """The payload as an array; everything around it becomes guard."""
        count = int(np.prod(shape, dtype=np.int64))
        self._payload_bytes = count * np.dtype(dtype).itemsize
        end = GUARD_BYTES + self._payload_bytes
        self.bytes[:GUARD_BYTES] = _GUARD
        self.bytes[end : end + GUARD_BYTES] = _GUARD
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=GUARD_BYTES).reshape(shape)

    def poison(self) -> None:
        """Overwrite the payload, so that an output that is not written is seen."""
        self.bytes[GUARD_BYTES : GUARD_BYTES + self._payload_bytes] = _POISON

    def guards_intact(self) -> bool:
        """Whether nothing was written outside the payload."""
        end = GUARD_BYTES + self._payload_bytes
        head, tail = self.bytes[:GUARD_BYTES], self.bytes[end : end + GUARD_BYTES]
        return bool((head == _GUARD).all() and (tail == _GUARD).all())

    def close(self) -> None:
        os.close(self.descriptor)  # the mapping goes with the last array that refers to it


class HostRing:
    """`slots` copies of a task's tensors, big enough for every one of `workloads`."""

    gate: None = None  # a call is written, and then asked for

    def __init__(self, signature: Signature, workloads: Iterable[Workload], slots: int) -> None:
        self.signature = signature
        self.slots = slots
        sizes = list(workloads)
        self._segments: list[dict[str, Segment]] = [
            {
                tensor.name: Segment(tensor.name, max(tensor.bytes(w.axes) for w in sizes))
                for tensor in (*signature.inputs, *signature.outputs)
            }
            for _ in range(slots)
        ]
        self.views: list[Arrays] = []

    @property
    def descriptors(self) -> list[int]:
        """All segments' descriptors, slot by slot, in signature order."""
        return [s.descriptor for slot in self._segments for s in slot.values()]

    def bind(self, workload: Workload, slots: int | None = None) -> JsonObject:
        """Shape every slot for a workload. Returns the message by which the worker does the
        same."""
        tensors = (*self.signature.inputs, *self.signature.outputs)
        self.views = [
            {t.name: slot[t.name].bind(t.dtype, t.sizes(workload.axes)) for t in tensors}
            for slot in self._segments
        ]
        names = [tensor.name for tensor in tensors]
        return {
            "op": "bind",
            "workload": {"axes": dict(workload.axes)},
            "slots": [
                {name: [s * len(names) + k, GUARD_BYTES] for k, name in enumerate(names)}
                for s in range(self.slots)
            ],
        }

    def release(self) -> None:
        """Nothing: the memory serves all workloads."""

    def freed(self) -> None:
        """Nothing was given up."""

    def write(self, slot: int, inputs: Mapping[str, Array], *, index: bool | None = None) -> None:
        """Copy private inputs into a slot: all of them, or only those that are (not) index
        metadata."""
        view = self.views[slot]
        for tensor in self.signature.inputs:
            if index is None or tensor.index == index:
                np.copyto(view[tensor.name], inputs[tensor.name])

    def stage(self, slot: int, inputs: Mapping[str, Array], *, index: bool | None = None) -> None:
        """Write them: there is no gate."""
        self.write(slot, inputs, index=index)

    def put(self) -> None:
        """Nothing: it was written."""

    def poison_inputs(self, slot: int) -> None:
        """Overwrite everything in a slot but its index metadata, as before a plan call."""
        for tensor in self.signature.inputs:
            if not tensor.index:
                self._segments[slot][tensor.name].poison()

    def poison_outputs(self, slot: int) -> None:
        for tensor in self.signature.outputs:
            self._segments[slot][tensor.name].poison()

    def unwritten_output(self, slot: int) -> str | None:
        """The first floating-point output of a slot that still holds poison somewhere, if any.

        The poison is one NaN pattern of 2**23 (float32) that arithmetic does not make.
        """
        for tensor in self.signature.outputs:
            if tensor.dtype.startswith("float"):
                view = self.views[slot][tensor.name]
                bits = view.reshape(-1).view(f"u{view.dtype.itemsize}")
                if (bits == np.iinfo(bits.dtype).max).any():
                    return tensor.name
        return None

    def outputs(self, slot: int) -> Arrays:
        """Private copies of a slot's outputs."""
        return {t.name: self.views[slot][t.name].copy() for t in self.signature.outputs}

    def changed_input(self, slot: int, inputs: Mapping[str, Array]) -> str | None:
        """The first input tensor whose bytes differ from the private copy, if any."""
        return _first_difference(self.views[slot], inputs, self.signature.inputs)

    def changed_output(self, slot: int, outputs: Mapping[str, Array]) -> str | None:
        """The first output tensor whose bytes differ from the private copy, if any."""
        return _first_difference(self.views[slot], outputs, self.signature.outputs)

    def broken_guard(self) -> str | None:
        """The first tensor next to which something was written, if any."""
        for slot in self._segments:
            for name, segment in slot.items():
                if not segment.guards_intact():
                    return name
        return None

    def close(self) -> None:
        self.views = []
        for slot in self._segments:
            for segment in slot.values():
                segment.close()
        self._segments = []


def private_inputs(signature: Signature, workload: Workload) -> Arrays:
    """Zeroed arrays of the judge's own for one call's inputs."""
    return {t.name: np.zeros(t.sizes(workload.axes), t.dtype) for t in signature.inputs}


def _first_difference(
    view: Mapping[str, Array], copy: Mapping[str, Array], tensors: tuple[Tensor, ...]
) -> str | None:
    for tensor in tensors:
        left = view[tensor.name].reshape(-1).view(np.uint8)  # bytes: NaN equals itself
        right = np.ascontiguousarray(copy[tensor.name]).reshape(-1).view(np.uint8)
        if not np.array_equal(left, right):
            return tensor.name
    return None
