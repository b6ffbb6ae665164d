"""The run log as a running search sees it: what is recorded is served, the rest is written.

Resume is re-execution. The method runs again from its start, and whatever it asks for is answered
from the log: a completion by (request key, occurrence), an evaluation and a record by their order.
Each event that the re-executed run would write is compared with the recorded one. Where the log
ends, the run goes on live. An intent without a reply is a call that was cut off: it is made again
under the same intent, so that no event is doubled.

Covered: serving, comparing, and ReplayMismatch with the first difference; the evaluation event.
Not covered: files (harness/runlog.py); the code of the method (harness/code_hash.py).
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from typing import NoReturn

from harness.budget import Meter
from harness.errors import ReplayMismatch
from harness.llm.client import Request, request_from_json
from harness.runlog import MAX_EVENT_BYTES, MAX_INLINE_BYTES, RunLog
from harness.types import (
    Candidate,
    Evaluation,
    Failed,
    JsonObject,
    Language,
    Passed,
    Proposal,
    evaluation_from_json,
    evaluation_to_json,
)

_STAMP = ("i", "t", "kind")
_TEXT_BYTES = 300  # what an event keeps of a note or a message, as JSON


def first_difference(recorded: str, now: str) -> str | None:
    """Where two texts first differ: line number and both lines, or None if they are equal."""
    before, after = recorded.split("\n"), now.split("\n")
    for number in range(max(len(before), len(after))):
        old = before[number] if number < len(before) else "(nothing)"
        new = after[number] if number < len(after) else "(nothing)"
        if old != new:
            return f"line {number + 1}\n  recorded: {old[:200]}\n  now:      {new[:200]}"
    return None


def cut(text: str, limit_bytes: int = _TEXT_BYTES) -> str:
    """The longest beginning of a text that takes at most `limit_bytes` as ASCII JSON."""
    text = text[:limit_bytes]
    while len(json.dumps(text)) - 2 > limit_bytes:
        text = text[: len(text) - 1 - (len(json.dumps(text)) - 2 - limit_bytes) // 12]
    return text


class Journal:
    """Serves the events of a log, then appends to it. Thread-safe.

    A log that was opened for reading only makes it an audit: going beyond the log is a mismatch.
    """

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self._mutex = threading.RLock()
        self._intents: dict[tuple[str, int], JsonObject] = {}
        self._replies: dict[tuple[str, int], JsonObject] = {}
        self._queues: dict[str, deque[JsonObject]] = {
            "evaluation": deque(),
            "record": deque(),
            "finished": deque(),
        }
        for event in log.events:
            kind = event["kind"]
            if kind == "llm_intent":
                self._intents[event["key"], event["occurrence"]] = event
            elif kind == "llm":
                self._replies[event["key"], event["occurrence"]] = event
            elif kind in self._queues:
                self._queues[kind].append(event)

    @property
    def replaying(self) -> bool:
        """Whether something that is recorded has not been asked for yet."""
        with self._mutex:
            return bool(self._intents or self._replies or any(self._queues.values()))

    def intent(self, request: Request, fields: JsonObject) -> None:
        """Announce an LLM call: matched with the recorded intent, or written."""
        with self._mutex:
            event = self._intents.pop((fields["key"], fields["occurrence"]), None)
            if event is not None:
                self._must_equal(event, fields)
                return
            if self.replaying:
                self._refuse_request(request)
            self._append("llm_intent", fields)

    def recorded_reply(self, key: str, occurrence: int) -> JsonObject | None:
        """The recorded completion, or None: it has to be asked for."""
        with self._mutex:
            event = self._replies.pop((key, occurrence), None)
            if event is None and not self.log.writable:
                self._refuse("an LLM call that the log does not answer")
            return event

    def reply(self, fields: JsonObject, recorded: JsonObject | None) -> None:
        """Log a completion, or compare it with the recorded one that it was served from."""
        with self._mutex:
            if recorded is not None:
                self._must_equal(recorded, fields)
            else:
                self._append("llm", fields)

    def recorded_evaluation(self) -> JsonObject | None:
        """The next recorded evaluation event, or None: it has to be evaluated."""
        with self._mutex:
            queue = self._queues["evaluation"]
            if queue:
                return queue.popleft()
            if self.replaying or not self.log.writable:
                self._refuse("one more proposal")
            return None

    def evaluation(
        self, proposal: Proposal, fields: JsonObject, recorded: JsonObject | None
    ) -> JsonObject:
        """Log an evaluation, or compare it with the recorded one that it was served from."""
        with self._mutex:
            if recorded is None:
                return self._append("evaluation", fields, sync=True)
            if isinstance(proposal, Candidate) and recorded["source"]:
                before = self.log.get_text(recorded["source"])
                difference = first_difference(before, proposal.source)
                if difference is not None:
                    self._refuse_changed(recorded, f"the program differs at {difference}")
            self._must_equal(recorded, fields)
            return recorded

    def record(self, fields: JsonObject) -> None:
        """Log something of the method's own."""
        self._in_order("record", fields)

    def finish(self, fields: JsonObject) -> None:
        """Log the end of the run."""
        self._in_order("finished", fields)

    def _in_order(self, kind: str, fields: JsonObject) -> None:
        with self._mutex:
            queue = self._queues[kind]
            if queue and (kind != "finished" or not self._others_left()):
                self._must_equal(queue.popleft(), fields)
            elif self.replaying:
                self._refuse("its end" if kind == "finished" else "a record")
            else:
                self._append(kind, fields)

    def _others_left(self) -> bool:
        queues = (self._queues["evaluation"], self._queues["record"])
        return bool(self._intents or self._replies or any(queues))

    def _append(self, kind: str, fields: JsonObject, *, sync: bool = False) -> JsonObject:
        if not self.log.writable:
            self._refuse(f"an event of kind {kind}")
        return self.log.append(kind, fields, sync=sync)

    def _next_recorded(self) -> JsonObject | None:
        left = [*self._intents.values(), *self._replies.values()]
        left += [queue[0] for queue in self._queues.values() if queue]
        return min(left, key=lambda event: int(event["i"])) if left else None

    def _refuse(self, what: str, detail: str = "") -> NoReturn:
        event = self._next_recorded()
        where = (
            f"the log ends after event {len(self.log.events) - 1}"
            if event is None
            else f"the log has event {event['i']} ({event['kind']}) next"
        )
        raise ReplayMismatch(
            f"{self.log.folder}: the re-executed method makes {what}, but {where}.{detail}\n"
            f"{self._advice()}"
        )

    def _refuse_request(self, request: Request) -> NoReturn:
        asked = list(self._replies.values()) or list(self._intents.values())
        detail = ""
        event = min(asked, key=lambda e: int(e["i"])) if asked else None
        if event is not None and "request" in event:
            recorded = request_from_json(json.loads(self.log.get_text(event["request"])))
            difference = first_difference(_readable(recorded), _readable(request))
            detail = f"\nThe request of event {event['i']} differs at {difference}"
        self._refuse(f"another LLM call (purpose {request.purpose})", detail)

    def _must_equal(self, recorded: JsonObject, fields: JsonObject) -> None:
        # Compared as they are written: tuples are lists there.
        now = json.loads(json.dumps(fields))
        for name in dict.fromkeys((*recorded, *now)):
            old, new = recorded.get(name), now.get(name)
            if name in _STAMP or old == new:
                continue
            self._refuse_changed(recorded, f"{name} was {old!r} and is {new!r}")

    def _refuse_changed(self, recorded: JsonObject, detail: str) -> NoReturn:
        raise ReplayMismatch(
            f"{self.log.folder}: event {recorded['i']} ({recorded['kind']}) is not what the "
            f"re-executed method does now: {detail}\n{self._advice()}"
        )

    def _advice(self) -> str:
        commit = ((self.log.manifest or {}).get("git") or {}).get("commit")
        made = f" (commit {commit})" if commit else ""
        return (
            "The method, its options, the task's text or the models changed, or the method is not "
            f"deterministic. Use what the run was made with{made}, or start it over with "
            "--restart, which keeps this attempt and its cost."
        )


def _readable(request: Request) -> str:
    """A request as text, one thing a line, for the first difference."""
    head = [f"model: {request.model}", f"purpose: {request.purpose}"]
    head += [f"{name}: {request.sampling[name]}" for name in sorted(request.sampling)]
    return "\n".join([*head, *(f"[{m.role}]\n{m.content}" for m in request.messages)])


def record_fields(log: RunLog, kind: str, charge: int, data: JsonObject) -> JsonObject:
    """The fields of a `record` event; data over 1 KB goes to a blob. Raises TypeError or ValueError
    for what is not JSON."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    inline = len(text) <= MAX_INLINE_BYTES
    return {
        "record": kind,
        "charge": charge,
        "data": json.loads(text) if inline else None,
        "blob": None if inline else log.put_blob(text),
    }


def recorded_evaluation_of(log: RunLog, event: JsonObject) -> Evaluation:
    """The full evaluation of an event, without its samples. Raises LogError."""
    return evaluation_from_json(json.loads(log.get_text(event["evaluation"])))


def evaluation_fields(
    log: RunLog,
    proposal: Proposal,
    language: Language,
    evaluation: Evaluation,
    meter: Meter,
    *,
    samples: str | None,
    cached: bool,
) -> JsonObject:
    """The fields of an evaluation event; `meter` already counts it. Bounded to 2 KB: where the
    table of workloads does not fit, it is null, and the blob has it."""
    outcome = evaluation.outcome
    candidate = proposal if isinstance(proposal, Candidate) else None
    passed = outcome if isinstance(outcome, Passed) else None
    fields: JsonObject = {
        "charge": meter.charges,
        "candidate": candidate.id if candidate else None,
        "language": candidate.language if candidate else language,
        "source": log.put_blob(candidate.source) if candidate else None,
        "parent": cut(candidate.parent, 64) if candidate and candidate.parent else None,
        "note": cut(candidate.note) if candidate else "",
        "status": evaluation.status.value,
        "score": evaluation.score,
        "score_low": _finite(passed.score_low) if passed else None,
        "score_high": _finite(passed.score_high) if passed else None,
        "arithmetic_mean": passed.arithmetic_mean if passed else None,
        "failure": _failure(outcome) if isinstance(outcome, Failed) else None,
        "workloads": _workloads(passed) if passed else None,
        "evaluation": log.put_blob(json.dumps(evaluation_to_json(evaluation))),
        "samples": samples,
        "build_seconds": evaluation.build_seconds,
        "device_seconds": evaluation.device_seconds,
        "cached": cached,
        "llm_calls": meter.llm_calls,
        "prompt_tokens": meter.usage.prompt_tokens,
        "completion_tokens": meter.usage.completion_tokens,
        "dollars": meter.usage.dollars,
        "llm_seconds": meter.llm_seconds,
        "evaluation_seconds": meter.evaluation_seconds,
    }
    stamp_bytes = 80  # i, t and kind, which are added on writing
    if len(json.dumps(fields, separators=(",", ":"))) + stamp_bytes > MAX_EVENT_BYTES:
        fields["workloads"] = None
    return fields


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _failure(outcome: Failed) -> JsonObject:
    return {
        "stage": outcome.stage.value,
        "check": cut(outcome.check, 64),
        "workload": cut(outcome.workload, 100) if outcome.workload else None,
        "message": cut(outcome.message),
    }


def _workloads(outcome: Passed) -> list[list[str | float]]:
    """One short row per workload; six digits are more than a measurement has, the blob has all."""
    return [
        [m.workload, *(float(f"{x:.6g}") for x in (m.latency_us, m.baseline_us, m.speedup))]
        for m in outcome.measurements
    ]
