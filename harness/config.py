"""What the user asks for, and what it resolves to. The two are kept apart, and both are logged.

Covered: `ComparisonRequest` (the arguments as they were passed, checked for form), the evaluator's
level, and `resolve`, which loads the suite, the methods and the models and fills in every default.
Not covered: arms, seeds and budgets (`harness/arms.py`), models and schedules
(`harness/llm/models.py`), levels of the LLM (`harness/llm/record.py`): they read their own texts
and are called from here.

Which LLM a comparison uses when nobody says: suite `cpu` with a simulated model (or none named)
uses `simulated`; everything else is `live`, and without a model or its key `resolve` stops and says
how to go on. So a simulated result never comes about by a forgotten key.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.arms import DEFAULT_METHODS, Arm, parse_arms, parse_budget, parse_seeds, refuse_twice
from harness.budget import Budget
from harness.errors import UnknownName, UsageError
from harness.evaluate.modal.options import ModalOptions, is_modal, parse_options
from harness.llm.models import (
    ModelSettings,
    Schedule,
    check_dollar_budget,
    find_model,
    load_models,
)
from harness.llm.record import LLMLevel, parse_level
from harness.method import Method, load_method
from harness.suite import Suite, load_suite
from harness.types import LANGUAGES, JsonObject, Language

DEFAULT_RUNS = Path("runs/comparison")
SIMULATED_MODEL = "simulated"  # the model of models.toml that a simulated comparison uses


class ComparisonRequest(BaseModel):
    """A comparison as it was asked for. Texts stay as they were passed; "" means: the default.

    tasks: names, or "all", or "" (the suite's default tasks). methods: arms. seeds: a count or a
    list. budget: charges, or "charges=20,llm_calls=100,tokens=...,dollars=5,seconds=...". model: a
    name or a schedule. llm, evaluator: levels. models_file: a models.toml of the user's.
    confirm_seconds: device seconds per task and confirmation, or None. trust_candidates: run
    candidate code although this machine cannot hide keys from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str = "cpu"
    tasks: str = ""
    methods: str = DEFAULT_METHODS
    seeds: str = "3"
    budget: str = "20"
    model: str = ""
    llm: str = ""
    evaluator: str = ""
    language: str = ""
    models_file: str = ""
    confirm_seconds: float | None = Field(default=None, gt=0)
    trust_candidates: bool = False


@dataclass(frozen=True)
class ResolvedArm:
    """An arm whose method is loaded, whose options are typed and whose models are known."""

    arm: Arm
    method: Method = dataclasses.field(hash=False)
    options: Any = dataclasses.field(hash=False)
    model: str  # the name or schedule that the arm or the comparison gives
    schedule: Schedule

    def to_json(self) -> JsonObject:
        return {
            "name": self.arm.text,
            "method": self.arm.method,
            "variant": self.arm.variant,
            "options": dataclasses.asdict(self.options),
            "model": self.model,
            "models": list(self.schedule.models),
            "replicates": self.method.replicates(self.options),
        }


@dataclass(frozen=True)
class Resolved:
    """A comparison with every default filled in. `to_json` is what decides whether two requests
    are the same comparison. cache: a shared folder of evaluations; None: RUNS/cache. modal: where
    candidates are evaluated in Modal's containers; its caps do not tell comparisons apart.
    """

    suite: str
    suite_title: str
    tasks: tuple[str, ...]
    task_versions: tuple[str, ...]  # in the order of tasks
    arms: tuple[ResolvedArm, ...]
    seeds: tuple[int, ...]
    budget: Budget
    language: Language
    llm_level: LLMLevel
    cache: Path | None
    confirm_seconds: float | None
    trust_candidates: bool
    models: Mapping[str, ModelSettings] = dataclasses.field(hash=False)
    modal: ModalOptions | None = None

    def to_json(self) -> JsonObject:
        return {
            "suite": self.suite,
            "suite_title": self.suite_title,
            "tasks": list(self.tasks),
            "task_versions": dict(zip(self.tasks, self.task_versions, strict=True)),
            "arms": [arm.to_json() for arm in self.arms],
            "seeds": list(self.seeds),
            "budget": dataclasses.asdict(self.budget),
            "language": self.language,
            "llm_level": str(self.llm_level),
            "evaluator_level": "live",
            "cache": str(self.cache) if self.cache else None,
            "confirm_seconds": self.confirm_seconds,
            "trust_candidates": self.trust_candidates,
            **({"modal": self.modal.identity()} if self.modal else {}),
        }

    @property
    def models_used(self) -> dict[str, ModelSettings]:
        """Settings of every model that some arm names, in the order of the arms."""
        names = dict.fromkeys(name for arm in self.arms for name in arm.schedule.models)
        return {name: self.models[name] for name in names}


def request_from_json(data: Mapping[str, object]) -> ComparisonRequest:
    """A request from the `asked` of a comparison.json, or from arguments by name.

    Raises UsageError that names the fields that are wrong.
    """
    try:
        return ComparisonRequest.model_validate(dict(data))
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise UsageError(
            f"The request is wrong: {details}. See `harness compare --help`."
        ) from error


def parse_evaluator(text: str) -> Path | None:
    """The shared cache of "local:FOLDER"; None for "local" (the default) and for Modal. Raises
    UsageError."""
    if is_modal(text):
        return None
    word, colon, path = (text or "local").partition(":")
    if word != "local" or bool(colon) != bool(path):
        raise UsageError(
            f"Cannot read the evaluator {text!r}. Expected local (measure on this machine, keep "
            "the evaluations in RUNS/cache), local:FOLDER (the same, with the cache in FOLDER, "
            "which several comparisons may share) or modal (docs/modal.md)."
        )
    return Path(path).resolve() if path else None


def resolve(request: ComparisonRequest, *, environment: Mapping[str, str] = os.environ) -> Resolved:
    """Load everything the request names and fill in its defaults.

    environment: where keys are looked for (their presence only). Raises UsageError, UnknownName.
    """
    suite = load_suite(request.suite)
    available = [task.name for task in suite.tasks]
    if request.tasks.split() == ["all"]:
        tasks = tuple(available)
    else:
        tasks = tuple(request.tasks.split()) or suite.default_tasks
    for name in tasks:
        suite.task(name)
    refuse_twice("task", tasks)
    language = language_named(request.language) if request.language else suite.language
    for name in tasks:
        suite.task(name).start(language)
    models = load_models(Path(request.models_file) if request.models_file else None)
    arms = parse_arms(request.methods)
    text = request.llm or _default_llm(request, arms, models)
    level = parse_level(text)
    simulated = level.kind == "simulated" or (request.suite == "cpu" and level.kind != "live")
    default_model = request.model or (SIMULATED_MODEL if simulated else "")
    resolved = tuple(_resolve_arm(arm, default_model, models) for arm in arms)
    result = Resolved(
        suite=request.suite,
        suite_title=suite.title,
        tasks=tasks,
        task_versions=tuple(suite.task(name).version for name in tasks),
        arms=resolved,
        seeds=parse_seeds(request.seeds),
        budget=parse_budget(request.budget),
        language=language,
        llm_level=level,
        cache=parse_evaluator(request.evaluator),
        confirm_seconds=request.confirm_seconds,
        trust_candidates=request.trust_candidates,
        models=models,
        modal=parse_options(request.evaluator) if is_modal(request.evaluator) else None,
    )
    for settings in result.models_used.values():
        _check_model(settings, level, environment)
    simulates = any(settings.kind == "simulated" for settings in result.models_used.values())
    if simulates and level.kind != "replay":
        _check_spaces(suite, tasks)
    check_dollar_budget(result.budget.dollars, result.models_used.values())
    return result


def language_named(text: str) -> Language:
    """The language called `text`. Raises UnknownName."""
    for language in LANGUAGES:
        if language == text:
            return language
    raise UnknownName("language", text, LANGUAGES)


def _default_llm(
    request: ComparisonRequest, arms: Sequence[Arm], models: Mapping[str, ModelSettings]
) -> str:
    """simulated for suite cpu unless a live model is named; live otherwise (see the module)."""
    named = [request.model, *(arm.model or "" for arm in arms)]
    used = [name for text in named if text for name in Schedule.parse(text).models]
    live = [name for name in used if find_model(models, name).kind != "simulated"]
    return "simulated" if request.suite == "cpu" and not live else "live"


def _resolve_arm(arm: Arm, default_model: str, models: Mapping[str, ModelSettings]) -> ResolvedArm:
    method = load_method(arm.method)
    text = arm.model or default_model
    if not text:
        raise UsageError(
            f"The arm {arm.text!r} has no model. Name one with --model (MODEL=): "
            f"{', '.join(sorted(models))}; or type --llm simulated (LLM=simulated), which needs no "
            "key and no network and makes no claim about real models."
        )
    schedule = Schedule.parse(text)
    for name in schedule.models:
        find_model(models, name)
    return ResolvedArm(arm, method, method.make_options(arm.variant, arm.options), text, schedule)


def _check_spaces(suite: Suite, tasks: Sequence[str]) -> None:
    """A simulated model writes programs of a design space, and nothing where a task has none."""
    without = [name for name in tasks if suite.task(name).design_space is None]
    if without:
        others = [task.name for task in suite.tasks if task.design_space is not None]
        raise UsageError(
            f"The simulated model has no design space for {', '.join(without)}, so it could write "
            f"nothing. Name a live model (MODEL=), or other tasks of this suite (TASKS=): "
            f"{', '.join(others) or 'none of them has one'}."
        )


def _check_model(settings: ModelSettings, level: LLMLevel, environment: Mapping[str, str]) -> None:
    """The level and the model must agree, and a live model needs its key."""
    if level.kind == "simulated":
        if settings.kind != "simulated":
            raise UsageError(
                f"Model {settings.name!r} is a live model, but the LLM level is simulated. Leave "
                "--model out, or say --llm live (which costs money)."
            )
        return
    if settings.kind == "simulated" and level.kind == "live":
        raise UsageError(
            f"Model {settings.name!r} is simulated, but the LLM level is live. Name a live model "
            "for it, leave that arm out (--methods), or say --llm simulated (LLM=simulated)."
        )
    key = settings.key_variable
    if key and level.kind != "replay" and not environment.get(key):
        raise UsageError(
            f"Model {settings.name!r} needs the key in the variable {key}, which is not set. "
            f"Set it (export {key}=...), or type --llm simulated (LLM=simulated), which needs "
            "no key and no network and makes no claim about real models."
        )
