"""The contract that every suite keeps: inherit `SuiteContract` and set `suite`.

Covered: names, splits, input contents, references, tolerances, work, baselines (Python language,
torch on a CPU), starts and design spaces, all without a compiler or an evaluator.
Not covered: whether programs compile and are correct; a suite's own tests show that.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from harness.design_space import configurations_in
from harness.errors import UnknownName
from harness.suite import Array, Arrays, Suite, Task, Tensor, Tolerance
from harness.types import LANGUAGES, Workload


def allocate(tensors: tuple[Tensor, ...], workload: Workload) -> Arrays:
    """Arrays of every tensor, filled with bytes 0xA5."""
    arrays: Arrays = {}
    for tensor in tensors:
        sizes = tensor.sizes(workload.axes)
        arrays[tensor.name] = np.empty(sizes, np.dtype(tensor.dtype))
        arrays[tensor.name].view(np.uint8)[...] = 0xA5
    return arrays


def filled(task: Task, workload: Workload, seed: int) -> Arrays:
    """One call's inputs."""
    inputs = allocate(task.signature.inputs, workload)
    task.fill(workload, np.random.default_rng(seed), inputs)
    return inputs


def accepts(tolerance: Tolerance, result: Array, expected: Array) -> bool:
    """The rule in `Tolerance`'s docstring, written out independently of the evaluator."""
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(result)):
        return False
    if not np.array_equal(result[~finite], expected[~finite]):
        return False
    error = np.abs(result[finite].astype(np.float64) - expected[finite])
    size = np.abs(expected[finite])
    if tolerance.exact_zeros and np.any(result[expected == 0] != 0):
        return False
    counted = size > 0 if tolerance.exact_zeros else np.ones(size.shape, dtype=bool)
    outside = (error > tolerance.absolute + tolerance.relative * size) & counted
    if np.sum(outside) > (1 - tolerance.matched) * np.sum(counted):
        return False
    return bool(np.linalg.norm(error) <= tolerance.norm * np.linalg.norm(size))


def accepted(task: Task, results: Arrays, expected: Arrays) -> bool:
    """Whether every output is within its tolerance."""
    return all(accepts(task.tolerances[n], results[n], expected[n]) for n in expected)


class SuiteContract:
    """Inherit, set `suite`, and every test below runs on your tasks."""

    suite: Suite

    @pytest.fixture
    def tasks(self) -> tuple[Task, ...]:
        return self.suite.tasks

    @pytest.fixture
    def sized(self, tasks: tuple[Task, ...]) -> list[tuple[Task, Workload]]:
        return [(t, w) for t in tasks for w in t.workloads.values()]

    def spaces(self) -> Iterator[Task]:
        return (task for task in self.suite.tasks if task.design_space is not None)

    def test_task_names_are_unique_and_found(self, tasks: tuple[Task, ...]) -> None:
        assert len({t.name for t in tasks}) == len(tasks) > 0
        assert all(self.suite.task(t.name) is t for t in tasks)
        assert set(self.suite.default_tasks) <= {t.name for t in tasks}
        with pytest.raises(UnknownName):
            self.suite.task("no such task")

    def test_every_task_says_what_it_is(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            assert task.version
            assert task.title
            assert len(task.prose) > 200
            assert self.suite.language in task.starts
            assert set(task.starts) <= set(LANGUAGES)

    def test_workloads_give_every_axis_a_positive_size(
        self, sized: list[tuple[Task, Workload]]
    ) -> None:
        for task, workload in sized:
            assert set(workload.axes) == {axis.name for axis in task.signature.axes}
            assert all(size >= 1 for size in workload.axes.values())

    def test_shapes_use_known_axes_only_and_names_are_c_identifiers(
        self, tasks: tuple[Task, ...]
    ) -> None:
        for task in tasks:
            signature = task.signature
            axes = {axis.name for axis in signature.axes}
            tensors = (*signature.inputs, *signature.outputs)
            names = [*axes, *(t.name for t in tensors)]
            assert len(set(names)) == len(names)
            assert all(name.isidentifier() for name in names)
            assert {s for t in tensors for s in t.shape if isinstance(s, str)} <= axes

    def test_scalars_of_a_definition_are_numbers_or_axes_and_no_tensors(
        self, tasks: tuple[Task, ...]
    ) -> None:
        for task in tasks:
            axes = {axis.name for axis in task.signature.axes}
            tensors = {t.name for t in (*task.signature.inputs, *task.signature.outputs)}
            for name, value in task.solution_scalars.items():
                assert name.isidentifier()
                assert name not in tensors
                assert value in axes if isinstance(value, str) else np.isfinite(value)

    def test_splits_are_large_enough_and_held_out_is_apart(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            splits = [task.search, task.final, task.held_out]
            assert all(len({w.name for w in s}) == len(s) for s in splits)
            search, final, held_out = ({w.name for w in s} for s in splits)
            assert search < final
            assert len(held_out) >= 4
            assert not held_out & final
            for split in splits:
                assert all(dict(task.workloads[w.name].axes) == dict(w.axes) for w in split)

    def test_fill_writes_every_element(self, sized: list[tuple[Task, Workload]]) -> None:
        for task, workload in sized:
            for name, array in filled(task, workload, 0).items():
                poison = np.full(1, 0xA5A5A5A5A5A5A5A5, np.uint64).view(array.dtype)[0]
                assert not np.any(array == poison), (task.name, workload.name, name)

    def test_fill_is_a_function_of_the_generator(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            for workload in task.search[:2]:
                first, again = filled(task, workload, 7), filled(task, workload, 7)
                assert all(np.array_equal(first[n], again[n]) for n in first)

    def test_no_call_repeats_the_contents_of_another(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            for workload in task.search:
                inputs = allocate(task.signature.inputs, workload)
                rng = np.random.default_rng(3)
                task.fill(workload, rng, inputs)
                before = {name: array.copy() for name, array in inputs.items()}
                task.fill(workload, rng, inputs)
                floats = [n for n, a in inputs.items() if a.dtype.kind == "f"]
                assert all(np.mean(inputs[n] == before[n]) < 0.5 for n in floats)

    def test_references_are_new_float64_arrays_and_leave_the_inputs_alone(
        self, sized: list[tuple[Task, Workload]]
    ) -> None:
        for task, workload in sized:
            inputs = filled(task, workload, 1)
            before = {name: array.copy() for name, array in inputs.items()}
            expected = task.reference(workload, inputs)
            assert all(np.array_equal(inputs[n], before[n]) for n in inputs)
            assert list(expected) == [t.name for t in task.signature.outputs]
            for tensor in task.signature.outputs:
                assert expected[tensor.name].shape == tensor.sizes(workload.axes)
                if tensor.dtype.startswith("float"):
                    assert expected[tensor.name].dtype == np.float64
                assert not np.isnan(expected[tensor.name]).any()
                assert not any(np.shares_memory(expected[tensor.name], a) for a in inputs.values())

    def test_work_is_positive(self, sized: list[tuple[Task, Workload]]) -> None:
        for task, workload in sized:
            work = task.work(workload, filled(task, workload, 2))
            assert work.flops > 0
            assert work.bytes > 0

    def test_tolerances_cover_every_output_and_say_why(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            assert set(task.tolerances) == {t.name for t in task.signature.outputs}
            for tolerance in task.tolerances.values():
                assert min(tolerance.absolute, tolerance.relative, tolerance.norm) >= 0
                assert 0 < tolerance.norm < 0.1
                assert len(tolerance.why) > 40

    def test_tolerances_accept_the_rounded_reference_and_reject_garbage(
        self, sized: list[tuple[Task, Workload]]
    ) -> None:
        for task, workload in sized:
            expected = task.reference(workload, filled(task, workload, 4))
            rounded = {
                t.name: expected[t.name].astype(t.dtype, copy=True) for t in task.signature.outputs
            }
            assert accepted(task, rounded, expected)
            garbage = allocate(task.signature.outputs, workload)
            assert not accepted(task, garbage, expected)

    def test_python_baselines_are_correct_on_every_workload(
        self, sized: list[tuple[Task, Workload]], request: pytest.FixtureRequest
    ) -> None:
        torch = pytest.importorskip("torch")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # other tests' OpenMP runtimes spin beside torch's
        request.addfinalizer(lambda: torch.set_num_threads(threads))
        for task, workload in sized:
            assert task.baselines
            for baseline in (b for b in task.baselines if b.language == "python"):
                assert baseline.name
                assert baseline.version
                namespace: dict[str, object] = {}
                exec(compile(baseline.source, baseline.name, "exec"), namespace)
                inputs = filled(task, workload, 5)
                results = allocate(task.signature.outputs, workload)
                tensors = {n: torch.from_numpy(a) for n, a in inputs.items()}
                namespace["run"](  # type: ignore[operator]
                    SimpleNamespace(**workload.axes, **tensors),
                    SimpleNamespace(**{n: torch.from_numpy(a) for n, a in results.items()}),
                )
                expected = task.reference(workload, inputs)
                assert accepted(task, results, expected), (task.name, workload.name)

    def test_the_start_is_the_naive_point_of_the_design_space(self) -> None:
        for task in self.spaces():
            space = task.design_space
            assert space is not None
            assert task.start(space.language) == space.render(space.start())
            assert space.prior(space.start()) == 0

    def test_phrases_of_a_design_space_do_not_contain_each_other(self) -> None:
        for task in self.spaces():
            assert task.design_space is not None
            phrases = [c.phrase.lower() for p in task.design_space.parameters for c in p.choices]
            assert len(set(phrases)) == len(phrases)
            assert not [(a, b) for a in phrases for b in phrases if a != b and a in b]

    def test_parameters_have_distinct_choices_and_a_difficulty(self) -> None:
        for task in self.spaces():
            assert task.design_space is not None
            parameters = task.design_space.parameters
            assert len({p.name for p in parameters}) == len(parameters)
            for parameter in parameters:
                assert len({c.value for c in parameter.choices}) == len(parameter.choices) >= 2
                assert 1 <= parameter.difficulty <= 5
                assert parameter.choices[0].gain == 0

    def test_every_single_step_renders_another_program_with_its_own_marker(self) -> None:
        for task in self.spaces():
            space = task.design_space
            assert space is not None
            sources = {space.render(space.start()).partition("\n")[2]}
            steps = [(p.name, c.value) for p in space.parameters for c in p.choices[1:]]
            for name, value in steps:
                configuration = space.start() | {name: value}
                source = space.render(configuration)
                assert source.startswith(space.marker(configuration) + "\n")
                assert configurations_in(source) == [(0, space.name, configuration)]
                assert source == space.render(configuration)
                sources.add(source.partition("\n")[2])
            assert len(sources) == len(steps) + 1
