"""The evaluator on this machine: cache → build → judge.

Covered: language cpp and python on the CPU; equal requests in flight share one evaluation; a judge
that dies is started again and the request repeated once; keys are kept from every process below.
Not covered: GPUs and other machines.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from harness.environment import cores, fingerprint
from harness.errors import EnvironmentMissing, InfraError, UsageError
from harness.evaluate import EVALUATOR_PROTOCOL
from harness.evaluate.build import FLAGS, Builder, BuildFailure, compiler
from harness.evaluate.cache import Cache
from harness.evaluate.feedback import feedback
from harness.evaluate.header import cpp_header, python_interface
from harness.evaluate.launcher import WarmParent
from harness.evaluate.peaks import Peaks, measure_peaks
from harness.evaluate.sandbox import Isolation, isolation_to_json, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Task, load_suite
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


class LocalEvaluator:
    """Implements `harness.evaluate.Evaluator` for one suite. Make it in a thread that lives as
    long.

    cache_folder: None measures everything afresh. secret: seeds of inputs derive from it; made at
    random if not given. trust_candidates: allow candidate code although nothing can hide keys.
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
    ) -> None:
        compiler()
        self._suite_name = suite_name
        self._suite = load_suite(suite_name)
        self._settings = settings or EvaluatorSettings()
        self._secret = secret or secrets.token_bytes(32)
        self._isolation = isolation or probe()
        if not self._isolation.can_hide_keys and not trust_candidates:
            raise EnvironmentMissing(
                "This machine allows neither namespaces nor Landlock, so candidate code could read "
                "keys and files. Run it in the shipped Dockerfile, or pass --trust-candidates if "
                "you wrote every candidate yourself; the report will say so."
            )
        self._trusted = trust_candidates
        self._threads = cores()
        self._cache = Cache(cache_folder)
        self._parent = WarmParent("none", self._isolation)
        builds = None if cache_folder is None else cache_folder / "builds"
        self._builder = Builder(self._parent, builds, self._settings)
        record, _ = self._cache.get_or_make(
            content_hash(canonical_json(["peaks", fingerprint(), self._threads])),
            lambda: asdict(measure_peaks(self._parent, self._threads)),
        )
        self._peaks = Peaks(**record)
        self._lock = threading.Lock()  # one request at a time: the machine is the device
        self._judge: _JudgeClient | None = None
        self._hits = self._misses = 0

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
        with self._lock:
            if self._judge is not None:
                self._judge.close()
                self._judge = None
        self._parent.close()

    def header(self, task: str, language: Language) -> str:
        """The interface text that a candidate is written against."""
        signature = self._suite.task(task).signature
        return cpp_header(signature) if language == "cpp" else python_interface(signature)

    def describe(self) -> JsonObject:
        """For the manifest. `level` is "cache" once every answer so far came from the cache."""
        return {
            "level": "cache" if self._hits and not self._misses else "live",
            "device": "cpu",
            "cores": self._threads,
            "isolation": isolation_to_json(self._isolation),
            "trust_candidates": self._trusted,
            "clock": "judge's wall clock around one request",
            "flags": list(FLAGS),
            "peaks": asdict(self._peaks),
            "settings": self._settings.to_json(),
            "protocol": EVALUATOR_PROTOCOL,
            "cache_hits": self._hits,
            "cache_misses": self._misses,
        }

    def evaluate(self, task: str, candidate: Candidate) -> Evaluation:
        """Evaluate on the search workloads. Raises InfraError, UnknownName, UsageError."""
        known = self._suite.task(task)
        self._require_language(known, candidate.language)

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
            finalists = [self._finalist(known, candidate) for candidate in ordered]
            answer = self._ask({"op": "confirm", "task": task, "finalists": finalists})
            confirmation: JsonObject = answer["confirmation"]
            return confirmation

        workloads = (*known.final, *known.held_out)
        key = self._key(known, workloads, Phase.CONFIRM, [c.id for c in ordered])
        record, hit = self._cache.get_or_make(key, make)
        self._count(hit)
        return confirmation_from_json({**record, "cached": hit})

    def _measure(self, task: Task, candidate: Candidate) -> Evaluation:
        code, build_seconds = self._code(task, candidate)
        baseline = task.baselines[0].name
        if isinstance(code, Failed):
            text = feedback(code, baseline)
            return Evaluation(candidate.id, Phase.SEARCH, code, text, build_seconds)
        answer = self._ask(
            {
                "op": "evaluate",
                "task": task.name,
                "id": candidate.id,
                "language": candidate.language,
                "code": code,
            }
        )
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

    def _finalist(self, task: Task, candidate: Candidate) -> JsonObject:
        code, _ = self._code(task, candidate)
        if isinstance(code, Failed):
            return {"id": candidate.id, "failure": outcome_to_json(code)}
        return {"id": candidate.id, "language": candidate.language, "code": code}

    def _code(self, task: Task, candidate: Candidate) -> tuple[str | Failed, float]:
        """What the worker loads, in base64, or why there is nothing; and the build's seconds."""
        if candidate.language == "python":
            if task.libraries == "forbidden":
                why = "the task forbids libraries, and a python program runs on torch"
                return Failed(Status.REJECTED, Stage.BUILD, "library", why), 0.0
            return base64.b64encode(candidate.source.encode()).decode(), 0.0
        built = self._builder.build(candidate.source, self.header(task.name, "cpp"))
        if isinstance(built, BuildFailure):
            status = Status.TIMEOUT if built.timed_out else Status.COMPILE_ERROR
            return Failed(status, Stage.BUILD, "compile", built.message), built.seconds
        return base64.b64encode(built.code).decode(), built.seconds

    def _require_language(self, task: Task, language: Language) -> None:
        if language not in ("cpp", "python"):
            raise UsageError(
                f"Task {task.name} runs on the CPU, where candidates are written in cpp or python; "
                f"got {language!r}."
            )

    def _key(
        self, task: Task, workloads: Sequence[Workload], phase: Phase, candidates: Sequence[str]
    ) -> str:
        baseline = task.baselines[0]
        conditions = {
            "candidates": list(candidates),
            "suite": self._suite_name,
            "task": [task.name, task.version],
            "workloads": [[w.name, dict(w.axes)] for w in workloads],
            "phase": phase.value,
            "baseline": [baseline.name, baseline.version, content_hash(baseline.source)],
            "flags": FLAGS,
            "settings": self._settings.to_json(),
            "protocol": EVALUATOR_PROTOCOL,
            "machine": fingerprint(),
            "isolation": self._isolation.way,
        }
        return content_hash(canonical_json(conditions))

    def _count(self, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit

    def _ask(self, request: JsonObject) -> JsonObject:
        """Ask the judge; start a new one and ask again, once, if it died."""
        with self._lock:
            for attempt in (1, 2):
                if self._judge is None:
                    self._judge = _JudgeClient(self._setup())
                try:
                    answer = self._judge.ask(request)
                except (OSError, ValueError) as error:
                    self._judge.close()
                    self._judge = None
                    if attempt == 2:
                        raise InfraError(
                            "The judge's process ended twice on the same request. "
                            "Run `harness doctor`; free memory if the machine is short of it."
                        ) from error
                    continue
                if "infra" in answer:
                    raise InfraError(str(answer["infra"]))
                return answer
        raise AssertionError("unreachable")

    def _setup(self) -> JsonObject:
        return {
            "suite": self._suite_name,
            "sys_path": sys.path,
            "settings": self._settings.to_json(),
            "peaks": asdict(self._peaks),
            "secret": self._secret.hex(),
            "threads": self._threads,
            "trust_candidates": self._trusted and not self._isolation.can_hide_keys,
            "isolation": isolation_to_json(self._isolation),
        }


class _JudgeClient:
    """The judge's process and the socket to it. Raises OSError or ValueError when it is gone."""

    def __init__(self, setup: Mapping[str, object]) -> None:
        ours, theirs = socket.socketpair()
        environment = {
            name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ
        }
        # One BLAS thread: the judge's own arithmetic must not compete with what it times.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # The C library keeps freed arrays instead of giving their pages back: verifying a call took
        # half of its time in page faults.
        environment |= {
            "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        }
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "harness.evaluate.judge_process",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to the harness, which ends us in order
            )
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        try:
            self.ask(dict(setup))
        except (OSError, ValueError) as error:
            self.close()
            raise InfraError(
                "The judge's process did not start; its message is above. Run `harness doctor`."
            ) from error

    def ask(self, request: JsonObject) -> JsonObject:
        self._socket.sendall((json.dumps(request) + "\n").encode())
        answer = json.loads(self._lines.readline())  # "" (its end) is no JSON: ValueError
        if not isinstance(answer, dict):
            raise ValueError("the judge's answer is no object")
        return answer

    def close(self) -> None:
        """Let it end its workers and remove their folders; if it does not answer, just end it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._socket.sendall(b'{"op": "close"}\n')
            self._process.wait(timeout=5)
        self._lines.close()
        self._socket.close()  # it ends at once when its socket closes
        self._process.wait()
