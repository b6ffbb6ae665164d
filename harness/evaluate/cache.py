"""Evaluations by content: what was measured once under equal conditions is not measured again.

A hit returns the recorded evaluation and charges the recorded seconds. Equal requests in flight
share one evaluation. The conditions are in the key: candidate, task and its version, workloads,
phase, baseline and its version, flags, settings, protocol version, machine fingerprint.

Covered: threads of one process (single flight), several processes (atomic files; the last one
wins).
Not covered: eviction. Delete the folder to measure again.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.evaluate import EVALUATOR_PROTOCOL
from harness.evaluate.settings import EvaluatorSettings
from harness.suite import Task
from harness.types import JsonObject, Phase, Workload


def conditions(
    suite_name: str,
    task: Task,
    workloads: Sequence[Workload],
    phase: Phase,
    candidates: Sequence[str],
    settings: EvaluatorSettings,
) -> JsonObject:
    """What every answer depends on, wherever it was measured; a key needs what it was measured on
    besides. candidates: their ids."""
    return {
        "candidates": list(candidates),
        "suite": suite_name,
        "task": [task.name, task.version],
        "workloads": [[w.name, dict(w.axes)] for w in workloads],
        "phase": phase.value,
        "baseline": task.baselines[0].identity,
        "settings": settings.to_json(),
        "protocol": EVALUATOR_PROTOCOL,
    }


class Cache:
    """JSON records by key. folder: None keeps nothing, but equal requests still share a flight."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._flights: dict[str, Future[JsonObject]] = {}

    def get_or_make(self, key: str, make: Callable[[], JsonObject]) -> tuple[JsonObject, bool]:
        """The record of `key` and whether it was there already (or came from another's flight)."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                mine: Future[JsonObject] = Future()
                self._flights[key] = mine
        if flight is not None:
            return flight.result(), True
        try:
            record = self._read(key)
            hit = record is not None
            if record is None:
                record = make()
                self._write(key, record)
            mine.set_result(record)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return record, hit

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / f"{key}.json.gz"

    def _read(self, key: str) -> JsonObject | None:
        if self._folder is None:
            return None
        try:
            record = json.loads(gzip.decompress(self._path(key).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            return None  # torn by a full disk: measured again
        return record if isinstance(record, dict) else None

    def _write(self, key: str, record: JsonObject) -> None:
        if self._folder is None:
            return
        write_whole(self._path(key), gzip.compress(json.dumps(record).encode(), mtime=0))


def write_whole(path: Path, data: bytes) -> None:
    """Write the whole file or nothing; makes its folder. Raises EnvironmentMissing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file,
            ExitStack() as undo,
        ):
            undo.callback(os.unlink, file.name)
            file.write(data)
            file.flush()
            os.replace(file.name, path)
            undo.pop_all()
    except OSError as error:
        raise EnvironmentMissing(
            f"Cannot write {path} of the evaluation cache: {error.strerror}. Free some space, or "
            "allow writing there, then `harness resume`; or choose another folder with --evaluator "
            "local:FOLDER (EVALUATOR=)."
        ) from error
