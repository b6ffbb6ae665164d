"""What an evaluation costs beside building and timing, per candidate, on suites/cpu.

The budget is 150 ms: fork and sandbox of a worker, loading, correctness on every search workload,
and the verdict. Run with `make bench`; ratios within one run mean more than absolute times.
"""

from __future__ import annotations

import pytest

from harness.environment import cores
from harness.evaluate.build import Builder, Built
from harness.evaluate.header import cpp_header
from harness.evaluate.judge import Judge
from harness.evaluate.launcher import WarmParent
from harness.evaluate.peaks import measure_peaks
from harness.evaluate.sandbox import probe
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Program
from harness.suite import load_suite
from harness.types import Passed

SUITE = load_suite("cpu")
BUDGET_SECONDS = 0.150


@pytest.fixture(scope="module")
def parents():
    isolation = probe()
    with WarmParent("none", isolation) as plain, WarmParent("torch", isolation) as torch:
        yield {"cpp": plain, "python": torch}


@pytest.mark.parametrize("task_name", [task.name for task in SUITE.tasks])
def test_an_evaluation_beside_building_and_timing(benchmark, parents, task_name: str) -> None:
    task = SUITE.task(task_name)
    settings = EvaluatorSettings()
    built = Builder(parents["cpp"], None, settings).build(
        task.start("cpp"), cpp_header(task.signature)
    )
    assert isinstance(built, Built)
    judge = Judge(
        task,
        parents=parents,
        peaks=measure_peaks(parents["cpp"], cores()),
        settings=settings,
        secret=b"benchmark",
        threads=cores(),
    )
    program = Program("cpp", built.code)
    seconds = []

    def evaluate() -> None:
        verdict = judge.evaluate(f"candidate {len(seconds)}", program)
        assert isinstance(verdict.outcome, Passed), verdict.outcome
        seconds.append(verdict.device_seconds - verdict.timing_seconds)

    try:
        benchmark.pedantic(evaluate, rounds=10, warmup_rounds=1)
    finally:
        judge.close()
    benchmark.extra_info["beside_timing_seconds"] = sorted(seconds)[len(seconds) // 2]
    benchmark.extra_info["budget_seconds"] = BUDGET_SECONDS
    print(f"{task_name}: beside building and timing {sorted(seconds)[len(seconds) // 2]:.3f} s")
