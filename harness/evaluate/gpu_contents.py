"""The contents of one call on a GPU: a seed, from which a task's `fill` draws its inputs.

Covered: the same contents again from the same seed, on one device; near-duplicates.
Not covered: where they lie (gpu_memory.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.suite import Tensor as Specification
from harness.suite import TorchTask
from harness.types import Workload

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SeedContents:
    """One call's inputs: what the task's `fill` draws from a seed; with `flip`, one element of
    every floating-point tensor is then changed, at places that derive from it."""

    seed: int
    flip: int | None = None


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
        # 8-bit types have no arithmetic of their own.
        value = element.float() if element.element_size() == 1 else element
        element.copy_(torch.where(value.isfinite(), 1 - value, 1))
