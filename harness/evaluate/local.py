"""The evaluator on this machine: cache → build → judge.

Covered: suites on the CPU and on NVIDIA GPUs, each by its backend; equal requests in flight share
one evaluation; keys are kept from every process below.
Not covered: other machines.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from harness.environment import cores, fingerprint, packages
from harness.errors import EnvironmentMissing, UsageError
from harness.evaluate import EVALUATOR_PROTOCOL
from harness.evaluate.bindings import BindingMissing
from harness.evaluate.bundle import MARK
from harness.evaluate.cache import Cache, conditions
from harness.evaluate.feedback import feedback
from harness.evaluate.inspected import Inspection, inspection_from_json
from harness.evaluate.local_cpu import CpuBackend
from harness.evaluate.local_gpu import GpuBackend, GpuDevice
from harness.evaluate.sandbox import Isolation, isolation_to_json, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Baseline, Task, load_suite
from harness.types import (
    Candidate,
    Confirmation,
    Evaluation,
    Failed,
    JsonObject,
    Language,
    Phase,
    Stage,
    Status,
    Workload,
    canonical_json,
    confirmation_from_json,
    content_hash,
    evaluation_from_json,
    evaluation_to_json,
    outcome_from_json,
    outcome_to_json,
)


class Backend(Protocol):
    """One kind of device of this machine. Raises InfraError for faults of its own."""

    def require(self, task: Task, language: Language) -> None:
        """Raise UsageError for a language that candidates of the task cannot be written in."""
        ...

    def build(
        self, task: Task, candidate: Candidate, workloads: Sequence[Workload]
    ) -> tuple[JsonObject | Failed, float]:
        """What the judge loads (judge_process.py) to run these workloads, or why there is nothing;
        and the seconds."""
        ...

    def ask(self, request: JsonObject) -> JsonObject:
        """A judge's answer."""
        ...

    def header(self, task: Task, language: Language) -> str: ...

    def describe(self) -> JsonObject: ...

    def conditions(self) -> JsonObject:
        """What a cached evaluation depends on besides task, settings and machine."""
        ...

    def close(self) -> None: ...


class LocalEvaluator:
    """Implements `harness.evaluate.Evaluator` for one suite. Make it in a thread that lives as
    long.

    cache_folder: None measures everything afresh. secret: seeds of inputs derive from it; made at
    random if not given. trust_candidates: allow candidate code although nothing can hide keys.
    device: for a suite on a GPU; "interpreter" runs it on the CPU, in Triton's interpreter, to
    check programs where there is no GPU (its times mean nothing).
    """

    def __init__(
        self,
        suite_name: str,
        *,
        cache_folder: Path | None = None,
        settings: EvaluatorSettings | None = None,
        secret: bytes | None = None,
        trust_candidates: bool = False,
        isolation: Isolation | None = None,
        device: GpuDevice = "cuda",
    ) -> None:
        self._suite_name = suite_name
        self._suite = load_suite(suite_name)
        self._settings = settings or EvaluatorSettings()
        self._isolation = isolation or probe()
        if not self._isolation.can_hide_keys and not trust_candidates:
            raise EnvironmentMissing(
                "This machine allows neither namespaces nor Landlock, so candidate code could read "
                "keys and files. Run it in the shipped Dockerfile, or pass --trust-candidates if "
                "you wrote every candidate yourself; the report will say so."
            )
        self._trusted = trust_candidates
        self._cache = Cache(cache_folder)
        self._lock = threading.Lock()
        self._building = threading.Lock()  # of finalists
        self._hits = self._misses = 0
        self._backend = self._make_backend(cache_folder, secret or secrets.token_bytes(32), device)

    def _make_backend(self, cache_folder: Path | None, secret: bytes, device: GpuDevice) -> Backend:
        common: dict[str, Any] = {
            "cache_folder": cache_folder,
            "settings": self._settings,
            "secret": secret,
            "trusted": self._trusted,
            "isolation": self._isolation,
        }
        if self._suite.device == "cpu":
            return CpuBackend(self._suite_name, cache=self._cache, **common)
        return GpuBackend(self._suite_name, device=device, **common)

    def __enter__(self) -> LocalEvaluator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._backend.close()

    def header(self, task: str, language: Language) -> str:
        """The interface text that a candidate is written against."""
        return self._backend.header(self._suite.task(task), language)

    def describe(self) -> JsonObject:
        """For the manifest. `level` is "cache" once every answer so far came from the cache."""
        return {
            "level": "cache" if self._hits and not self._misses else "live",
            "isolation": isolation_to_json(self._isolation),
            "trust_candidates": self._trusted,
            "settings": self._settings.to_json(),
            "protocol": EVALUATOR_PROTOCOL,
            "baselines": {task.name: task.baselines[0].identity for task in self._suite.tasks},
            "cache_hits": self._hits,
            "cache_misses": self._misses,
            **self._backend.describe(),
        }

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        """Evaluate on the search workloads. Raises InfraError, UnknownName, UsageError."""
        known = self._suite.task(task)
        self._backend.require(known, candidate.language)

        def make() -> JsonObject:
            evaluation = self._measure(known, candidate)
            return {"evaluation": evaluation_to_json(evaluation), "samples": evaluation.samples_us}

        key = self._key(known, known.search, Phase.SEARCH, [candidate.id])
        record, hit = self._cache.get_or_make(key, make)
        self._count(hit)
        evaluation = evaluation_from_json({**record["evaluation"], "cached": hit})
        samples = {n: (tuple(a), tuple(b)) for n, (a, b) in record["samples"].items()}
        return replace(evaluation, samples_us=samples)

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        """Time the candidates together (see `confirmation.py`)."""
        known = self._suite.task(task)
        unique = {candidate.id: candidate for candidate in candidates}
        ordered = [unique[name] for name in sorted(unique)]

        def make() -> JsonObject:
            started = time.perf_counter()
            finalists = self._finalists(known, ordered)
            built = {"building": time.perf_counter() - started}
            answer = self._backend.ask({"op": "confirm", "task": task, "finalists": finalists})
            confirmation: JsonObject = answer["confirmation"]
            return confirmation | {"phases": built | confirmation["phases"]}

        workloads = (*known.final, *known.tests, *known.held_out)
        key = self._key(known, workloads, Phase.CONFIRM, [c.id for c in ordered])
        record, hit = self._cache.get_or_make(key, make)
        self._count(hit)
        return confirmation_from_json({**record, "cached": hit})

    def evaluate_baseline(self, task: str, baseline: Baseline) -> Evaluation:
        """One of a task's baselines as if it were a candidate, but that it may call libraries."""
        known, candidate = self._suite.task(task), Candidate(baseline.language, baseline.source)
        built, seconds = self._backend.build(known, candidate, known.search)
        if not isinstance(built, Failed):
            built = built | {"baseline": True}
        return self._judged(known, candidate, built, seconds)

    def inspect(self, task: str, candidate: Candidate, *, timed: bool = True) -> Inspection:
        """Everything about one program in Python or Triton, or with a binding to Python
        (`inspection.py`), measured afresh. Raises InfraError, UnknownName, UsageError."""
        known = self._suite.task(task)
        if self._suite.device == "cpu":
            raise UsageError(f"Only programs for a GPU can be inspected; {task} is for the CPU.")
        built, _ = self._backend.build(known, candidate, tuple(known.workloads.values()))
        if isinstance(built, Failed):
            baseline = known.baselines[0].name
            return Inspection(known.name, known.version, baseline, build_failure=built.message)
        entry = {"id": candidate.id, "language": candidate.language, "timed": timed, **built}
        if entry["language"] not in ("python", "triton"):
            raise UsageError(
                "Only programs in Python or Triton, or with a binding to Python, can be inspected; "
                f"got {candidate.language} behind the plain C ABI for {task}."
            )
        answer = self._backend.ask({"op": "inspect", "task": known.name, **entry})
        return inspection_from_json(answer["inspection"])

    def _measure(self, task: Task, candidate: Candidate) -> Evaluation:
        built, build_seconds = self._built(task, candidate, task.search)
        return self._judged(task, candidate, built, build_seconds)

    def _judged(
        self,
        task: Task,
        candidate: Candidate,
        built: JsonObject | Failed,
        build_seconds: float,
    ) -> Evaluation:
        baseline = task.baselines[0].name
        if isinstance(built, Failed):
            text = feedback(built, baseline)
            return Evaluation(candidate.id, Phase.SEARCH, built, text, build_seconds)
        entry = {"id": candidate.id, "language": candidate.language, **built}
        answer = self._backend.ask({"op": "evaluate", "task": task.name, **entry})
        outcome = outcome_from_json(answer["outcome"])
        return Evaluation(
            candidate.id,
            Phase.SEARCH,
            outcome,
            feedback(outcome, baseline),
            build_seconds,
            answer["device_seconds"],
            samples_us=answer["samples"],
        )

    def _finalists(self, task: Task, candidates: Sequence[Candidate]) -> list[JsonObject]:
        """Built side by side, since a build has serial parts. Beside others each takes longer, so
        one that did not end in time is built once more, alone: another confirmation waits."""
        with self._building:
            with ThreadPoolExecutor(max(2, cores() // 4)) as pool:
                made = list(pool.map(lambda c: self._finalist(task, c), candidates))
            return [
                self._finalist(task, candidate) if _timed_out(entry) else entry
                for candidate, entry in zip(candidates, made, strict=True)
            ]

    def _finalist(self, task: Task, candidate: Candidate) -> JsonObject:
        built, _ = self._built(task, candidate, tuple(task.workloads.values()))
        if isinstance(built, Failed):
            return {"id": candidate.id, "failure": outcome_to_json(built)}
        return {"id": candidate.id, "language": candidate.language, **built}

    def _built(
        self, task: Task, candidate: Candidate, workloads: Sequence[Workload]
    ) -> tuple[JsonObject | Failed, float]:
        """As the backend builds it; refused where it runs on torch and the task forbids libraries,
        or names a binding that is not installed here, which is its choice (the cache's key has the
        version)."""
        bundle = candidate.language in ("cpp", "cuda") and candidate.source.startswith(MARK)
        on_torch = bundle or candidate.language == "python"
        if on_torch and task.libraries == "forbidden":
            what = "a kernel with this binding" if bundle else "a python program"
            why = f"the task forbids libraries, and {what} runs on torch"
            return Failed(Status.REJECTED, Stage.BUILD, "library", why), 0.0
        try:
            return self._backend.build(task, candidate, workloads)
        except BindingMissing as error:
            return Failed(Status.COMPILE_ERROR, Stage.BUILD, "bundle", str(error)), 0.0

    def _key(
        self, task: Task, workloads: Sequence[Workload], phase: Phase, candidates: Sequence[str]
    ) -> str:
        asked = conditions(self._suite_name, task, workloads, phase, candidates, self._settings)
        here = {
            **self._backend.conditions(),
            "machine": fingerprint(),
            "tvm_ffi": packages()["apache-tvm-ffi"],  # what bundles are built with and run on
            "isolation": self._isolation.way,
        }
        return content_hash(canonical_json(asked | here))

    def _count(self, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit


def _timed_out(entry: JsonObject) -> bool:
    """Whether there is nothing of a finalist since its build took too long."""
    return "failure" in entry and entry["failure"]["status"] == Status.TIMEOUT
