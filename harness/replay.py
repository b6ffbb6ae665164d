"""Does the log of a finished run explain it? Re-execution with no model, no evaluator, no writing.

Covered: the method runs again and is served the recorded completions and evaluations; every event
that it would write must be the recorded one, to the end. Not covered: whether the recorded times
are right (confirm.py measures again), or that another model would answer so.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from harness.attempt import RunSpec, recorded_code
from harness.code_hash import method_code
from harness.errors import ReplayMismatch
from harness.journal import Journal
from harness.llm.client import Client
from harness.llm.embedding import EMBEDDING_PURPOSE
from harness.metered import Models
from harness.runlog import RunLog
from harness.search import Run
from harness.types import Candidate, Evaluation, JsonScalar


@dataclass(frozen=True)
class ReplayReport:
    """Whether the log explains the run. message: what was found, in one or more lines. events: how
    many the log has. code_changed: the method's code is not the recorded one any more."""

    explained: bool
    message: str
    events: int
    code_changed: bool


def replay_run(spec: RunSpec, models: Models | None = None) -> ReplayReport:
    """Re-execute a finished run from its log alone.

    models: the schedule; None takes it from the recorded calls. Raises LogError (a damaged log) and
    whatever the method raises.
    """
    log = RunLog.read(spec.folder)
    last = log.events[-1] if log.events else {"kind": "nothing"}
    code_changed = method_code(spec.method.package).hash != recorded_code(log)[0]

    def report(explained: bool, message: str) -> ReplayReport:
        return ReplayReport(explained, message, len(log.events), code_changed)

    if last["kind"] != "finished":
        return report(
            False, f"The run is not finished: its log ends with {last['kind']}. Resume it first."
        )
    run = Run(
        spec,
        Journal(log),
        models or recorded_models(log),
        _no_client,
        _no_evaluation,
        lambda progress: None,
        threading.Event(),
    )
    try:
        run.drive()
    except ReplayMismatch as mismatch:
        return report(False, str(mismatch))
    return report(True, f"The log explains the run: {len(log.events)} events, {last['reason']}.")


def recorded_models(log: RunLog) -> Models:
    """The schedule as far as the log shows it: the model and sampling of the recorded calls."""
    calls = [e for e in log.events if e["kind"] == "llm" and e["purpose"] != EMBEDDING_PURPOSE]
    blobs = {e["charges"]: e["request"] for e in calls}

    def models(charges: int) -> tuple[str, Mapping[str, JsonScalar]]:
        if charges not in blobs:
            raise ReplayMismatch(
                f"{log.folder}: the re-executed method asks the model after {charges} charges, "
                "where the log has no call."
            )
        request = json.loads(log.get_text(blobs[charges]))
        return request["model"], request["sampling"]

    return models


def _no_client(model: str) -> Client:
    raise ReplayMismatch(f"A replay has no model, and {model} was asked.")


def _no_evaluation(task: str, candidate: Candidate) -> Evaluation:
    raise ReplayMismatch(f"A replay evaluates nothing, and {candidate.id} of {task} was proposed.")
