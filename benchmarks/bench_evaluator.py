"""What an evaluation costs beside building and timing, per candidate, on suites/cpu.

The budget is 150 ms: fork and sandbox of a worker, loading, correctness on every search workload,
and the verdict, in the judge's own process. Run with `make bench`; ratios within one run mean more
than absolute times.
"""

from __future__ import annotations

import base64
import statistics

import pytest

from harness.evaluate.build import Built
from harness.evaluate.local import LocalEvaluator
from harness.suite import load_suite

SUITE = load_suite("cpu")
BUDGET_SECONDS = 0.150


@pytest.fixture(scope="module")
def evaluator():
    with LocalEvaluator("cpu") as evaluator:
        yield evaluator


@pytest.mark.parametrize("task_name", [task.name for task in SUITE.tasks])
def test_an_evaluation_beside_building_and_timing(benchmark, evaluator, task_name: str) -> None:
    source, header = SUITE.task(task_name).start("cpp"), evaluator.header(task_name, "cpp")
    built = evaluator._backend._builder.build(source, header)
    assert isinstance(built, Built)
    code = base64.b64encode(built.code).decode()
    seconds: list[float] = []

    def evaluate() -> None:
        answer = evaluator._backend.ask(
            {"op": "evaluate", "task": task_name, "id": f"candidate {len(seconds)}",
             "language": "cpp", "code": code}
        )  # fmt: skip
        assert answer["outcome"]["status"] == "PASSED", answer["outcome"]
        seconds.append(answer["device_seconds"] - answer["timing_seconds"])

    benchmark.pedantic(evaluate, rounds=15, warmup_rounds=2)
    beside = statistics.median(seconds)
    benchmark.extra_info["beside_building_and_timing_seconds"] = beside
    print(f"\n{task_name}: beside building and timing {1000 * beside:.0f} ms")
    assert beside <= BUDGET_SECONDS
