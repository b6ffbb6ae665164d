"""The CPU of this machine as a backend of the evaluator: C++ and Python candidates, one judge.

Covered: building (bundles of published kernels too, bundle.py), the judge, peaks, what a cache key
and a manifest need to know.
Not covered: GPUs (local_gpu.py); caching and the evaluator itself (local.py).
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from harness.environment import cores, fingerprint
from harness.errors import UsageError
from harness.evaluate.bindings import build_bundle, bundle_of
from harness.evaluate.build import FLAGS, Builder, BuildFailure, compiler
from harness.evaluate.cache import Cache
from harness.evaluate.header import cpp_header, python_interface
from harness.evaluate.judge_client import LastingJudge
from harness.evaluate.launcher import WarmParent
from harness.evaluate.peaks import Peaks, measure_peaks
from harness.evaluate.sandbox import Isolation, isolation_to_json
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Task
from harness.types import (
    Candidate,
    Failed,
    JsonObject,
    Language,
    Stage,
    Status,
    Workload,
    canonical_json,
    content_hash,
)


class CpuBackend:
    """Implements `local.Backend`. Raises EnvironmentMissing where there is no compiler."""

    languages: tuple[Language, ...] = ("cpp", "python")

    def __init__(
        self,
        suite_name: str,
        *,
        cache: Cache,
        cache_folder: Path | None,
        settings: EvaluatorSettings,
        secret: bytes,
        trusted: bool,
        isolation: Isolation,
    ) -> None:
        compiler()
        self._threads = cores()
        self._parent = WarmParent("none", isolation)
        builds = None if cache_folder is None else cache_folder / "builds"
        self._builder = Builder(self._parent, builds, settings)
        record, _ = cache.get_or_make(
            content_hash(canonical_json(["peaks", fingerprint(), self._threads])),
            lambda: asdict(measure_peaks(self._parent, self._threads)),
        )
        self._peaks = Peaks(**record)
        setup = judge_setup(suite_name, settings, secret, trusted, isolation)
        self._judge = LastingJudge(setup | {"device": "cpu", "peaks": asdict(self._peaks)})

    def close(self) -> None:
        self._judge.close()
        self._parent.close()

    def header(self, task: Task, language: Language) -> str:
        if language == "cpp":
            return cpp_header(task.signature)
        return python_interface(task.signature)

    def describe(self) -> JsonObject:
        return {
            "device": "cpu",
            "cores": self._threads,
            "clock": "judge's wall clock around one request",
            "flags": list(FLAGS),
            "peaks": asdict(self._peaks),
        }

    def conditions(self) -> JsonObject:
        return {"flags": FLAGS}

    def require(self, task: Task, language: Language) -> None:
        if language not in self.languages:
            raise UsageError(
                f"Task {task.name} runs on the CPU, where candidates are written in cpp or python; "
                f"got {language!r}."
            )

    def build(
        self, task: Task, candidate: Candidate, workloads: Sequence[Workload]
    ) -> tuple[JsonObject | Failed, float]:
        if candidate.language == "python":
            return {"code": base64.b64encode(candidate.source.encode()).decode()}, 0.0
        return native(lambda: self._builder, task, candidate, "cpp")

    def ask(self, request: JsonObject) -> JsonObject:
        return self._judge.ask(request)


def native(
    builder: Callable[[], Builder],
    task: Task,
    candidate: Candidate,
    language: Literal["cpp", "cuda"],
) -> tuple[JsonObject | Failed, float]:
    """What a judge loads of a candidate in C++ or CUDA, behind the plain C ABI or a bundle, or why
    there is nothing; and the seconds of building. builder: asked for once it is needed."""
    bundle = bundle_of(candidate, task.signature)
    if isinstance(bundle, Failed):
        return bundle, 0.0
    if bundle is not None:
        made = build_bundle(builder(), bundle, task.signature)
        if isinstance(made, BuildFailure):
            return build_failed(made), made.seconds
        return made.program, made.seconds
    built = builder().build(candidate.source, cpp_header(task.signature, language))
    if isinstance(built, BuildFailure):
        return build_failed(built), built.seconds
    return {"code": base64.b64encode(built.code).decode()}, built.seconds


def judge_setup(
    suite_name: str,
    settings: EvaluatorSettings,
    secret: bytes,
    trusted: bool,
    isolation: Isolation,
) -> JsonObject:
    """What every judge is told (judge_process.py), but for its device and its peaks."""
    return {
        "suite": suite_name,
        "sys_path": sys.path,
        "settings": settings.to_json(),
        "secret": secret.hex(),
        "threads": cores(),
        "trust_candidates": trusted and not isolation.can_hide_keys,
        "isolation": isolation_to_json(isolation),
    }


def build_failed(failure: BuildFailure) -> Failed:
    """The outcome of a failed build."""
    status = Status.TIMEOUT if failure.timed_out else Status.COMPILE_ERROR
    return Failed(status, Stage.BUILD, "compile", failure.message)
