"""The judge's process: reads requests of the harness, answers with verdicts.

Started by `local.py` with a scrubbed environment, so that it holds no key. It makes the warm
parents, owns the secret and the clock, and never imports candidate code. The harness is trusted, so
their channel is plain JSON lines; a worker's is not (`channel.py`).

Covered: one request at a time; the harness's death ends this process and everything below it at
once.
Not covered: several devices (one judge process each).
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import sys
import threading
from typing import Any

from harness.errors import HarnessError
from harness.evaluate.confirmation import Session
from harness.evaluate.judge import Judge
from harness.evaluate.launcher import WarmParent
from harness.evaluate.peaks import Peaks
from harness.evaluate.sandbox import isolation_from_json
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Program
from harness.suite import load_suite
from harness.types import (
    Failed,
    JsonObject,
    confirmation_to_json,
    outcome_from_json,
    outcome_to_json,
)


class JudgeProcess:
    """All judges of one process: one per task, over shared warm parents."""

    def __init__(self, setup: JsonObject) -> None:
        sys.path[:0] = [path for path in setup["sys_path"] if path not in sys.path]
        self._suite = load_suite(setup["suite"])
        self._settings = EvaluatorSettings(**setup["settings"])
        self._peaks = Peaks(**setup["peaks"])
        self._secret = bytes.fromhex(setup["secret"])
        self._threads = int(setup["threads"])
        self._trusted = bool(setup["trust_candidates"])
        isolation = isolation_from_json(setup["isolation"])
        self._parents = {
            "cpp": WarmParent("none", isolation),
            "python": WarmParent("torch", isolation),
        }
        self._judges: dict[str, Judge] = {}

    def close(self) -> None:
        for judge in self._judges.values():
            judge.close()
        for parent in self._parents.values():
            parent.close()

    def answer(self, request: JsonObject) -> JsonObject:
        """One request's answer. Our own faults are told as {"infra": message}."""
        try:
            if request["op"] == "evaluate":
                return self._evaluate(request)
            if request["op"] == "confirm":
                return self._confirm(request)
        except HarnessError as error:
            return {"infra": str(error)}
        return {"infra": f"the judge does not know the request {request['op']!r}"}

    def _judge(self, task: str) -> Judge:
        if task not in self._judges:
            self._judges[task] = Judge(
                self._suite.task(task),
                parents=self._parents,
                peaks=self._peaks,
                settings=self._settings,
                secret=self._secret,
                threads=self._threads,
            )
        return self._judges[task]

    def _evaluate(self, request: JsonObject) -> JsonObject:
        verdict = self._judge(request["task"]).evaluate(
            request["id"], _program(request, self._trusted)
        )
        return {
            "outcome": outcome_to_json(verdict.outcome),
            "device_seconds": verdict.device_seconds,
            "timing_seconds": verdict.timing_seconds,
            "samples": verdict.samples_us,
        }

    def _confirm(self, request: JsonObject) -> JsonObject:
        entries: list[tuple[str, Program | Failed]] = []
        for entry in request["finalists"]:
            if "failure" in entry:
                failure = outcome_from_json(entry["failure"])
                assert isinstance(failure, Failed)
                entries.append((entry["id"], failure))
            else:
                entries.append((entry["id"], _program(entry, self._trusted)))
        return {
            "confirmation": confirmation_to_json(
                Session(self._judge(request["task"]), entries).run()
            )
        }


def _program(entry: JsonObject, trusted: bool) -> Program:
    return Program(entry["language"], base64.b64decode(entry["code"]), trusted)


def _exit_with(control: socket.socket) -> None:
    """End this process at once when the harness is gone (its end of the socket closes)."""
    poll = select.poll()
    poll.register(control, select.POLLRDHUP | select.POLLHUP)
    poll.poll()
    os._exit(0)  # the warm parents, and all below them, end with their owner


def main() -> None:
    """Serve the socket whose descriptor is the first argument until it closes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    lines = control.makefile("r", encoding="utf-8")
    setup: dict[str, Any] = json.loads(lines.readline())
    # First: starting takes seconds, since a warm parent imports torch.
    threading.Thread(target=_exit_with, args=(control,), daemon=True).start()
    try:
        process = JudgeProcess(setup)
    except (HarnessError, OSError) as error:
        sys.exit(f"The judge's process cannot start: {error}")
    control.sendall(b'{"ready": true}\n')
    for line in lines:
        request = json.loads(line)
        if request["op"] == "close":
            break
        control.sendall((json.dumps(process.answer(request)) + "\n").encode())
    process.close()


if __name__ == "__main__":
    main()
