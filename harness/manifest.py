"""comparison.json: what was asked, what was resolved, and what the results depend on.

Covered: writing it once, before the first run; the share of it that goes into each run's manifest.
Not covered: reading it for a report (`reports/manifest.py`), keeping folders apart (`folder.py`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import environment
from harness.config import ComparisonRequest, Resolved
from harness.errors import UsageError
from harness.evaluate import Evaluator
from harness.folder import FORMAT, manifest_path, read_manifest, write_text
from harness.suite import baseline_in_words, load_suite
from harness.taskcard import card_to_json, make_card
from harness.types import JsonObject

_MEASURED_BY = ("protocol", "settings", "device")  # what times depend on


def write_comparison(
    folder: Path, request: ComparisonRequest, resolved: Resolved, evaluator: Evaluator
) -> None:
    """Write comparison.json of a new comparison. Raises EnvironmentMissing."""
    suite = load_suite(resolved.suite)
    described = evaluator.describe()
    # Times belong to the machine that judges, which may not be this one.
    machine = described.pop("machine", None) or environment.fingerprint()
    packages = environment.packages() | described.pop("packages", {})
    theirs = described.pop("notes", {})
    notes = {name: dict(theirs.get(name, suite.task(name).notes)) for name in resolved.tasks}
    cards = {
        name: card_to_json(
            make_card(
                resolved.suite,
                suite.task(name),
                resolved.language,
                evaluator.header(name, resolved.language),
                described,
            )
        )
        for name in resolved.tasks
    }
    data = {
        "format": FORMAT,
        "kind": "comparison",
        "asked": request.model_dump(mode="json"),
        "resolved": resolved.to_json(),
        "llm": llm_to_json(resolved),
        "evaluator": described,
        "machine": machine,
        "packages": packages,
        "deviations": {
            needed.name: needed.deviations
            for needed in (arm.method.needs for arm in resolved.arms)
            if needed is not None and needed.ready
        },
        "git": environment.git_state(),
        "notes": {name: said for name, said in notes.items() if said},
        "cards": cards,
    }
    write_text(manifest_path(folder), json.dumps(data, indent=1, allow_nan=False) + "\n")


def check_evaluator(folder: Path, evaluator: Evaluator) -> None:
    """Raise UsageError where the comparison in `folder` was measured in another way or on another
    device than this evaluator would: results of both must not stand in one report."""
    there = read_manifest(folder)["evaluator"]
    here = json.loads(json.dumps(evaluator.describe()))
    check_baselines(folder, here["baselines"])
    known = [name for name in _MEASURED_BY if there.get(name) and here.get(name)]
    names = [name for name in known if there[name] != here[name]]
    if names:
        raise UsageError(
            f"{folder} was measured by another version or configuration of the evaluator "
            f"({', '.join(names)} differ), so its results do not compare with new ones. Begin "
            "again in another folder (--runs, RUNS=), or go on with the version that began it."
        )


def check_baselines(folder: Path, here: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where a task of the comparison in `folder` was judged against another
    baseline than here. here: `Baseline.identity` by task. Older manifests have names alone."""
    manifest = read_manifest(folder)
    begun = manifest["evaluator"].get("baselines", {})
    for task, card in manifest["cards"].items():
        was = begun.get(task, [card["baseline"]])
        if was != list(here[task])[: len(was)]:
            raise UsageError(
                f"{folder} was judged against {baseline_in_words(was)} on {task}, here it would be "
                f"against {baseline_in_words(here[task])}: speedups over both do not compare. "
                "Install what the baseline needs, in that version (on Modal: deploy the code that "
                "the comparison was begun with), or begin again in another folder (--runs, RUNS=)."
            )


def write_device_lock(folder: Path, evaluator: Evaluator) -> str | None:
    """Add what this process held of its device's lock to device_lock.json, for evaluators that hold
    one, and the lowest and highest clock seen of the multiprocessors; in words. Raises
    EnvironmentMissing."""
    lock = evaluator.describe().get("lock")
    if lock is None:
        return None
    path = folder / "device_lock.json"
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(path.read_text(encoding="utf-8"))
        seen = [*lock["clocks_mhz"], *before["clocks_mhz"]]
        lock = {n: lock[n] + before[n] for n in ("held_seconds", "compiling_seconds")}
        lock["clocks_mhz"] = [min(seen), max(seen)] if seen else []
    write_text(path, json.dumps(lock) + "\n")
    share = lock["compiling_seconds"] / lock["held_seconds"] if lock["held_seconds"] else 0.0
    words = f"The device was held for {lock['held_seconds']:.0f} s, {share:.1%} of it compiling"
    if lock["clocks_mhz"]:
        low, high = lock["clocks_mhz"]
        words += f"; its multiprocessors ran at {low} to {high} MHz"
    return words + "."


def llm_to_json(resolved: Resolved) -> JsonObject:
    """{level, models}. Any simulated model makes the level "simulated", also when its answers are
    recorded or replayed: what came from a simulation says so."""
    used = resolved.models_used
    if any(settings.kind == "simulated" for settings in used.values()):
        level = "simulated"
    elif resolved.llm_level.kind == "replay":
        level = "replay"
    else:
        level = "live"
    return {"level": level, "models": {name: model.describe() for name, model in used.items()}}


def run_share(comparison: JsonObject, arm: str, task: str) -> JsonObject:
    """The part of comparison.json that belongs into one run's manifest."""
    resolved = comparison["resolved"]
    only = [a for a in resolved["arms"] if a["name"] == arm]
    card = comparison["cards"][task]
    models = {name: comparison["llm"]["models"][name] for name in only[0]["models"]}
    return {
        "asked": comparison["asked"],
        "resolved": {**resolved, "tasks": [task], "arms": only},
        "llm": {"level": comparison["llm"]["level"], "models": models},
        "evaluator": comparison["evaluator"],
        "machine": comparison["machine"],
        "packages": comparison["packages"],
        "git": comparison["git"],
        "task_version": resolved["task_versions"][task],
        "baseline": card["baseline"],
        "card": card,
    }
