"""Triton programs compiled ahead, without a GPU (harness/evaluate/triton_build.py)."""

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.evaluate.build import BuildFailure, Built
from harness.evaluate.launcher import WarmParent
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.triton_build import AT_ONCE, TritonBuilder
from harness.interchange.importing import candidate_of
from harness.interchange.solution import Solution
from tests.toy_gpu_suite import START, suite

pytest.importorskip("triton")

TASK = suite.tasks[0]
WORKLOADS = tuple(TASK.workloads.values())


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with WarmParent("triton-build", probe()) as parent:
        yield parent


@pytest.fixture
def builder(parent: WarmParent, tmp_path: Path) -> TritonBuilder:
    return TritonBuilder(parent, tmp_path, EvaluatorSettings(), 90)


def test_few_builds_are_made_at_once(
    builder: TritonBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def compiling(*_: object) -> Built:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return Built(b"", 0.0)

    monkeypatch.setattr(builder, "_compile", compiling)
    sources = [f"# program {n}" for n in range(3 * AT_ONCE)]
    with ThreadPoolExecutor(len(sources)) as pool:
        made = list(pool.map(lambda s: builder.build(s, TASK.signature, WORKLOADS), sources))
    assert len(made) == len(sources)
    assert most == AT_ONCE


def names(built: Built) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(built.code)) as archive:
        return archive.getnames()


def test_every_variant_of_a_kernel_is_in_the_archive(builder: TritonBuilder) -> None:
    built = builder.build(START, TASK.signature, WORKLOADS)
    assert isinstance(built, Built), built
    binaries = [name for name in names(built) if name.endswith(".cubin")]
    # columns of 8, 64 (33), 32 (17) and 1; n a multiple of 16 in none
    assert len(binaries) == 4


def test_a_solution_of_several_files_is_compiled_ahead(builder: TritonBuilder) -> None:
    kernel, _, _ = START.partition("\n\ndef run")
    entry = (
        "import triton\nfrom .kernel import scale_rows\n\n\ndef run(x, scale, y, total):\n"
        "    rows, n = x.shape\n"
        "    scale_rows[(rows,)](x, scale, y, total, n, triton.next_power_of_2(n))\n"
    )
    solution = Solution.model_validate(
        {
            "name": "two files",
            "definition": TASK.name,
            "author": "somebody",
            "spec": {"language": "triton", "target_hardware": ["cuda"], "entry_point": "a.py::run"},
            "sources": [
                {"path": "a.py", "content": entry},
                {"path": "kernel.py", "content": kernel + "\n"},
            ],
        }
    )
    built = builder.build(candidate_of(solution, TASK).source, TASK.signature, WORKLOADS)
    assert isinstance(built, Built), built
    assert len([name for name in names(built) if name.endswith(".cubin")]) == 4


def test_equal_content_is_built_once(builder: TritonBuilder, tmp_path: Path) -> None:
    first = builder.build(START, TASK.signature, WORKLOADS)
    stored = sorted(path.name for path in tmp_path.iterdir())
    assert builder.build(START, TASK.signature, WORKLOADS) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == stored


def test_a_kernel_that_does_not_compile_is_a_build_failure(builder: TritonBuilder) -> None:
    built = builder.build(START.replace("tl.sum(", "tl.no_such("), TASK.signature, WORKLOADS)
    assert isinstance(built, BuildFailure)
    assert "no_such" in built.message
    assert "/" not in built.message.replace("CompilationError: at", "")


def test_a_program_that_looks_at_values_is_left_to_the_gpu(builder: TritonBuilder) -> None:
    looks = START.replace(
        "    columns = triton",
        "    if inputs.x.sum().item() > 0:\n        pass\n    columns = triton",
    )
    built = builder.build(looks, TASK.signature, WORKLOADS)
    assert isinstance(built, Built)
    assert builder.missed == len(WORKLOADS)


def test_every_configuration_of_an_autotuned_kernel_is_compiled(builder: TritonBuilder) -> None:
    tuned = START.replace(
        "@triton.jit",
        "@triton.autotune([triton.Config({}, num_warps=w) for w in (1, 2)], key=['n'])\n"
        "@triton.jit",
    )
    built = builder.build(tuned, TASK.signature, WORKLOADS[:1])
    assert isinstance(built, Built), built
    assert len([name for name in names(built) if name.endswith(".cubin")]) == 2


def test_a_build_that_hangs_is_stopped(parent: WarmParent) -> None:
    settings = EvaluatorSettings(build_timeout_seconds=2.0)
    hangs = START.replace("    columns = triton", "    while True: pass\n    columns = triton")
    built = TritonBuilder(parent, None, settings, 90).build(hangs, TASK.signature, WORKLOADS)
    assert isinstance(built, BuildFailure)
    assert built.timed_out


def test_a_hostile_build_cannot_reach_out(builder: TritonBuilder) -> None:
    hostile = "import os\nassert not os.path.exists('/root/.bashrc')\n" + START
    hostile += (
        "\ntry:\n    open('/usr/x', 'w')\nexcept OSError:\n    pass\nelse:\n    raise SystemExit\n"
    )
    assert isinstance(builder.build(hostile, TASK.signature, WORKLOADS[:1]), Built)
