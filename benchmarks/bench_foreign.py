"""What the bridge to foreign programs adds to an LLM call and to an evaluation.

The limits: at most 5 ms per LLM call and 10 ms per evaluation. A program in a process of its own
makes the calls one after the other, over HTTP with a connection for each, and prints the median of
its own clock. A native method makes the same calls with the same prompts and programs; what the
program took longer is the bridge. The model and the evaluator answer at once.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.bench_search import PROGRAMS, PROMPTS, InstantClient, InstantEvaluator
from harness.budget import Budget
from harness.foreign.drive import ForeignProgram, drive
from harness.foreign.environments import files
from harness.method import Method, Problem, Search, TaskCard
from harness.search import RunSpec, run_search
from harness.types import Candidate

CALLS = 100
CALL_LIMIT_MS = 5.0
EVALUATION_LIMIT_MS = 10.0

PROGRAM = """
import http.client, json, os, statistics, sys, time, urllib.parse
sys.path.insert(0, os.environ["HARNESS_FILES"])
import bridge

texts = json.load(open(os.environ["HARNESS_FILES"] + "/texts.json"))
address = urllib.parse.urlsplit(os.environ["OPENAI_BASE_URL"])
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}

def complete(prompt):
    body = {"model": "model", "messages": [{"role": "user", "content": prompt}]}
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("POST", address.path + "/chat/completions", json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["choices"][0]["message"]["content"]

def timed(function, text):
    began = time.perf_counter()
    function(text)
    return time.perf_counter() - began

run = bridge.connect()
calls, evaluations = [], []
for prompt, program in zip(texts["prompts"], texts["programs"]):
    calls.append(timed(complete, prompt))
    evaluations.append(timed(run.evaluate, program))
print(json.dumps({"call": statistics.median(calls), "evaluation": statistics.median(evaluations)}))
"""


@dataclass(frozen=True)
class Medians:
    """Seconds."""

    call: float
    evaluation: float


def one_run(folder: Path, search: object) -> None:
    start, evaluator, client = Candidate("cpp", "int x;\n"), InstantEvaluator(), InstantClient()
    spec = RunSpec(
        folder=folder,
        task=TaskCard("task", "suite", "cpp", "prose", start.source, "baseline", ("w",)),
        start=start,
        start_evaluation=evaluator.evaluate("task", start),
        method=Method("bench", "bench", search, Options, "harness.budget"),  # type: ignore[arg-type]
        options=Options(),
        arm="bench",
        seed=0,
        budget=Budget(CALLS),
        manifest={},
    )
    summary = run_search(
        spec,
        models=lambda charges: ("model", {}),
        clients=lambda name: client,
        evaluator=evaluator,  # type: ignore[arg-type]
        on_progress=lambda progress: None,
        stop=threading.Event(),
    )
    assert summary.charges == CALLS


@dataclass(frozen=True)
class Options:
    """None."""


def foreign(folder: Path) -> Medians:
    """The program's medians."""
    texts = json.dumps({"prompts": PROMPTS[:CALLS], "programs": PROGRAMS[:CALLS]})

    def search(problem: Problem) -> Search:
        made = {"program.py": PROGRAM, "texts.json": texts, **files(__file__)}
        yield from drive(
            problem, ForeignProgram([sys.executable, "-P", "{files}/program.py"], made)
        )

    one_run(folder, search)
    return Medians(**json.loads((folder / "workspace" / "1" / "output.txt").read_text()))


def native(folder: Path) -> Medians:
    """The same calls from a generator."""
    calls: list[float] = []
    evaluations: list[float] = []

    def search(problem: Problem) -> Search:
        for prompt, program in zip(PROMPTS[:CALLS], PROGRAMS[:CALLS], strict=True):
            began = time.perf_counter()
            problem.llm.complete(prompt, purpose="propose")
            asked = time.perf_counter()
            yield Candidate("cpp", program)
            calls.append(asked - began)
            evaluations.append(time.perf_counter() - asked)

    one_run(folder, search)
    return Medians(statistics.median(calls), statistics.median(evaluations))


@pytest.mark.benchmark(group="foreign")
def test_the_bridge_adds_at_most_five_milliseconds_a_call_and_ten_an_evaluation(
    benchmark, tmp_path
):
    folders = iter(tmp_path / f"run-{number}" for number in range(100))
    found: list[Medians] = []
    benchmark.pedantic(lambda: found.append(foreign(next(folders))), rounds=3)
    other = native(next(folders))
    call_ms = 1e3 * (statistics.median(m.call for m in found) - other.call)
    evaluation_ms = 1e3 * (statistics.median(m.evaluation for m in found) - other.evaluation)
    benchmark.extra_info["bridge_ms_per_call"] = call_ms
    benchmark.extra_info["bridge_ms_per_evaluation"] = evaluation_ms
    print(
        f"\nbridge: {call_ms:.2f} ms per LLM call (native {1e3 * other.call:.2f} ms), "
        f"{evaluation_ms:.2f} ms per evaluation (native {1e3 * other.evaluation:.2f} ms)"
    )
    assert call_ms <= CALL_LIMIT_MS
    assert evaluation_ms <= EVALUATION_LIMIT_MS
