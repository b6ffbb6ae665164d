"""What evaluating on suites/flashinfer costs and how well it repeats: `make bench-gpu`.

Covered: one CUDA candidate on ten workloads of grouped-query decode, from source to verdict, cold
and built before; the same on all 48; the references of all MLA prefill workloads; the spread of a
score over five fresh processes. Not covered: FlashInfer-Bench on the same work
(bench_flashinfer_bench.py). Skipped where there is no GPU.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator

import pytest

from benchmarks.bench_gpu import keep, passed
from harness.environment import find_nvcc, visible_gpus
from harness.evaluate.gpu_contents import SeedContents, empty_tensors, fill
from harness.evaluate.local import LocalEvaluator
from harness.suite import Suite, TorchTask, load_suite
from harness.types import Candidate
from suites.flashinfer.gqa_decode import GqaPagedDecodeKv4

pytestmark = pytest.mark.skipif(
    not visible_gpus() or not find_nvcc(), reason="this machine has no NVIDIA GPU with nvcc"
)


class TenWorkloads(GqaPagedDecodeKv4):
    """Every fifth record: all batch sizes."""

    search = GqaPagedDecodeKv4.final[::5]
    final = search


class AllWorkloads(GqaPagedDecodeKv4):
    """All 48 records in search."""

    search = GqaPagedDecodeKv4.final


ten = Suite("flashinfer-ten", "", (TenWorkloads(),), (TenWorkloads.name,), "cuda")
whole = Suite("flashinfer-all", "", (AllWorkloads(),), (AllWorkloads.name,), "cuda")
TASK = GqaPagedDecodeKv4.name


# A design without traps whose speed is near the baseline's: a slow program has two samples only.
GOOD = {
    "heads": "group", "splits": "auto", "block": "32", "precision": "bf16", "exponential": "exp2",
    "stages": "2",
}  # fmt: skip


def program(note: str) -> Candidate:
    """One program under another name, so that nothing is answered from before."""
    return Candidate("cuda", GqaPagedDecodeKv4.starts["cuda"] + f"// {note}\n")


def good(note: str) -> Candidate:
    """The same in Triton, fast."""
    space = GqaPagedDecodeKv4.design_space
    assert space is not None
    return Candidate("triton", space.render(space.start() | GOOD) + f"\n# {note}\n")


@pytest.fixture(scope="module", params=["ten", "whole"])
def evaluator(request: pytest.FixtureRequest) -> Iterator[LocalEvaluator]:
    with LocalEvaluator(f"benchmarks.bench_flashinfer:{request.param}") as evaluator:
        yield evaluator


def test_a_cuda_candidate_from_source_to_verdict(benchmark, evaluator: LocalEvaluator) -> None:
    evaluator.evaluate(TASK, program("first"))  # the judge's own kernels, the baseline
    rows: list[dict[str, float]] = []

    def evaluate() -> None:
        begun = time.perf_counter()
        evaluation = evaluator.evaluate(TASK, program(f"cost {len(rows)}"))
        passed(evaluation)
        rows.append({"whole": time.perf_counter() - begun, "build": evaluation.build_seconds,
                     "device": evaluation.device_seconds})  # fmt: skip

    benchmark.pedantic(evaluate, rounds=3)
    last = rows[-1]
    print(
        f"\n{len(evaluator.describe()['gpus'])} GPU: {last}; built before: {last['device']:.2f} s"
    )
    keep(f"flashinfer_evaluation_{benchmark.param}", rows)


def test_a_score_in_fresh_processes(benchmark, evaluator: LocalEvaluator) -> None:
    scores: list[float] = []

    def evaluate() -> None:
        scores.append(passed(evaluator.evaluate(TASK, good(f"process {len(scores)}"))).score)

    benchmark.pedantic(evaluate, rounds=5)
    spread = statistics.stdev(map(math.log, scores))
    print(f"\n5 processes: {[round(score, 4) for score in scores]}; sd of log {spread:.2%}")
    keep(f"flashinfer_scores_{benchmark.param}", scores)
    assert spread <= 0.005


def test_the_references_of_mla_prefill(benchmark) -> None:
    import torch

    task = load_suite("flashinfer").task("mla_paged_prefill_causal_h16_ckv512_kpe64_ps1")
    assert isinstance(task, TorchTask)
    seconds: dict[str, float] = {}

    def references() -> None:
        for workload in task.final:
            inputs = empty_tensors(task.signature.inputs, workload, "cuda")
            fill(task, workload, SeedContents(1), inputs, "cuda")
            torch.cuda.synchronize()
            begun = time.perf_counter()
            task.reference(workload, inputs)
            torch.cuda.synchronize()
            seconds[workload.name] = time.perf_counter() - begun

    benchmark.pedantic(references, rounds=1)
    print(
        f"\n{len(seconds)} references: {sum(seconds.values()):.1f} s; {max(seconds.values()):.1f}"
    )
    keep("flashinfer_prefill_references", seconds)
