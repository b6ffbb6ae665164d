"""A toy run for the tests of the search loop: models, evaluators and methods that need no machine.

The model is a pure function of the prompt and its occurrence; the evaluator reads the score from
the program. Run as a program (`python toy_run.py FOLDER`) it makes one run, for the kill -9 test.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.budget import Budget
from harness.llm.client import Reply, Request
from harness.method import Method, Problem, Search, TaskCard
from harness.search import RunSpec, RunSummary, run_search
from harness.types import (
    Candidate,
    Evaluation,
    Failed,
    Measurement,
    NoCode,
    Passed,
    Phase,
    Stage,
    Status,
    Usage,
)

START = Candidate("cpp", "// score 1.0\n")
CARD = TaskCard("toy", "toys", "cpp", "Write a number.", START.source, "one", ("small", "large"))


@dataclass
class ToyClient:
    """Answers with a program whose score follows from the prompt; sometimes with none."""

    calls: int = 0
    seconds_per_call: float = 0.0
    waits: bool = False
    dollars: float | None = 0.001

    def complete(self, request: Request, occurrence: int) -> Reply:
        self.calls += 1
        time.sleep(self.seconds_per_call)
        text = "".join(message.content for message in request.messages)
        digest = hashlib.blake2b(f"{text}{occurrence}".encode(), digest_size=4).digest()
        usage = Usage(len(text), 10, 3, self.dollars)
        if digest[0] < 20:
            return Reply("", usage, 0.25, "empty", "toy-1")
        if digest[0] < 40:
            return Reply("I cannot help with that.", usage, 0.25, "refusal", "toy-1")
        if digest[0] < 60:
            return Reply("```cpp\n// score", usage, 0.25, "length", "toy-1")
        score = 0.5 + int.from_bytes(digest[1:3], "big") / 65536
        return Reply(f"Here:\n```cpp\n// score {score}\n```\n", usage, 0.25, "stop", "toy-1")


@dataclass
class ToyEvaluator:
    """Scores a program by the number in it; below 0.6 it is wrong."""

    seconds: float = 0.0
    evaluated: list[str] = field(default_factory=list)

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        self.evaluated.append(candidate.id)
        time.sleep(self.seconds)
        return toy_evaluation(candidate)


def toy_evaluation(candidate: Candidate) -> Evaluation:
    found = re.search(r"score (\d+\.\d+)", candidate.source)
    score = float(found.group(1)) if found else 0.0
    if score < 0.6:
        outcome = Failed(
            Status.INCORRECT_NUMERICAL, Stage.CORRECTNESS, "tolerance", "too low", "small"
        )
        return Evaluation(candidate.id, Phase.SEARCH, outcome, "INCORRECT_NUMERICAL", 0.5, 0.1)
    rows = tuple(
        Measurement(name, 10.0 / score, 10.0, score, score * 0.99, score * 1.01, 1.0, 3)
        for name in CARD.workloads
    )
    samples = {name: ((10.0 / score,) * 3, (10.0,) * 2) for name in CARD.workloads}
    passed = Passed(rows, score * 0.99, score * 1.01)
    text = f"PASSED: score {score:.4f}"
    return Evaluation(candidate.id, Phase.SEARCH, passed, text, 0.5, 0.125, False, samples)


@dataclass(frozen=True)
class Options:
    """Settings of the toy methods."""

    pause_seconds: float = 0.0


def walk(problem: Problem) -> Search:
    """A search that uses everything: several calls per proposal, lists, records, random choices."""
    best, feedback = problem.start, problem.start_evaluation.feedback
    best_score = problem.start_evaluation.score or 0.0
    stream = problem.random("walk")
    step = 0
    while True:
        step += 1
        plan = problem.llm.complete(f"plan {step} {feedback}", purpose="world-model")
        problem.record("world_model", {"step": step, "plan": plan.text * stream.randint(1, 40)})
        if stream.random() < 0.3:
            proposals = []
            for branch in range(stream.randint(1, 3)):
                reply = problem.llm.complete(f"branch {branch} {feedback}", purpose="propose")
                proposals.append(problem.candidate_from(reply, parent=best))
            evaluations = yield [*proposals, NoCode("rejected novelty")]
        else:
            reply = problem.llm.complete("the same prompt each time", purpose="propose")
            proposals = [problem.candidate_from(reply, parent=best, note=f"step {step}")]
            evaluations = [(yield proposals[0])]
        for proposal, evaluation in zip(proposals, evaluations, strict=False):
            feedback = evaluation.feedback
            if isinstance(proposal, Candidate) and (evaluation.score or 0.0) > best_score:
                best, best_score = proposal, evaluation.score
        problem.record("selection", {"best": best.id, "left": problem.charges_left})


def toy_method(search: object, name: str = "toy") -> Method:
    return Method(name, "A toy", search, Options, "toy_run")  # type: ignore[arg-type]


def toy_spec(folder: Path, search: object = walk, budget: Budget | None = None) -> RunSpec:
    return RunSpec(
        folder=folder,
        task=CARD,
        start=START,
        start_evaluation=toy_evaluation(START),
        method=toy_method(search),
        options=Options(),
        arm="toy",
        seed=7,
        budget=budget or Budget(charges=8),
        manifest={"asked": {}, "git": {"commit": "c0ffee", "dirty": False}},
    )


def toy_models(charges: int) -> tuple[str, dict[str, float]]:
    return ("early", {"temperature": 0.5}) if charges < 4 else ("late", {"temperature": 0.75})


def run(
    spec: RunSpec,
    client: object | None = None,
    evaluator: object | None = None,
    stop: threading.Event | None = None,
    on_progress: object = lambda progress: None,
) -> RunSummary:
    client = client or ToyClient()
    return run_search(
        spec,
        models=toy_models,
        clients=lambda name: client,
        evaluator=evaluator or ToyEvaluator(),
        on_progress=on_progress,
        stop=stop or threading.Event(),
    )


def essence(folder: Path) -> list[str]:
    """The events as texts without what an interruption may change: i, t, attempts and pauses."""
    found = []
    for line in (folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] not in ("attempt", "paused"):
            del event["i"], event["t"]
            found.append(json.dumps(event))
    return found


def main() -> None:
    client, evaluator = ToyClient(seconds_per_call=0.002), ToyEvaluator(seconds=0.002)
    spec = replace(toy_spec(Path(sys.argv[1])), budget=Budget(charges=30))
    print(run(spec, client, evaluator).reason)


if __name__ == "__main__":
    main()
