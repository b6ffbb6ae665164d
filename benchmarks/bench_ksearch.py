"""K-Search's own cost per round on a world model of 1,000 nodes: at most 20 ms for each step.

Run with `python -m pytest benchmarks/bench_ksearch.py`. Not covered: the model's and the
evaluator's time, which are seconds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.llm.client import Reply
from harness.types import Candidate, Evaluation, Measurement, Passed, Phase, Usage
from methods.ksearch.edits import Applied, apply_revision, parse
from methods.ksearch.projection import project
from methods.ksearch.selection import select
from methods.ksearch.world_model import Insert, Program, Prune, WorldModel

NODES = 1_000
LIMIT_SECONDS = 0.020


def program(score: float) -> Program:
    candidate = Candidate("cpp", f"// {score}")
    measured = Measurement("w0", 1.0, score, score, score, score, 0.1, 10)
    outcome = Passed((measured,), score, score)
    return Program(candidate, Evaluation(candidate.id, Phase.SEARCH, outcome, "PASSED"))


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """1,000 nodes with texts of full length: 40 % closed, 20 % pruned, the rest open."""
    stream = random.Random(1)
    grown = WorldModel.of_start(program(1.0))
    live = [grown.root]
    while len(grown.nodes) < NODES:
        text = f"idea {len(grown.nodes)}: " + "tile the loops and keep the block in cache; " * 12
        edit = Insert(
            stream.choice(live), text[:110], text, stream.random(), stream.randint(1, 5), 1.5, text
        )
        grown, node = grown.insert(edit, len(grown.nodes))
        fate = stream.random()
        if fate < 0.4:
            grown = grown.attach(node.id, program(round(stream.uniform(0.5, 9.0), 4)))
            live.append(node.id)
        elif fate < 0.6:
            grown, _ = grown.prune(Prune(node.id))
    return grown


def check(benchmark: Any, action: Callable[[], object]) -> None:
    benchmark(action)
    assert benchmark.stats.stats.median <= LIMIT_SECONDS


@pytest.mark.parametrize("tokens", [6_000, 20_000])
def test_projection(benchmark: Any, model: WorldModel, tokens: int) -> None:
    check(benchmark, lambda: project(model, tokens))


def test_reading_and_applying_an_answer(benchmark: Any, model: WorldModel) -> None:
    frontier = [node.id for node in model.frontier]
    text = "tile the loops " * 20
    rows = [
        {
            "op": "insert",
            "parent": model.best.id,
            "title": f"idea {number}",
            "intent": f"{number} {text}",
            "priority": 0.5,
            "difficulty": 2,
            "rationale": text,
        }
        for number in range(5)
    ]
    rows += [{"op": "update", "node": n, "priority": 0.3, "notes": text} for n in frontier[:20]]
    rows += [{"op": "prune", "node": n, "reason": text} for n in frontier[20:25]]
    reply = Reply(f"```json\n{json.dumps({'edits': rows})}\n```", Usage(), 0.0)

    def edit() -> Applied:
        return apply_revision(model, parse(reply), round_number=1, max_new_nodes=5)

    assert len(edit().edits) == 30
    check(benchmark, edit)


@pytest.mark.parametrize("policy", ["argmax", "uct"])
def test_selection(benchmark: Any, model: WorldModel, policy: Any) -> None:
    stream = random.Random(1)
    check(
        benchmark,
        lambda: select(model, policy=policy, max_difficulty=4, uct_c=0.5, stream=stream),
    )
