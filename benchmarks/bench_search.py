"""What the search loop and the run log cost beside the model and the evaluator.

The limits: at most 5 ms per evaluation, and at most 50 MB of log for a run of 120 charges with
prompts of 30 KB. The model and the evaluator answer at once, two calls per evaluation. Texts are
random words, so that gzip works on them as on programs and not on repetitions.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from harness.budget import Budget
from harness.llm.client import Reply, Request
from harness.method import Method, Problem, Search, TaskCard
from harness.search import RunSpec, RunSummary, run_search
from harness.types import Candidate, Evaluation, Measurement, Passed, Phase, Usage

CHARGES = 120
PROMPT_CHARACTERS = 30_000
PROGRAM_CHARACTERS = 8_000
WORKLOADS = tuple(f"workload-{number}" for number in range(8))
LIMIT_MILLISECONDS = 5.0
LIMIT_MEGABYTES = 50.0


def text(seed: int, characters: int) -> str:
    stream = random.Random(seed)
    words = [f"{stream.getrandbits(20):x}" for _ in range(2000)]
    return " ".join(stream.choice(words) for _ in range(characters // 6 + 1))[:characters]


PROMPTS = [text(number, PROMPT_CHARACTERS) for number in range(2 * CHARGES)]
PROGRAMS = [text(-1 - number, PROGRAM_CHARACTERS) for number in range(2 * CHARGES)]


class InstantClient:
    def __init__(self) -> None:
        self.calls = 0

    def complete(self, request: Request, occurrence: int) -> Reply:
        self.calls += 1
        return Reply(f"```cpp\n{PROGRAMS[self.calls - 1]}\n```\n", Usage(9000, 2500), 20.0)


class InstantEvaluator:
    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        rows = tuple(
            Measurement(name, 10.123456, 12.345678, 1.2195, 1.21, 1.23, 2.0, 50)
            for name in WORKLOADS
        )
        samples = {name: ((10.123456,) * 50, (12.345678,) * 50) for name in WORKLOADS}
        outcome = Passed(rows, 1.21, 1.23)
        return Evaluation(
            candidate.id, Phase.SEARCH, outcome, "PASSED " * 200, 0.5, 0.2, False, samples
        )


def two_calls_each(problem: Problem) -> Search:
    for number in range(CHARGES):
        plan = problem.llm.complete(PROMPTS[2 * number], purpose="world-model")
        problem.record("world_model", {"nodes": plan.text})
        reply = problem.llm.complete(PROMPTS[2 * number + 1], purpose="propose")
        yield problem.candidate_from(reply)


def one_run(folder: Path) -> RunSummary:
    start = Candidate("cpp", "int x;\n")
    evaluator = InstantEvaluator()
    client = InstantClient()
    spec = RunSpec(
        folder=folder,
        task=TaskCard("task", "suite", "cpp", "prose", start.source, "baseline", WORKLOADS),
        start=start,
        start_evaluation=evaluator.evaluate("task", start),
        method=Method("bench", "bench", two_calls_each, object, "harness.budget"),
        options=None,
        arm="bench",
        seed=0,
        budget=Budget(CHARGES),
        manifest={},
    )
    return run_search(
        spec,
        models=lambda charges: ("model", {}),
        clients=lambda name: client,
        evaluator=evaluator,  # type: ignore[arg-type]
        on_progress=lambda progress: None,
        stop=threading.Event(),
    )


@pytest.mark.benchmark(group="search")
def test_loop_and_log_take_at_most_five_milliseconds_per_evaluation(benchmark, tmp_path):
    folders = iter(tmp_path / f"run-{number}" for number in range(100))
    benchmark.pedantic(lambda: one_run(next(folders)), rounds=3)
    milliseconds = benchmark.stats.stats.median / CHARGES * 1e3
    benchmark.extra_info["milliseconds_per_evaluation"] = milliseconds
    assert milliseconds <= LIMIT_MILLISECONDS


def test_a_run_of_120_charges_takes_at_most_50_megabytes(tmp_path):
    assert one_run(tmp_path).charges == CHARGES
    blocks = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*"))
    assert blocks / 1e6 <= LIMIT_MEGABYTES
    print(f"{blocks / 1e6:.1f} MB on disk")


@pytest.mark.benchmark(group="search")
def test_replaying_a_finished_part_costs_no_more_than_making_it(benchmark, tmp_path):
    one_run(tmp_path)
    path = tmp_path / "events.jsonl"
    unfinished = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])

    def resume() -> None:
        path.write_bytes(unfinished)
        assert one_run(tmp_path).status == "finished"

    benchmark.pedantic(resume, rounds=3)
    milliseconds = benchmark.stats.stats.median / CHARGES * 1e3
    assert milliseconds <= LIMIT_MILLISECONDS
