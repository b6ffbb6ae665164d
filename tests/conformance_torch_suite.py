"""The contract that every suite of `TorchTask`s keeps: inherit `TorchSuiteContract`, set `suite`.

Covered: what `SuiteContract` covers, on torch tensors of the CPU: names, splits, input contents,
references, tolerances, work, baselines, starts and design spaces. Contents are checked on small
workloads only (`small_elements`), baselines but the first on the smallest one only.
Not covered: GPUs; large workloads; whether candidates are correct; that `fill` never synchronises.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from harness.suite import Tensor as TensorSpecification
from harness.suite import TorchTask
from harness.types import Workload
from tests.conformance_suite import SuiteContract, accepts

Tensors = dict[str, torch.Tensor]
Sized = list[tuple[TorchTask, Workload]]


def allocate(tensors: tuple[TensorSpecification, ...], workload: Workload) -> Tensors:
    """CPU tensors, filled with bytes 0xA5."""
    made: Tensors = {}
    for tensor in tensors:
        made[tensor.name] = torch.empty(
            tensor.sizes(workload.axes), dtype=getattr(torch, tensor.dtype)
        )
        made[tensor.name].view(torch.uint8).fill_(0xA5)
    return made


def filled(task: TorchTask, workload: Workload, seed: int) -> Tensors:
    """One call's inputs."""
    inputs = allocate(task.signature.inputs, workload)
    task.fill(workload, torch.Generator().manual_seed(seed), inputs)
    return inputs


def accepted(task: TorchTask, results: Tensors, expected: Tensors) -> bool:
    """Whether every output is within its tolerance."""
    return all(
        accepts(task.tolerances[n], results[n].double().numpy(), expected[n].numpy())
        for n in expected
    )


def loaded(source: str) -> Callable[[SimpleNamespace, SimpleNamespace], object]:
    """`run` of a program in the python language."""
    namespace: dict[str, object] = {}
    exec(compile(source, "program", "exec"), namespace)
    return namespace["run"]  # type: ignore[return-value]


def outputs_of(source: str, task: TorchTask, workload: Workload, inputs: Tensors) -> Tensors:
    """What a program that writes its outputs in place computes."""
    results = allocate(task.signature.outputs, workload)
    loaded(source)(SimpleNamespace(**workload.axes, **inputs), SimpleNamespace(**results))
    return results


def elements(task: TorchTask, workload: Workload) -> int:
    tensors = (*task.signature.inputs, *task.signature.outputs)
    return sum(torch.Size(t.sizes(workload.axes)).numel() for t in tensors)


class TorchSuiteContract(SuiteContract):
    """Inherit, set `suite`, and every test of both classes runs on your tasks."""

    small_elements = 6_000_000  # of inputs and outputs together

    @pytest.fixture
    def small(self, tasks: tuple[TorchTask, ...]) -> Sized:
        return [
            (t, w)
            for t in tasks
            for w in t.workloads.values()
            if elements(t, w) <= self.small_elements
        ]

    def test_tasks_are_torch_tasks_with_small_workloads(
        self, tasks: tuple[TorchTask, ...], small: Sized
    ) -> None:
        assert all(isinstance(t, TorchTask) and t.device == "cuda" for t in tasks)
        assert {t.name for t, _ in small} == {t.name for t in tasks}

    def test_splits_are_large_enough_and_held_out_is_apart(
        self, tasks: tuple[TorchTask, ...]
    ) -> None:
        """As for a NumpyTask, but search may be all of final, as where a paper scores that."""
        for task in tasks:
            splits = [task.search, task.final, task.held_out, task.tests]
            assert all(len({w.name for w in s}) == len(s) for s in splits)
            search, final, held_out, tests = ({w.name for w in s} for s in splits)
            assert search
            assert search <= final
            assert len(held_out) >= 4
            assert not held_out & (final | tests)
            for split in splits:
                assert all(dict(task.workloads[w.name].axes) == dict(w.axes) for w in split)

    def test_fill_writes_every_element(self, small: Sized) -> None:
        for task, workload in small:
            for name, tensor in filled(task, workload, 0).items():
                written = (tensor.view(torch.uint8) != 0xA5).view(*tensor.shape, -1).any(-1)
                # An element of one byte may rightly hold this one.
                least = 1.0 if tensor.element_size() > 1 else 0.95
                assert written.double().mean() >= least, (task.name, workload.name, name)

    def test_fill_is_a_function_of_the_generator(self, small: Sized) -> None:
        for task, workload in small:
            first, again = filled(task, workload, 7), filled(task, workload, 7)
            assert all(torch.equal(first[n], again[n]) for n in first)

    def test_no_call_repeats_the_contents_of_another(self, small: Sized) -> None:
        """Masks aside: tensors of one value or two."""
        for task, workload in small:
            inputs = allocate(task.signature.inputs, workload)
            generator = torch.Generator().manual_seed(3)
            task.fill(workload, generator, inputs)
            before = {name: tensor.clone() for name, tensor in inputs.items()}
            task.fill(workload, generator, inputs)
            for name, tensor in inputs.items():
                mask = tensor.view(-1)[:4096].float().unique().numel() <= 2
                if tensor.is_floating_point() and not mask:
                    same = tensor.float() == before[name].float()
                    assert same.double().mean() < 0.5, name

    def test_references_are_new_float64_arrays_and_leave_the_inputs_alone(
        self, small: Sized
    ) -> None:
        for task, workload in small:
            inputs = filled(task, workload, 1)
            before = {name: tensor.clone() for name, tensor in inputs.items()}
            expected = task.reference(workload, inputs)
            assert all(torch.equal(inputs[n], before[n]) for n in inputs)
            assert list(expected) == [t.name for t in task.signature.outputs]
            pointers = {t.untyped_storage().data_ptr() for t in inputs.values()}
            for tensor in task.signature.outputs:
                result = expected[tensor.name]
                assert tuple(result.shape) == tensor.sizes(workload.axes)
                assert result.is_contiguous()
                if tensor.dtype not in ("int32", "int64"):
                    assert result.dtype == torch.float64
                assert not result.isnan().any()
                assert result.untyped_storage().data_ptr() not in pointers

    def test_work_is_positive(self, small: Sized) -> None:
        for task, workload in small:
            inputs = filled(task, workload, 2)
            before = {n: t.view(torch.uint8).clone() for n, t in inputs.items()}
            work = task.work(workload, inputs)
            assert work.flops > 0
            assert work.bytes > 0
            assert all(torch.equal(t.view(torch.uint8), before[n]) for n, t in inputs.items())

    def test_tolerances_accept_the_rounded_reference_and_reject_garbage(self, small: Sized) -> None:
        for task, workload in small:
            expected = task.reference(workload, filled(task, workload, 4))
            rounded = {
                t.name: expected[t.name].to(getattr(torch, t.dtype)) for t in task.signature.outputs
            }
            assert accepted(task, rounded, expected)
            garbage = allocate(task.signature.outputs, workload)
            assert not accepted(task, garbage, expected)

    def test_python_baselines_are_correct_on_every_workload(
        self, small: Sized, request: pytest.FixtureRequest
    ) -> None:
        """The first baseline on every small workload, the others on each task's smallest. A program
        that several tasks share is compiled once."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # other tests' OpenMP runtimes spin beside torch's
        request.addfinalizer(lambda: torch.set_num_threads(threads))
        seen: set[str] = set()
        for task, workload in sorted(small, key=lambda sized: elements(*sized)):
            assert task.baselines
            inputs = filled(task, workload, 5)
            expected = task.reference(workload, inputs)
            for baseline in task.baselines:
                assert baseline.name
                assert baseline.version
                first = baseline is task.baselines[0]
                if baseline.language != "python" or (not first and baseline.source in seen):
                    continue
                seen.add(baseline.source)
                results = outputs_of(baseline.source, task, workload, inputs)
                assert accepted(task, results, expected), (task.name, workload.name, baseline.name)
