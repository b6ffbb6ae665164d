"""Confirmation: search scores are not results, so the best candidates are timed again, together.

For one task:
1. `contenders` reads each run's log: its passing candidates by search score, best first, the same
   program once, at most 3.
2. Every run's best is confirmed in one session of the evaluator (fresh processes, fresh seeds,
   final workloads, randomised blocks, then the held-out workloads).
3. If some fail on the final workloads, the next best of those runs take their place and the session
   is repeated with everybody, so that all scores that are compared were timed together. Those that
   fail before anything is timed end their session at once.
4. A run with no candidate left gets the starting program, marked.

Held-out workloads never select: a best that fails there keeps its place, with the verdict beside
it. Every candidate that failed stays in the file.

Not covered: timing (the evaluator's), statistics over runs (the report's).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LogError
from harness.evaluate import Evaluator
from harness.folder import write_text
from harness.runlog import read_events, read_text
from harness.types import (
    Candidate,
    Confirmation,
    Finalist,
    JsonObject,
    Passed,
    Status,
    confirmation_to_json,
)

FORMAT = 1
CANDIDATES_PER_RUN = 3  # the best and at most two that may take its place


@dataclass(frozen=True)
class Contender:
    """A candidate that passed in search. charge: when it was first evaluated with that score."""

    candidate: Candidate
    charge: int
    search_score: float


@dataclass(frozen=True)
class RunContenders:
    """What one run brings into the confirmation of its task. contenders: best first."""

    arm: str
    seed: int
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class Place:
    """Which program stands for a run. contenders: ids of its candidates for the place, best first.
    rank: 1 for the first of them; 0 for the starting program, when all of them failed.
    """

    arm: str
    seed: int
    contenders: tuple[str, ...]
    candidate_id: str
    rank: int
    charge: int
    search_score: float | None


@dataclass(frozen=True)
class TaskConfirmation:
    """The last session, with every candidate that failed in an earlier one, and the places."""

    confirmation: Confirmation
    places: tuple[Place, ...]
    sessions: int

    def to_json(self) -> JsonObject:
        """confirm/<task>.json: the fields of the confirmation, and which run has which finalist."""
        return {
            "format": FORMAT,
            "kind": "confirmation",
            **confirmation_to_json(self.confirmation),
            "sessions": self.sessions,
            "runs": [dataclasses.asdict(place) for place in self.places],
        }


def contenders(
    events: Iterable[Mapping[str, object]], source: Callable[[str], str]
) -> tuple[Contender, ...]:
    """A run's best passing candidates from its log; source: the text of a blob by its name.

    Ties go to the earlier charge. The starting program (charge 0) is no contender.
    """
    passed = [
        event
        for event in events
        if event["kind"] == "evaluation"
        and event["status"] == Status.PASSED.value
        and _whole(event["charge"]) > 0
    ]
    passed.sort(key=lambda event: (-_score(event), _whole(event["charge"])))
    best: dict[str, Contender] = {}
    for event in passed:
        name = str(event["candidate"])
        if name in best:
            continue
        if len(best) == CANDIDATES_PER_RUN:
            break
        candidate = Candidate(event["language"], source(str(event["source"])))  # type: ignore[arg-type]
        best[name] = Contender(candidate, _whole(event["charge"]), _score(event))
    return tuple(best.values())


def read_contenders(run_folder: Path, arm: str, seed: int) -> RunContenders:
    """What the run in `run_folder` brings into the confirmation. Raises LogError."""
    events = read_events(run_folder)
    return RunContenders(arm, seed, contenders(events, lambda name: read_text(run_folder, name)))


def confirm_task(
    evaluator: Evaluator, task: str, start: Candidate, runs: Sequence[RunContenders]
) -> TaskConfirmation:
    """Confirm the runs of one task (see the module). Raises InfraError from the evaluator."""
    failed: dict[str, Finalist] = {}
    sessions = 0
    programs = {c.candidate.id: c.candidate for run in runs for c in run.contenders}
    programs[start.id] = start
    confirmation: Confirmation | None = None
    while True:
        places = [_place(run, start, failed) for run in runs]
        chosen = {place.candidate_id: place for place in places}
        asked = [name for name in chosen if name not in failed]
        if not asked and confirmation is not None:  # even the starting program failed
            break
        confirmation = evaluator.confirm(task, [programs[name] for name in asked])
        sessions += 1
        answered = {finalist.candidate_id for finalist in confirmation.finalists}
        fresh = {
            finalist.candidate_id: finalist
            for finalist in confirmation.finalists
            if not isinstance(finalist.final, Passed)
        }
        failed |= fresh
        whole = answered >= set(asked)
        if not fresh or (whole and not any(chosen[name].rank > 0 for name in fresh)):
            break
    earlier = tuple(f for name, f in failed.items() if name not in answered)
    merged = dataclasses.replace(confirmation, finalists=(*confirmation.finalists, *earlier))
    return TaskConfirmation(merged, tuple(places), sessions)


def phases_in_words(confirmation: Confirmation) -> str | None:
    """How long the last session took and with what; None where it is not known."""
    if confirmation.cached or not confirmation.phases:
        return None
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in confirmation.phases.items())
    seconds = sum(confirmation.phases.values())
    return f"took {seconds:.0f} s in {confirmation.blocks} blocks: {phases}."


def write_confirmation(folder: Path, result: TaskConfirmation) -> Path:
    """Write RUNS/confirm/<task>.json at once (never half). Raises LogError."""
    path = folder / "confirm" / f"{result.confirmation.task}.json"
    write_text(path, json.dumps(result.to_json(), indent=1) + "\n")
    return path


def confirmed_contenders(path: Path) -> list[tuple[str, int, list[str]]]:
    """(arm, seed, ids of its contenders) of each run that a written confirmation covers; [] where
    there is none. Raises LogError for a file of another form."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [(run["arm"], run["seed"], run["contenders"]) for run in data["runs"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LogError(
            f"{path} is no confirmation of this format ({error!r}). Delete it: `harness resume` "
            "writes it again."
        ) from error


def _place(run: RunContenders, start: Candidate, failed: Mapping[str, Finalist]) -> Place:
    """The best contender that has not failed, or the starting program."""
    ids = tuple(contender.candidate.id for contender in run.contenders)
    for rank, contender in enumerate(run.contenders, 1):
        name = contender.candidate.id
        if name not in failed:
            score = contender.search_score
            return Place(run.arm, run.seed, ids, name, rank, contender.charge, score)
    return Place(run.arm, run.seed, ids, start.id, 0, 0, None)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise LogError(f"An evaluation event has the charge {value!r}, expected a whole number.")
    return value


def _score(event: Mapping[str, object]) -> float:
    score = event["score"]
    if not isinstance(score, int | float):
        raise LogError(f"A PASSED evaluation event has the score {score!r}, expected a number.")
    return float(score)
