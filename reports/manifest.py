"""What was compared, on which machine, at which levels: `comparison.json` as a typed record.

Covered: the fields of format 1 that the page shows. Not covered: validation of what the harness
itself resolved; unknown keys are ignored, so that a newer harness may add some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LogError
from harness.types import JsonObject
from reports.canary import canary_factors

FORMAT = 1
MISSING = "not recorded"
_SHOWN_APART = ("level", "device", "isolation", "peaks", "trust_candidates", "lock")

Facts = tuple[tuple[str, str], ...]  # (name, value) rows, in a fixed order


@dataclass(frozen=True)
class Arm:
    """One column of the grid: a method with its variant, options and model.

    replicates: why a seed of this arm labels a replicate and does not reproduce it; empty where it
    does.
    """

    name: str
    method: str
    variant: str | None
    model: str
    replicates: str = ""


@dataclass(frozen=True)
class Comparison:
    """The header of a report.

    budget: the limits that were set, as (limit, value). models: per model its settings; for a
    simulated one its knobs. isolation: how candidates were fenced in, in the evaluator's words;
    trusted: candidates ran with --trust-candidates.
    """

    suite: str
    suite_title: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    budget: Facts
    language: str
    llm_level: str
    evaluator_level: str
    models: tuple[tuple[str, Facts], ...]
    device: str
    isolation: Facts
    trusted: bool
    settings: Facts
    peaks: Facts
    machine: Facts
    packages: Facts
    commit: str
    canary_factors: Mapping[str, float]

    @property
    def levels(self) -> str:
        """The level pair that every table and figure carries."""
        return f"{self.llm_level} LLM × {self.evaluator_level} evaluator"

    @property
    def simulated(self) -> bool:
        """Whether the page must name no winner."""
        return self.llm_level == "simulated"

    @property
    def replicated(self) -> tuple[Arm, ...]:
        """The arms whose seeds label replicates."""
        return tuple(arm for arm in self.arms if arm.replicates)

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in self.arms)


def read_json(path: Path) -> JsonObject:
    """A JSON object of this log format. Raises LogError with what to do."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LogError(
            f"There is no {path.name} in {path.parent}. Expected the folder of a comparison "
            "(the RUNS folder of `harness compare`)."
        ) from error
    except OSError as error:
        raise LogError(
            f"Cannot read {path}: {error.strerror}. Check the file's permissions."
        ) from error
    except ValueError as error:
        raise LogError(
            f"{path} is not JSON ({error}). Restore it from a copy of the folder, or run the "
            "comparison again."
        ) from error
    if not isinstance(data, dict):
        raise LogError(f"{path} holds a {type(data).__name__}, expected a JSON object.")
    return data


def read_manifest(path: Path, kind: str) -> JsonObject:
    """A manifest of this format and kind ("comparison" | "run"). Raises LogError otherwise."""
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise LogError(
            f"{path} has format {data.get('format')!r}, this version reads format {FORMAT}. "
            "Use the version of the harness that wrote the folder (its commit is in the manifest)."
        )
    if data.get("kind") != kind:
        raise LogError(f"{path} is of kind {data.get('kind')!r}, expected {kind!r}.")
    return data


def read_comparison(folder: Path) -> Comparison:
    """The header of the comparison in `folder`. Raises LogError if it is absent or incomplete."""
    path = folder / "comparison.json"
    data = read_manifest(path, "comparison")
    try:
        resolved, llm, evaluator = data["resolved"], data["llm"], data["evaluator"]
        git = data.get("git") or {}
        return Comparison(
            suite=resolved["suite"],
            suite_title=resolved.get("suite_title") or resolved["suite"],
            tasks=tuple(resolved["tasks"]),
            arms=tuple(
                Arm(
                    a["name"],
                    a["method"],
                    a.get("variant"),
                    str(a.get("model") or MISSING),
                    a.get("replicates") or "",
                )
                for a in resolved["arms"]
            ),
            seeds=tuple(resolved["seeds"]),
            budget=tuple(
                (key, number(value))
                for key, value in resolved["budget"].items()
                if value is not None
            ),
            language=resolved["language"],
            llm_level=llm["level"],
            evaluator_level=evaluator["level"],
            models=tuple((name, facts(m)) for name, m in llm.get("models", {}).items()),
            device=_line(evaluator.get("device")),
            isolation=facts(evaluator.get("isolation")),
            trusted=bool(evaluator.get("trust_candidates")),
            settings=facts({k: v for k, v in evaluator.items() if k not in _SHOWN_APART})
            + _device_lock(folder)
            + facts(data.get("notes") or {}),
            peaks=facts(evaluator.get("peaks")),
            machine=facts(data.get("machine")),
            packages=facts(data.get("packages")),
            commit=_commit(git),
            canary_factors=canary_factors(folder, evaluator),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise LogError(
            f"{path} lacks or misuses the field {error}. Expected a comparison manifest of "
            f"format {FORMAT} (docs/architecture.md)."
        ) from error


def _device_lock(folder: Path) -> Facts:
    """What the runs held of a GPU's lock, where they did."""
    try:
        lock = json.loads((folder / "device_lock.json").read_text(encoding="utf-8"))
        held, compiling = float(lock["held_seconds"]), float(lock["compiling_seconds"])
    except (OSError, ValueError, KeyError):
        return ()
    share = f"{compiling / held:.1%}" if held else MISSING
    return (("device held, seconds", number(held)), ("share of it compiling", share))


def facts(value: object, prefix: str = "") -> Facts:
    """Any JSON value as (name, text) rows; nested objects become dotted names."""
    if isinstance(value, Mapping):
        rows: list[tuple[str, str]] = []
        for key, inner in value.items():
            rows.extend(facts(inner, f"{prefix}.{key}" if prefix else str(key)))
        return tuple(rows)
    if value is None and not prefix:
        return ()
    return ((prefix, number(value)),)


def number(value: object) -> str:
    """One JSON value as a person writes it: yes/no, at most 6 significant digits, commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(number(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number(inner)}" for key, inner in value.items())
    return str(value)


def _line(value: object) -> str:
    rows = facts(value)
    return ", ".join(f"{name} {text}" if name else text for name, text in rows) or MISSING


def _commit(git: Mapping[str, object]) -> str:
    commit = str(git.get("commit") or MISSING)[:12]
    return f"{commit} with uncommitted changes" if git.get("dirty") else commit
