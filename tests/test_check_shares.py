"""Tolerances with a share and exact zeros, alike in both checks; 8-bit types; notes of a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.evaluate.check import compare, near
from harness.evaluate.gpu_check import compare_tensors, near_tensors
from harness.evaluate.gpu_contents import SeedContents, empty_tensors, fill
from harness.evaluate.gpu_gate import HostGate
from harness.evaluate.gpu_memory import GpuRing, PrivateInputs, layout
from harness.evaluate.gpu_sharing import HostMemory
from harness.evaluate.header import cpp_header
from harness.suite import Axis, Signature, Tensor, Tolerance, TorchTask, Work
from harness.types import Workload
from reports.manifest import read_comparison
from tests.fake_comparison import write_comparison
from tests.toy_gpu_suite import ScaleRows

SHARE = Tolerance(1e-3, 1e-3, 0.5, "test", matched=0.9)
ZEROS = Tolerance(1e-3, 1e-3, 0.5, "test", matched=0.9, exact_zeros=True)


def verdict(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> bool:
    """Whether it is correct; both implementations must say the same, in the same words."""
    ours = compare("y", actual, expected, tolerance)
    theirs = compare_tensors(
        "y", torch.from_numpy(actual), torch.from_numpy(expected.copy()), tolerance
    )
    assert ours == theirs
    return ours is None


def changed(reference: np.ndarray, count: int, value: float) -> np.ndarray:
    """The reference with its last `count` elements replaced."""
    actual = reference.astype(np.float32)
    actual[actual.size - count :] = value
    return actual


@pytest.mark.parametrize(("count", "correct"), [(0, True), (2, True), (3, False)])
def test_a_share_of_the_elements_may_be_outside_the_elementwise_rule(
    count: int, correct: bool
) -> None:
    reference = np.ones(20)
    assert verdict(changed(reference, count, 1.01), reference, SHARE) is correct
    baseline = reference.astype(np.float32)
    actual = changed(reference, count, 1.01)
    assert near(actual, baseline, SHARE) is correct
    pair = torch.from_numpy(actual), torch.from_numpy(baseline)
    assert near_tensors(*pair, SHARE) is correct


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_share_excuses_an_element_that_is_not_finite(value: float) -> None:
    reference = np.ones(100)
    actual = changed(reference, 1, value)
    assert not verdict(actual, reference, SHARE)
    baseline = reference.astype(np.float32)
    assert not near(actual, baseline, SHARE)
    assert not near_tensors(torch.from_numpy(actual), torch.from_numpy(baseline), SHARE)


def test_no_share_excuses_a_large_norm() -> None:
    reference = np.ones(100)
    assert not verdict(changed(reference, 1, 50.0), reference, SHARE)


def test_zeros_must_be_exact_and_do_not_count_for_the_share() -> None:
    reference = np.concatenate([np.zeros(100), np.ones(20)])
    assert verdict(changed(reference, 2, 1.01), reference, ZEROS)
    assert not verdict(changed(reference, 3, 1.01), reference, ZEROS)
    assert verdict(changed(reference, 3, 1.01), reference, SHARE)
    nearly = reference.astype(np.float32)
    nearly[0] = 1e-6
    assert not verdict(nearly, reference, ZEROS)
    assert verdict(nearly, reference, SHARE)


class Halves(ScaleRows):
    """x [rows, n] in 8 bits."""

    signature = Signature(
        axes=(Axis("rows", "rows"), Axis("n", "columns")),
        inputs=(Tensor("x", "float8_e4m3fn", ("rows", "n"), "values"),),
        outputs=(Tensor("y", "float8_e4m3fn", ("rows", "n"), "halves"),),
    )

    def fill(
        self, workload: Workload, generator: torch.Generator, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        drawn = torch.empty(inputs["x"].shape, device=inputs["x"].device)
        inputs["x"].copy_(drawn.normal_(generator=generator))

    def work(self, workload: Workload, inputs: Mapping[str, Any]) -> Work:
        return Work(1.0, 1.0)


def test_an_8_bit_tensor_is_made_flipped_poisoned_and_compared() -> None:
    task: TorchTask = Halves()
    workload = Workload("rows3_n8", {"rows": 3, "n": 8})
    whole = empty_tensors(task.signature.inputs, workload, "cpu")
    fill(task, workload, SeedContents(3), whole, "cpu")
    flipped = empty_tensors(task.signature.inputs, workload, "cpu")
    fill(task, workload, SeedContents(3, flip=2), flipped, "cpu")
    changes = (whole["x"].view(torch.uint8) != flipped["x"].view(torch.uint8)).sum()
    assert changes == 1
    assert bool(flipped["x"].float().isfinite().all())

    sizes = [layout(t, workload.axes)[1] for t in (task.signature.inputs, task.signature.outputs)]
    ring = GpuRing(
        PrivateInputs(task, "cpu", 1 << 20), HostMemory([sizes], 1 << 20), HostGate(), 1 << 20
    )
    try:
        ring.bind(workload, 2)
        ring.write(0, SeedContents(3))
        ring.poison_outputs(0)
        assert ring.unwritten_output(0) == "y"
        assert bool(ring.outputs(0)["y"].float().isnan().all())
        ring._outputs(0)["y"].copy_(whole["x"])
        assert ring.unwritten_output(0) is None
        assert ring.changed_input(0, SeedContents(3)) is None
        ring._inputs(0)["x"].view(torch.uint8)[1, 2] ^= 1
        assert ring.changed_input(0, SeedContents(3)) == "x"
    finally:
        ring.close()


def test_8_bit_outputs_are_compared_with_their_tolerance() -> None:
    tolerance = Tolerance(1e-3, 0.1, 0.1, "test")
    expected = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    actual = expected.to(torch.float8_e4m3fn)
    assert compare_tensors("y", actual, expected, tolerance) is None
    assert near_tensors(actual, actual.clone(), tolerance)
    wrong = (expected * 1.5).to(torch.float8_e4m3fn)
    assert compare_tensors("y", wrong, expected, tolerance) is not None
    assert not near_tensors(wrong, actual, tolerance)


def test_the_cuda_header_has_the_8_bit_type() -> None:
    header = cpp_header(Halves.signature, "cuda")
    assert "#include <cuda_fp8.h>" in header
    assert "const __nv_fp8_e4m3* x;  // [rows, n] values" in header


def test_a_tasks_notes_are_among_the_settings_of_a_report(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "comparison")
    path = folder / "comparison.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"notes": {"some task": {"inputs": "synthesised"}}}))
    assert ("some task.inputs", "synthesised") in read_comparison(folder).settings
