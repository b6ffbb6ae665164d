"""What the stand-in for Modal runs instead of a container: quick answers, or kept real evaluators.

Covered: `ToyContainer` (no build, no clock, a score from the program's hash; the whole protocol of
requests), `RealContainer` (the answer of remote.py itself).
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toy_evaluator import ToyEvaluator

from harness.evaluate.header import cpp_header
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.modal.remote import answer
from harness.evaluate.modal.requests import decode, encode
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import load_suite
from harness.types import (
    Candidate,
    Confirmation,
    Evaluation,
    JsonObject,
    Language,
    Passed,
    confirmation_to_json,
    evaluation_to_json,
)


class NamedToyEvaluator(ToyEvaluator):
    """The toy evaluator, with rows for the task's own workloads."""

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        evaluation = super().evaluate(task, candidate)
        if not isinstance(evaluation.outcome, Passed):
            return evaluation
        names = [workload.name for workload in load_suite(self.suite).task(task).search]
        row = evaluation.outcome.measurements[0]
        rows = tuple(dataclasses.replace(row, workload=name) for name in names)
        outcome = dataclasses.replace(evaluation.outcome, measurements=rows)
        return dataclasses.replace(evaluation, outcome=outcome)

    def header(self, task: str, language: Language) -> str:
        return cpp_header(load_suite(self.suite).task(task).signature)

    def confirm(self, task: str, candidates: list[Candidate]) -> Confirmation:  # type: ignore[override]
        return super().confirm(task, sorted(candidates, key=lambda c: c.id))


class ToyContainer:
    """Answers requests at once. seconds: how long each takes. requests: what was asked. described,
    notes, versions: what an examination finds otherwise than on this machine."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.evaluator = NamedToyEvaluator()
        self.seconds = seconds
        self.requests: list[JsonObject] = []
        self.described: JsonObject = {}
        self.notes: JsonObject = {}
        self.versions: JsonObject = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, request: bytes) -> bytes:
        body = decode(request)
        self.requests.append(body)
        assert self.gate.wait(60)
        time.sleep(self.seconds)
        container = {
            "image": "nvidia/cuda:13.0.1-devel-ubuntu24.04",
            "device": "toy",
            "canary_us": 100.0,
            "seconds": 2.0,
        }
        result = getattr(self, body["operation"])(body)
        whole = {"result": result, "refusal": None, "message": "", "container": container}
        return encode(whole)

    def evaluate(self, body: JsonObject) -> JsonObject:
        candidate = Candidate(**body["candidates"][0])
        evaluator = dataclasses.replace(self.evaluator, suite=body["suite"])  # its lists are shared
        evaluation = evaluator.evaluate(body["task"], candidate)
        return {"evaluation": evaluation_to_json(evaluation), "samples": {}}

    def confirm(self, body: JsonObject) -> JsonObject:
        candidates = [Candidate(**entry) for entry in body["candidates"]]
        confirmation = self.evaluator.confirm(body["task"], candidates)
        confirmation = dataclasses.replace(confirmation, baseline=body["baseline"][0])
        return {"confirmation": confirmation_to_json(confirmation)}

    def examine(self, body: JsonObject) -> JsonObject:
        evaluator = dataclasses.replace(self.evaluator, suite=body["suite"])
        return {
            "described": evaluator.describe() | self.described,
            "doctor": [],
            "machine": {"cpu": "toy"},
            "packages": {"torch": "toy", "triton": None, "numpy": "toy"},
            "notes": self.notes,
            "versions": self.versions
            or {task.name: task.version for task in load_suite(body["suite"]).tasks},
        }

    def build(self, body: JsonObject) -> JsonObject:
        return {"builds": {f"{body['phase']}.tar": b"built".hex()}}

    def version(self, body: JsonObject) -> JsonObject:
        return {"version": body["version"], "packages": {}}


class RealContainer:
    """Answers with the real code. evaluators: of this machine, by suite and settings; each lives on
    between requests, and can be asked directly."""

    def __init__(self) -> None:
        self.evaluators: dict[str, LocalEvaluator] = {}
        self._lock = threading.Lock()

    def __call__(self, request: bytes) -> bytes:
        return answer(request, self._opened)

    @contextmanager
    def _opened(self, body: JsonObject, folder: Path) -> Iterator[LocalEvaluator]:
        del folder
        key = json.dumps([body["suite"], body["settings"]])
        with self._lock:
            if key not in self.evaluators:
                settings = EvaluatorSettings(**body["settings"])
                self.evaluators[key] = LocalEvaluator(body["suite"], settings=settings)
            yield self.evaluators[key]

    def close(self) -> None:
        for evaluator in self.evaluators.values():
            evaluator.close()
