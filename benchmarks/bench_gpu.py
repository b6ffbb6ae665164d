"""What evaluating on a GPU costs and how well it repeats, on gpumode/trimul: `make bench-gpu`.

Covered: an evaluation of a built Triton program, beside the samples of the baseline; the spread of
one program's geometric mean over ten fresh processes; the baseline against itself. Ratios within
one run mean more than absolute times. Skipped where there is no GPU.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.environment import visible_gpus
from harness.evaluate.local import LocalEvaluator
from harness.suite import load_suite
from harness.types import Candidate, Evaluation, Passed
from suites.gpumode.trimul_programs import EAGER

pytestmark = pytest.mark.skipif(not visible_gpus(), reason="this machine has no NVIDIA GPU")

TASK = load_suite("gpumode").task("trimul@spec")
GOOD = {
    "projections": "fused", "layout": "first", "product": "bmm", "precision": "fp16",
    "storage": "half", "tile": "32", "rows": "64", "stages": "1", "warps": "4", "output": "fused",
    "mask": "both", "edges": "exact",
}  # fmt: skip
PROCESSES = 10


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    with LocalEvaluator("gpumode") as evaluator:
        yield evaluator


def program(note: str) -> Candidate:
    """One program under another name, so that nothing is answered from before."""
    assert TASK.design_space is not None
    return Candidate("triton", TASK.design_space.render(GOOD) + f"# {note}\n")


def passed(evaluation: Evaluation) -> Passed:
    assert isinstance(evaluation.outcome, Passed), evaluation.outcome
    return evaluation.outcome


def mean_us(outcome: Passed) -> float:
    return math.exp(statistics.mean(math.log(m.latency_us) for m in outcome.measurements))


def keep(name: str, data: object) -> None:
    """Raw samples for docs/measurements, where GPU_SAMPLES names a folder."""
    folder = os.environ.get("GPU_SAMPLES")
    if folder:
        Path(folder, f"{name}.json").write_text(json.dumps(data))


def test_an_evaluation_beside_the_baselines_samples(benchmark, evaluator: LocalEvaluator) -> None:
    evaluator.evaluate(TASK.name, program("first"))  # the judge's own kernels are loaded
    beside: list[float] = []
    rows: list[dict[str, float]] = []

    def evaluate() -> None:
        evaluation = evaluator.evaluate(TASK.name, program(f"cost {len(beside)}"))
        passed(evaluation)
        samples = sum(sum(baseline) for _, baseline in evaluation.samples_us.values()) / 1e6
        beside.append(evaluation.device_seconds - samples)
        rows.append({"build": evaluation.build_seconds, "device": evaluation.device_seconds,
                     "baseline_samples": samples})  # fmt: skip

    benchmark.pedantic(evaluate, rounds=5)
    lock = evaluator.describe()["lock"]
    print(f"\nbeside the baseline's samples: {statistics.median(beside):.2f} s; {rows[-1]}; {lock}")
    keep("evaluation_seconds", {"rows": rows, "lock": lock})
    assert lock["compiling_seconds"] < 0.1 * lock["held_seconds"]


def test_one_program_in_fresh_processes(benchmark, evaluator: LocalEvaluator) -> None:
    means: list[float] = []
    samples = []

    def evaluate() -> None:
        evaluation = evaluator.evaluate(TASK.name, program(f"process {len(means)}"))
        means.append(mean_us(passed(evaluation)))
        samples.append(evaluation.samples_us)

    benchmark.pedantic(evaluate, rounds=PROCESSES)
    spread = statistics.stdev(map(math.log, means))
    print(f"\n{PROCESSES} processes, us: {[round(m, 1) for m in means]}; sd of log {spread:.2%}")
    keep("fresh_processes", {"geometric_means_us": means, "samples_us": samples})
    assert spread <= 0.005


def test_the_baseline_against_itself(benchmark, evaluator: LocalEvaluator) -> None:
    scores = []

    def evaluate() -> None:
        outcome = passed(evaluator.evaluate(TASK.name, Candidate("python", EAGER + "\n#\n")))
        scores.append((outcome.score, outcome.score_low, outcome.score_high))

    benchmark.pedantic(evaluate, rounds=1)
    score, low, high = scores[0]
    half_width = math.sqrt(high / low) - 1
    print(f"\nA/A: {score:.4f}, half-width {half_width:.2%}")
    keep("against_itself", scores)
    assert half_width <= 0.005
