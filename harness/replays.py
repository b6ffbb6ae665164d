"""`harness replay`: re-execute runs offline and say whether their logs explain them.

Everything a run is made from is in its own manifest (the task's card, the arm, the seed, the
budget); only the method's code is taken from this checkout.

Covered: one run's folder, or a comparison's. Not covered: how one run is re-executed (`replay.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.arms import parse_arm
from harness.attempt import RunSpec
from harness.budget import Budget
from harness.errors import LogError
from harness.method import load_method
from harness.replay import replay_run
from harness.runlog import read_events, read_manifest, read_text
from harness.taskcard import card_from_json
from harness.types import Candidate, Evaluation, evaluation_from_json


def replay_runs(folder: Path) -> bool:
    """Replay the run, or every run of the comparison, in `folder`; print a line for each; whether
    all logs explain their runs. A log that cannot be read explains nothing; a run whose seed labels
    a replicate is named and not counted. Raises LogError where there is no run."""
    if (folder / "manifest.json").exists():
        runs = [folder]
    else:
        runs = [path.parent for path in sorted(folder.glob("runs/*/*/seed-*/manifest.json"))]
    if not runs:
        raise LogError(
            f"There is no run in {folder}. Expected the folder of a comparison, or of a run "
            "(RUNS/runs/TASK/ARM/seed-N)."
        )
    explained = replicates = 0
    for run in runs:
        try:
            spec = _spec(run)
            why = spec.method.replicates(spec.options)
            if why is not None:
                print(f"{run}: not replayed, its seed labels a replicate: {why}.")
                replicates += 1
                continue
            report = replay_run(spec)
        except LogError as error:  # damaged: the others are replayed all the same
            print(f"{run}: {error}")
            continue
        explained += report.explained
        changed = " (the method's code changed since)" if report.code_changed else ""
        print(f"{run}: {report.message}{changed}")
    expected = len(runs) - replicates
    if expected:
        print(f"{explained} of {expected} runs are explained by their logs.")
    if replicates:
        print(f"{replicates} runs cannot be replayed; their logs are records, not proofs.")
    return explained == expected


def _spec(run: Path) -> RunSpec:
    """What the run was made from, by its manifest. Raises LogError."""
    manifest = read_manifest(run)
    try:
        card = card_from_json(manifest["card"])
        arm = parse_arm(manifest["arm"])
        budget = Budget(**manifest["budget"])
        seed = manifest["seed"]
    except (KeyError, TypeError) as error:
        raise LogError(
            f"{run}: its manifest lacks what a replay needs ({error!r}). Use the version of the "
            "harness that wrote it (its commit is in the manifest)."
        ) from error
    method = load_method(arm.method)
    return RunSpec(
        folder=run,
        task=card,
        start=Candidate(card.language, card.start_source),
        start_evaluation=_recorded_start(run),
        method=method,
        options=method.make_options(arm.variant, arm.options),
        arm=arm.text,
        seed=seed,
        budget=budget,
        manifest=manifest,
    )


def _recorded_start(run: Path) -> Evaluation:
    for event in read_events(run):
        if event["kind"] == "evaluation" and event["charge"] == 0:
            return evaluation_from_json(json.loads(read_text(run, event["evaluation"])))
    raise LogError(f"{run}: its log has no iteration 0: the run never began. Resume it first.")
