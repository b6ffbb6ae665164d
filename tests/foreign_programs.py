"""Small foreign programs for the tests of the bridge, and runs of them in the toy world.

A program is Python text that finds `run` (a bridge.Run), `ask(text)` (one chat completion; returns
its text) and `json`, `os`, `sys`, `time` ready.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import toy_run
from toy_run import ToyClient, ToyEvaluator, toy_spec

from harness.attempt import RunSpec
from harness.budget import Budget
from harness.foreign.drive import ForeignProgram, drive
from harness.foreign.environments import files
from harness.method import Method, Problem, Search
from harness.search import RunSummary

PRELUDE = """
import json, os, sys, time, urllib.request
sys.path.insert(0, os.environ["HARNESS_FILES"])
import bridge

def ask(text, path="/chat/completions", **more):
    body = {"model": os.environ["OPENAI_MODEL"], "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + path, json.dumps(body | more).encode(), headers)
    answer = json.loads(urllib.request.urlopen(request).read())
    return answer["choices"][0]["message"]["content"] if path == "/chat/completions" else answer

def program(text):
    return text.partition("```cpp\\n")[2].partition("```")[0]

run = bridge.connect()
"""

# A plain sequential search: ask, submit what came, say so where nothing came.
SEQUENTIAL = """
best, feedback = None, run.start["info"]["feedback"]
while run.charges_left:
    source = program(ask(f"{feedback} after {best}"))
    if source:
        verdict = run.evaluate(source, parent=best, lineage={"island": 0, "generation": 1})
        best, feedback = verdict["candidate_id"], verdict["info"]["feedback"]
    else:
        verdict = run.no_candidate("no program in the reply")
    run.record("step", {"best": best, "left": run.charges_left})
"""


def foreign(script: str, **settings: object) -> Callable[[Problem], Search]:
    """A method's search function that runs the script."""

    def search(problem: Problem) -> Search:
        texts = {"program.py": PRELUDE + script, **files(__file__)}
        command = (sys.executable, "-P", "-s", "{files}/program.py")
        yield from drive(problem, ForeignProgram(command, texts, **settings))

    return search


def spec(folder: Path, script: str, charges: int = 6, **settings: object) -> RunSpec:
    made = toy_spec(folder, foreign(script, **settings), Budget(charges=charges))
    return replace(made, arm="foreign")


def run(
    folder: Path,
    script: str,
    charges: int = 6,
    *,
    client: object | None = None,
    evaluator: object | None = None,
    stop: threading.Event | None = None,
    budget: Budget | None = None,
    method: Method | None = None,
    **settings: object,
) -> RunSummary:
    made = spec(folder, script, charges, **settings)
    made = replace(made, budget=budget or made.budget, method=method or made.method)
    return toy_run.run(made, client or ToyClient(), evaluator or ToyEvaluator(), stop)


def output(folder: Path) -> str:
    return (folder / "workspace" / "1" / "output.txt").read_text()
