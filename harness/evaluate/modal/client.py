"""The evaluator whose judge runs in containers of Modal: cache → builds ahead → one call → verdict.

Each evaluation is one call of a fresh container, with the baseline beside the candidate; each
confirmation is one call too, so all bests of a task are timed on one device in one session. Many
threads may ask at once, and each waits for its own container.

Covered: equal requests in flight share one call (cache.py); kernels built ahead on CPU containers,
on which no GPU is paid for; an examination of the container before anything is evaluated, in the
manifest. Not covered: one call and its failures (calls.py); the container's side (remote.py).

Imports no torch. What a container answers is checked for form before it is believed: the right
candidate, the right workloads, records that can be built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import modal

from harness.errors import UsageError
from harness.evaluate import EVALUATOR_PROTOCOL
from harness.evaluate.cache import Cache, conditions
from harness.evaluate.header import cpp_header, python_interface
from harness.evaluate.modal.calls import Calls, Patience, connect
from harness.evaluate.modal.ledger import Ledger
from harness.evaluate.modal.options import FunctionName, ModalOptions, function
from harness.evaluate.modal.pins import image_facts
from harness.evaluate.modal.prices import sources
from harness.evaluate.modal.requests import (
    PACKAGES,
    Answer,
    BadAnswer,
    Operation,
    Work,
    code_version,
    request_secret,
)
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Suite, Task, load_suite
from harness.types import (
    Candidate,
    Confirmation,
    Evaluation,
    JsonObject,
    Language,
    Passed,
    Phase,
    Workload,
    canonical_json,
    confirmation_from_json,
    content_hash,
    evaluation_from_json,
)

_AHEAD: tuple[Language, ...] = ("triton", "cuda")  # of a GPU suite: compiled without a GPU
_JUDGES_WITH = ("torch", "triton", "numpy", "apache-tvm-ffi")
_EXAMINED = {"described", "doctor", "machine", "packages", "notes", "versions"}
_ANYWHERE: tuple[Language, ...] = ("cpp", "python")
_ON_GPU: tuple[Language, ...] = ("triton", "python", "cuda")


class ModalEvaluator:
    """Implements `harness.evaluate.Evaluator` for one suite.

    folder: of the comparison, whose ledger and cache it continues. secret: each request's inputs
    derive from it and from the request. Raises EnvironmentMissing where there is no token or no
    app, InfraError where the container cannot be examined.
    """

    def __init__(
        self,
        suite_name: str,
        folder: Path,
        *,
        options: ModalOptions,
        settings: EvaluatorSettings,
        secret: bytes,
        client: modal.Client | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._suite_name = suite_name
        self._suite = load_suite(suite_name)
        module = type(self._suite.tasks[0]).__module__
        if module.partition(".")[0] not in PACKAGES:
            raise UsageError(
                f"The suite {suite_name!r} is not part of this repository, so the image on Modal "
                "does not hold it. Move its package below suites/, or evaluate locally."
            )
        self._on_gpu = self._suite.device != "cpu"
        self._options = options
        self._settings = settings
        self._secret = secret
        self._ledger = Ledger(folder)
        self._cache = Cache(folder / "cache")
        self._calls = Calls(options, self._ledger, client or connect(), patience)
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        self._examined = self._examine()
        self._baselines = self._examined["described"]["baselines"]
        _check_versions(self._examined["versions"], self._suite)

    def close(self) -> None:
        """Nothing of this machine's is left: containers end with their request."""

    def header(self, task: str, language: Language) -> str:
        signature = self._suite.task(task).signature
        if language in ("cpp", "cuda"):
            return cpp_header(signature, "cuda" if language == "cuda" else "cpp")
        if self._on_gpu:
            return python_interface(signature, "GPU", triton=language == "triton")
        return python_interface(signature)

    def describe(self) -> JsonObject:
        """Of the first container, which was examined; every answer's own is in the ledger."""
        examined = self._examined
        described = examined["described"]
        name: FunctionName = "evaluate_gpu" if self._on_gpu else "evaluate_cpu"
        shown = {n: v for n, v in described.items() if n not in ("lock", "gpus")}
        return {
            **shown,
            "level": "cache" if self._hits and not self._misses else "live",
            "settings": self._settings.to_json(),
            "protocol": EVALUATOR_PROTOCOL,
            "trust_candidates": False,
            "cache_hits": self._hits,
            "cache_misses": self._misses,
            "machine": examined["machine"],
            "notes": examined["notes"],
            "packages": {n: examined["packages"].get(n) for n in _JUDGES_WITH},
            "modal": {
                "app": self._options.app,
                "gpu": self._options.gpu if self._on_gpu else None,
                "version": code_version(),
                "image": image_facts(examined["container"]["image"], on_gpu=self._on_gpu),
                "outer_sandbox": "a container for each request, without network and without keys",
                "doctor": examined["doctor"],
                "containers": self._options.containers,
                "dollars": self._options.dollars,
                "dollars_per_second": self._options.price_of(name),
                "prices": sources(function(name).shape(self._options.gpu)),
                "canary_reference_us": examined["container"]["canary_us"],
            },
        }

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        """Evaluate on the search workloads. Raises InfraError, UnknownName, UsageError."""
        known = self._suite.task(task)
        self._require(known, candidate.language)
        key = self._key(known, known.search, Phase.SEARCH, [candidate.id])

        def read(answer: Answer) -> JsonObject:
            record = {**answer.result, "container": answer.container}
            _evaluation(record, known, candidate)
            return record

        def make() -> JsonObject:
            name: FunctionName = "evaluate_gpu" if self._on_gpu else "evaluate_cpu"
            return self._call(key, name, "evaluate", known, [candidate], read)

        record, hit = self._cache.get_or_make(key, make)
        self._count(hit)
        return replace(_evaluation(record, known, candidate), cached=hit)

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        """Time the candidates together: one call, so one device and one session."""
        known = self._suite.task(task)
        unique = {candidate.id: candidate for candidate in candidates}
        ordered = [unique[name] for name in sorted(unique)]
        workloads = (*known.final, *known.tests, *known.held_out)
        key = self._key(known, workloads, Phase.CONFIRM, [c.id for c in ordered])
        baseline = self._baselines[known.name][0]

        def read(answer: Answer) -> JsonObject:
            record = {**answer.result, "container": answer.container}
            _confirmation(record, known, ordered, baseline)
            return record

        def make() -> JsonObject:
            name: FunctionName = "confirm_gpu" if self._on_gpu else "confirm_cpu"
            return self._call(key, name, "confirm", known, ordered, read)

        record, hit = self._cache.get_or_make(key, make)
        self._count(hit)
        return replace(_confirmation(record, known, ordered, baseline), cached=hit)

    def _call(
        self,
        key: str,
        name: FunctionName,
        operation: Operation,
        task: Task,
        candidates: Sequence[Candidate],
        read: Callable[[Answer], JsonObject],
    ) -> JsonObject:
        builds: dict[str, str] = {}
        if not self._ledger.open_calls(key):
            builds = self._built(operation, task, candidates)
        work = Work(
            operation,
            self._suite_name,
            task.name,
            tuple(candidates),
            self._settings.to_json(),
            request_secret(self._secret, key),
            self._options.device if self._on_gpu else None,
            builds,
            tuple(self._baselines[task.name]),
        )
        record, _ = self._calls.run(key, name, work, read)
        return record

    def _built(
        self, operation: Operation, task: Task, candidates: Sequence[Candidate]
    ) -> dict[str, str]:
        """What CPU containers compile of these programs before a GPU is asked for, all at once."""
        programs = [c for c in candidates if self._on_gpu and c.language in _AHEAD]
        phase = Phase.CONFIRM if operation == "confirm" else Phase.SEARCH
        if not programs:
            return {}
        with ThreadPoolExecutor(len(programs)) as pool:
            parts = list(pool.map(lambda c: self._build(task, c, phase), programs))
        return {name: data for part in parts for name, data in part.items()}

    def _build(self, task: Task, candidate: Candidate, phase: Phase) -> dict[str, str]:
        workloads = task.search if phase is Phase.SEARCH else tuple(task.workloads.values())
        key = "build-" + self._key(task, workloads, phase, [candidate.id])
        work = Work(
            "build",
            self._suite_name,
            task.name,
            (candidate,),
            self._settings.to_json(),
            capability_of=self._options.device,
            phase=phase.value,
        )

        def read(answer: Answer) -> JsonObject:
            builds = answer.result.get("builds")
            if not isinstance(builds, dict) or not all(
                isinstance(n, str) and isinstance(d, str) for n, d in builds.items()
            ):
                raise BadAnswer("it holds no builds")
            return builds

        def make() -> JsonObject:
            return self._calls.run(key, "build", work, read)[0]

        return self._cache.get_or_make(key, make)[0]

    def _examine(self) -> JsonObject:
        """What a container of this app is, measured in one; once for a comparison."""
        key = "examine-" + content_hash(
            canonical_json([self._suite_name, code_version(), self._options.identity()])
        )
        work = Work(
            "examine",
            self._suite_name,
            settings=self._settings.to_json(),
            secret=request_secret(self._secret, key),
            gpu=self._options.device if self._on_gpu else None,
        )

        def read(answer: Answer) -> JsonObject:
            if not set(answer.result) >= _EXAMINED:
                raise BadAnswer("it is no examination")
            _check_baselines(answer.result["described"], self._suite)
            if not isinstance(answer.result["versions"], dict):
                raise BadAnswer("it does not say which versions tasks have")
            return {**answer.result, "container": answer.container}

        name: FunctionName = "evaluate_gpu" if self._on_gpu else "evaluate_cpu"
        return self._cache.get_or_make(key, lambda: self._calls.run(key, name, work, read)[0])[0]

    def _require(self, task: Task, language: Language) -> None:
        languages = _ON_GPU if self._on_gpu else _ANYWHERE
        if language not in languages:
            raise UsageError(
                f"Candidates of task {task.name} are written in {', '.join(languages)}; got "
                f"{language!r}."
            )

    def _key(
        self, task: Task, workloads: Sequence[Workload], phase: Phase, candidates: Sequence[str]
    ) -> str:
        """What a cached answer depends on. Not on the machine: which container comes is not known
        before; its device is of the named kind, and what else it is, is in the record. The baseline
        is the container's, which may have packages that this machine lacks."""
        asked = conditions(self._suite_name, task, workloads, phase, candidates, self._settings)
        there = {"baseline": self._baselines[task.name], "modal": self._options.identity()}
        return content_hash(canonical_json(asked | there))

    def _count(self, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit


def _check_baselines(described: JsonObject, suite: Suite) -> None:
    """Raises BadAnswer where it does not say of each task what is judged against there."""
    try:
        for task in suite.tasks:
            name, version, program = described["baselines"][task.name]
            if not all(isinstance(part, str) for part in (name, version, program)):
                raise BadAnswer(f"the baseline of {task.name} is not given in words")
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"it does not say which baselines there are: {error!r}") from error


def _check_versions(versions: JsonObject, suite: Suite) -> None:
    """Raises UsageError where tasks are other ones in the containers, although the code is not."""
    for task in suite.tasks:
        there = versions.get(task.name)
        if there != task.version:
            raise UsageError(
                f"Task {task.name} is of version {there!r} in the containers of Modal, but "
                f"{task.version!r} here: they see no files of this machine. Unset what names such "
                "files (FIB_DATASET_PATH of the suite flashinfer), or evaluate locally."
            )


def _evaluation(record: JsonObject, task: Task, candidate: Candidate) -> Evaluation:
    """Raises BadAnswer where the record is not of this candidate on these workloads."""
    try:
        evaluation = evaluation_from_json({**record["evaluation"], "cached": False})
        samples = {
            str(n): (tuple(map(float, a)), tuple(map(float, b)))
            for n, (a, b) in record["samples"].items()
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadAnswer(f"it holds no evaluation: {error!r}") from error
    if evaluation.candidate_id != candidate.id or evaluation.phase is not Phase.SEARCH:
        raise BadAnswer("it is the evaluation of another candidate")
    outcome = evaluation.outcome
    if isinstance(outcome, Passed):
        measured = [row.workload for row in outcome.measurements]
        if measured != [workload.name for workload in task.search]:
            raise BadAnswer("it was measured on other workloads")
    return replace(evaluation, samples_us=samples)


def _confirmation(
    record: JsonObject, task: Task, candidates: Sequence[Candidate], baseline: str
) -> Confirmation:
    """Raises BadAnswer where the record is not of these candidates beside this baseline. Those that
    fail before anything is timed come alone."""
    try:
        confirmation = confirmation_from_json({**record["confirmation"], "cached": False})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadAnswer(f"it holds no confirmation: {error!r}") from error
    found = sorted(finalist.candidate_id for finalist in confirmation.finalists)
    asked = [candidate.id for candidate in candidates]
    if any(isinstance(finalist.final, Passed) for finalist in confirmation.finalists):
        whole = found == asked
    else:
        whole = bool(found) and found == [name for name in asked if name in found]
    if confirmation.task != task.name or not whole:
        raise BadAnswer("it is the confirmation of other candidates")
    if confirmation.baseline != baseline:
        raise BadAnswer(f"it is relative to {confirmation.baseline}, expected {baseline}")
    return confirmation
