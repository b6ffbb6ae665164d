"""suites/cpu: the suite contract, and that honest designs are correct while traps and cheats fail.

Covered: programs are compiled with the evaluator's flags and called through the C ABI on every
workload, held-out ones too. Not covered: their speed (docs/suite-cpu.md), the sandbox.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from harness.suite import Array, Arrays, Task, Tensor
from harness.types import Workload
from suites.cpu import suite
from tests.conformance_suite import SuiteContract, accepted, allocate, filled

FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w"]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


class TestCpuSuite(SuiteContract):
    suite = suite


def header(task: Task) -> str:
    """A minimal task.h."""
    names = {"float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t"}

    def pointers(tensors: tuple[Tensor, ...], qualifier: str) -> str:
        return "".join(f"    {qualifier}{names[t.dtype]}* {t.name};\n" for t in tensors)

    axes = "".join(f"    int64_t {axis.name};\n" for axis in task.signature.axes)
    return (
        "#pragma once\n#include <stddef.h>\n#include <stdint.h>\n"
        f"struct Inputs {{\n{axes}{pointers(task.signature.inputs, 'const ')}}};\n"
        f"struct Outputs {{\n{pointers(task.signature.outputs, '')}}};\n"
        'extern "C" int run(const Inputs*, const Outputs*, void*, void*);\n'
        'extern "C" size_t workspace_bytes(const Inputs*);\n'
        'extern "C" int plan(const Inputs*, void*);\n'
    )


def compiled(source: str, folder: Path, name: str) -> Path | None:
    """The shared object of a program, or None if it does not compile; task.h lies in `folder`."""
    path = folder / f"{name}.cpp"
    path.write_text(source)
    library = path.with_suffix(".so")
    command = ["g++", *FLAGS, str(path), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, check=False)
    return library if done.returncode == 0 else None


class Program:
    """A loaded candidate: call it on numpy arrays."""

    def __init__(self, task: Task, library: Path) -> None:
        self.task = task
        self.library = ctypes.CDLL(str(library))

    def __call__(self, workload: Workload, inputs: Arrays) -> Arrays:
        signature = self.task.signature
        results = allocate(signature.outputs, workload)
        words = [workload.axes[a.name] for a in signature.axes]
        words += [inputs[t.name].ctypes.data for t in signature.inputs]
        packed = (ctypes.c_int64 * len(words))(*words)
        addresses = [results[t.name].ctypes.data for t in signature.outputs]
        out = (ctypes.c_int64 * len(addresses))(*addresses)
        size = 0
        if hasattr(self.library, "workspace_bytes"):
            self.library.workspace_bytes.restype = ctypes.c_size_t
            size = self.library.workspace_bytes(packed)
        workspace = np.full(size + 64, 0xA5, np.uint8)
        start = -workspace.ctypes.data % 64
        pointer = ctypes.c_void_p(workspace[start:].ctypes.data)
        assert self.library.run(packed, out, pointer, None) == 0
        assert np.all(workspace[start + size :] == 0xA5), "wrote past the workspace"
        return results


def random_designs(task: Task, number: int, honest: bool, seed: int = 0) -> list[dict[str, str]]:
    space = task.design_space
    assert space is not None
    rng = random.Random(seed)
    found: list[dict[str, str]] = []
    while len(found) < number:
        configuration = {p.name: rng.choice(p.choices).value for p in space.parameters}
        if space.honest(configuration) == honest and configuration not in found:
            found.append(configuration)
    return found


def failing_designs(task: Task, designs: list[dict[str, str]], folder: Path) -> list[str]:
    """Designs that do not compile or are wrong somewhere."""
    space = task.design_space
    assert space is not None
    sources = [space.render(design) for design in designs]
    names = [f"{task.name}_{i}" for i in range(len(designs))]
    (folder / "task.h").write_text(header(task))
    with ThreadPoolExecutor(2) as pool:
        libraries = list(pool.map(compiled, sources, [folder] * len(designs), names))
    failing = {i: "does not compile" for i, library in enumerate(libraries) if library is None}
    programs = {i: Program(task, library) for i, library in enumerate(libraries) if library}
    for seed, workload in enumerate(task.workloads.values()):
        inputs = filled(task, workload, seed)
        expected = task.reference(workload, inputs)
        for i, program in programs.items():
            if not accepted(task, program(workload, inputs), expected):
                failing.setdefault(i, f"wrong on {workload.name}")
    return [f"{why}: {designs[i]}" for i, why in sorted(failing.items())]


@pytest.fixture(scope="module", params=[task.name for task in suite.tasks])
def task(request: pytest.FixtureRequest) -> Task:
    return suite.task(request.param)


@needs_compiler
def test_starts_and_honest_designs_are_correct_on_every_workload(
    task: Task, tmp_path: Path
) -> None:
    space = task.design_space
    assert space is not None
    designs = [space.start(), *random_designs(task, 12, honest=True)]
    assert failing_designs(task, designs, tmp_path) == []


@needs_compiler
@pytest.mark.parametrize(
    ("name", "steps", "failure"),
    [
        ("matmul", {"lanes": "12"}, "does not compile"),
        ("matmul", {"accumulate": "registers", "rows": "4", "edges": "ignored"}, "wrong on"),
        ("matmul", {"vectors": "4", "lanes": "8", "edges": "ignored"}, "wrong on"),
        ("softmax", {"lanes": "12"}, "does not compile"),
        ("softmax", {"exponential": "bits"}, "wrong on"),
        ("softmax", {"exponential": "polynomial", "shift": "none"}, "wrong on"),
        ("gqa_paged_decode", {"lanes": "12"}, "does not compile"),
        ("gqa_paged_decode", {"pages": "contiguous"}, "wrong on"),
        ("gqa_paged_decode", {"heads": "4", "empty": "ignored"}, "wrong on"),
    ],
)
def test_traps_fail_as_their_space_says(
    name: str, steps: dict[str, str], failure: str, tmp_path: Path
) -> None:
    task = suite.task(name)
    space = task.design_space
    assert space is not None
    trap = space.start() | steps
    assert not space.honest(trap)
    (found,) = failing_designs(task, [trap], tmp_path)
    assert found.startswith(failure)


def test_every_space_has_at_least_200_honest_designs_and_some_traps(task: Task) -> None:
    space = task.design_space
    assert space is not None
    every = [{}]
    for parameter in space.parameters:
        every = [c | {parameter.name: x.value} for c in every for x in parameter.choices]
    honest = sum(space.honest(c) for c in every)
    assert len(every) == space.size()
    assert 200 <= honest < len(every)
    assert 6 <= len(space.parameters) <= 9


def half(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)


def recomputed(task: Task, workload: Workload, inputs: Arrays, **changed: Array) -> Arrays:
    """The reference of other inputs: what a cheat would compute without any rounding error."""
    return task.reference(workload, inputs | changed)


def cheats_of_matmul(task: Task, workload: Workload, inputs: Arrays) -> dict[str, Arrays]:
    shorter = inputs["a"].copy()
    shorter[:, -1] = 0
    scaled = inputs["a"].copy()
    scaled[-1] = 0
    return {
        "half-precision factors": recomputed(
            task, workload, inputs, a=half(inputs["a"]), b=half(inputs["b"])
        ),
        "last term dropped": recomputed(task, workload, inputs, a=shorter),
        "last row dropped": recomputed(task, workload, inputs, a=scaled),
    }


def cheats_of_softmax(task: Task, workload: Workload, inputs: Arrays) -> dict[str, Arrays]:
    masked = inputs["x"].copy()
    masked[:, -1] = -np.inf
    y = task.reference(workload, inputs)["y"]
    transposed = np.array(y[::-1])
    return {
        "half-precision logits": recomputed(task, workload, inputs, x=half(inputs["x"])),
        "half-precision results": {"y": half(y)},
        "last column dropped": recomputed(task, workload, inputs, x=masked),
        "rows exchanged": {"y": transposed},
        "zeros": {"y": np.zeros_like(y)},
    }


def cheats_of_gqa_paged_decode(task: Task, workload: Workload, inputs: Arrays) -> dict[str, Arrays]:
    expected = task.reference(workload, inputs)
    headless = {name: array.copy() for name, array in expected.items()}
    headless["output"][:, -1] = 0
    indices = inputs["kv_indices"].copy()
    indices[-1] = indices[0]
    natural = {"output": expected["output"], "lse": expected["lse"] * np.log(2)}
    caches = {name: half(inputs[name]) for name in ("k_cache", "v_cache")}
    indptr = np.minimum(inputs["kv_indptr"], inputs["kv_indptr"][-1] - 1)
    return {
        "half-precision cache": recomputed(task, workload, inputs, **caches),
        "last head dropped": headless,
        "last page wrong": recomputed(task, workload, inputs, kv_indices=indices),
        "last token dropped": recomputed(task, workload, inputs, kv_indptr=indptr),
        "natural logarithm": natural,
    }


CHEATS = {
    "matmul": cheats_of_matmul,
    "softmax": cheats_of_softmax,
    "gqa_paged_decode": cheats_of_gqa_paged_decode,
}


def test_lower_precision_and_dropped_work_are_rejected_within_three_calls(task: Task) -> None:
    for workload in task.search:
        missed = set(CHEATS[task.name](task, workload, filled(task, workload, 0)))
        for seed in range(3):
            inputs = filled(task, workload, seed)
            expected = task.reference(workload, inputs)
            for cheat, results in CHEATS[task.name](task, workload, inputs).items():
                if not accepted(task, results, expected):
                    missed.discard(cheat)
        assert not missed, (workload.name, missed)


SECOND_ZOO = Path(__file__).parent / "zoo" / "second"


@needs_compiler
@pytest.mark.parametrize(
    ("name", "cheat"),
    [
        ("gqa_paged_decode", "norm_shift"),
        ("gqa_paged_decode", "skip_small"),
        ("softmax", "first_element_shift"),
        ("softmax", "thirteen_bits"),
    ],
)
def test_numerical_cheats_are_rejected_in_the_first_round_of_calls(
    name: str, cheat: str, tmp_path: Path
) -> None:
    task = suite.task(name)
    (tmp_path / "task.h").write_text(header(task))
    library = compiled((SECOND_ZOO / f"{cheat}.cpp").read_text(), tmp_path, cheat)
    assert library is not None
    program = Program(task, library)

    def rejected(workload: Workload, seed: int) -> bool:
        inputs = filled(task, workload, seed)
        return not accepted(task, program(workload, inputs), task.reference(workload, inputs))

    # The evaluator verifies four calls per search workload; one is enough.
    passed = [s for s in range(20) if not any(rejected(w, s) for w in task.search)]
    assert passed == []


def test_every_call_of_softmax_holds_every_kind_of_row() -> None:
    task = suite.task("softmax")
    for workload in task.search:
        for seed in range(8):
            x = filled(task, workload, seed)["x"]
            masked = np.isneginf(x)
            assert not masked.all(axis=1).any()
            assert masked.any()
            assert masked[:, 0].any()
            plain = np.sort(x[~masked.any(axis=1)], axis=1)
            highest, second, lowest = plain[:, -1], plain[:, -2], plain[:, 0]
            assert lowest.max() > 1000
            assert highest.min() < -1000
            assert (highest - second).max() > 1000
            assert np.any((highest - lowest > 100) & (highest - second < 10))
            assert np.any(highest - lowest < 3)


def test_every_call_of_attention_holds_every_kind_of_head() -> None:
    task = suite.task("gqa_paged_decode")
    for workload in task.search:
        for seed in range(4):
            inputs = filled(task, workload, seed)
            begin, end = max(
                zip(inputs["kv_indptr"][:-1], inputs["kv_indptr"][1:], strict=True),
                key=lambda bounds: bounds[1] - bounds[0],
            )
            sequence = int(np.flatnonzero(inputs["kv_indptr"] == begin)[-1])
            k = inputs["k_cache"][inputs["kv_indices"][begin:end], 0]
            q = inputs["q"][sequence].reshape(2, 8, 64)
            logits = np.sort(np.einsum("ghd,tgd->ght", q, k) / 8, axis=2)
            top, second, low = logits[:, :, -1], logits[:, :, -2], logits[:, :, 0]
            middle = np.median(logits, axis=2)
            assert np.any(middle > 100)
            assert np.any(middle < -100)
            assert np.any(top - second > 60)
            assert np.any((top - middle > 11) & (top - middle < 16) & (second - low < 6))


def test_page_tables_are_valid_and_hold_an_empty_sequence_wherever_there_are_three() -> None:
    task = suite.task("gqa_paged_decode")
    for workload in task.workloads.values():
        for seed in range(4):
            inputs = filled(task, workload, seed)
            lengths = np.diff(inputs["kv_indptr"])
            assert inputs["kv_indptr"][0] == 0
            assert inputs["kv_indptr"][-1] == workload.axes["num_kv_indices"]
            assert lengths.min() >= 0
            assert inputs["kv_indices"].min() >= 0
            assert inputs["kv_indices"].max() < workload.axes["num_pages"]
            assert workload.axes["batch_size"] < 3 or lengths.min() == 0
