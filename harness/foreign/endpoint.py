"""What a foreign program sees of its run: the paths below /run, and its model below /v1.

    GET  /run/task           the task, the start with its verdict, budget, options, prompt blocks
    GET  /run/status         the budget
    POST /run/evaluate       {candidate, parent?, note?, lineage?} -> the verdict, when it is there
    POST /run/submit         the same -> {id} at once
    GET  /run/poll?id=N      {id, result}: result is null until the verdict is there
    POST /run/no_candidate   {reason, lineage?}: a proposal without a program -> its verdict
    POST /run/record         {kind, data}: something of the program's own for the run log
    POST /run/finish         {reason?}: the program ends before its budget does, on purpose

Shells speak text/plain: then a body is the program (evaluate, submit), the reason (no_candidate,
finish) or the prompt (POST /run/complete), and an answer is a line that a shell can evaluate,
`charges_left=19 status=PASSED score=1.25`, with the feedback below it (`plain.py`).

Handler threads translate; the run's own thread (`drive.py`) takes tickets out of the queue, one
after the other, and answers them. Nothing is ever refused because the budget is spent: programs
take such an error for a fault of the endpoint and try again for ever. A call that comes too late is
held until the program has ended.

A program lives while it asks the model or proposes, or waits for either. Looking at its budget,
polling and recording are no signs of life, and records are limited.

Covered: several requests at once; requests that come while the run is being ended. Not covered: the
form of what is sent (requests.py), the order of charges (drive.py), HTTP (harness/llm/gateway.py).
"""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeVar
from urllib.parse import parse_qs

from harness.errors import BudgetExhausted
from harness.evaluate.machine import busy
from harness.foreign import plain, requests
from harness.foreign.giving_way import PROGRAMS
from harness.llm.client import Reply, Request
from harness.llm.gateway import Call
from harness.llm.gateway_format import Answer, Refusal, json_answer
from harness.metered import RunInterrupted
from harness.method import Problem
from harness.prompt import answer_block, scores_block, system_block, task_block
from harness.reply import submitted
from harness.types import Evaluation, JsonObject, NoCode, Passed, Proposal

FORMAT = 1  # of this contract; /run/task tells it
MODEL_ALIAS = "model"
"""The model's name for every program. Packages change what they send by the names of well-known
models (no temperature for one, another route for the next), so they get a neutral one."""

_Answered = TypeVar("_Answered")

RECORDS_PER_CHARGE = 20  # on average over a run, beside the first RECORDS_AT_ONCE; packages: 1 to 4
RECORDS_AT_ONCE = 100
_LONGEST_NUMBER = 12


@dataclass
class Ticket:
    """One thing that the program wants of the run's thread."""

    number: int
    kind: Literal["proposal", "record", "finish"]
    proposal: Proposal = field(default_factory=lambda: NoCode(""))
    data: JsonObject = field(default_factory=dict)
    answer: JsonObject | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def resolve(self, answer: JsonObject) -> None:
        self.answer = answer
        self.done.set()


class Session:
    """The program's side of one run, shared by the handler threads and the run's thread.

    end: why no further LLM call was admitted, or None. llm_calls: how many were answered.
    """

    def __init__(self, problem: Problem) -> None:
        self.end: BaseException | None = None
        self.llm_calls = 0
        self.late = threading.Event()  # something came after the end of the budget
        self._problem = problem
        self._tickets: dict[int, Ticket] = {}
        self._records = 0
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._under_way = 0
        self._heard_seconds = _running_seconds()

    # --- the run's thread --------------------------------------------------------------------

    def wake(self) -> None:
        """Make `take` return."""
        self._queue.put(None)

    def take(self, timeout_seconds: float) -> list[Ticket]:
        """What has come, in order: waits for the first; empty when woken or after the timeout."""
        found: list[Ticket] = []
        try:
            item = self._queue.get(timeout=max(0.0, timeout_seconds))
            while True:
                if item is not None:
                    found.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return found

    def silent_seconds(self) -> float:
        """How long the program has neither asked, proposed nor waited, without the time that it was
        stopped for timed blocks."""
        with self._mutex:
            return 0.0 if self._under_way else _running_seconds() - self._heard_seconds

    def budget(self) -> JsonObject:
        total, left = self._problem.budget, self._problem.charges_left
        return {"charges": total - left, "charges_left": left, "total": total}

    def result(self, number: int, evaluation: Evaluation) -> JsonObject:
        """The answer to a proposal."""
        self._hear()
        return {"id": number, **verdict(evaluation), "budget": self.budget()}

    def close(self) -> None:
        """Let go of every request that is still held, and of every one that is still to come: the
        program has ended, or is being ended."""
        with self._mutex:
            self._closed.set()
            waiting = list(self._tickets.values())
        for ticket in waiting:
            ticket.done.set()

    def _hear(self) -> None:
        with self._mutex:
            self._heard_seconds = _running_seconds()

    # --- handler threads: the model ------------------------------------------------------------

    def complete(self, request: Request, occurrence: int) -> Reply:
        """A completion of the run's model (this object is a `Client` of the gateway)."""
        del occurrence  # the run counts its own
        messages, purpose = list(request.messages), request.purpose
        return self._model(lambda: self._problem.llm.complete(messages, purpose=purpose))

    def embed(self, texts: Sequence[str], dimensions: int) -> list[list[float]]:
        """Embeddings, counted as an LLM call."""
        return self._model(lambda: self._problem.llm.embed(texts, dimensions=dimensions))

    def _model(self, ask: Callable[[], _Answered]) -> _Answered:
        with self._alive():
            try:
                with busy():  # what waits for an endpoint gives the machine up by itself
                    found = ask()
            except (BudgetExhausted, RunInterrupted) as end:
                self.end = self.end or end
                self._hold()
            with self._mutex:
                self.llm_calls += 1
            return found

    def _hold(self) -> NoReturn:
        """Keep a request that comes after the end, until the program has ended."""
        self.late.set()
        self.wake()
        self._closed.wait()
        raise Refusal(410, "This run has ended.")

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Around what the program waits for."""
        with self._mutex:
            self._under_way += 1
        try:
            yield
        finally:
            with self._mutex:
                self._under_way -= 1
                self._heard_seconds = _running_seconds()

    # --- handler threads: the run --------------------------------------------------------------

    def routes(self, call: Call) -> Answer:
        """Answer one call below /run. Raises Refusal."""
        if call.plain and call.verb == "POST":
            name = plain.FIELDS.get(call.path)
            if name is not None:
                body = {name: call.body.decode("utf-8", "replace")}
                call = dataclasses.replace(call, body=json.dumps(body).encode())
        asked = (call.verb, call.path)
        if asked == ("GET", "/task"):
            return plain.task(self._problem) if call.plain else json_answer(self._task())
        if asked == ("POST", "/complete"):
            prompt = requests.text(requests.body("/complete", call.body), "prompt", required=True)
            return plain.text_answer(self._complete(prompt))
        answer = self._answer(call)
        return plain.verdict(answer) if call.plain else json_answer(answer)

    def _answer(self, call: Call) -> JsonObject:
        asked = (call.verb, call.path)
        if asked == ("GET", "/status"):
            return {"budget": self.budget()}
        if asked == ("GET", "/poll"):
            return self._poll(call.query)
        if asked == ("POST", "/record"):
            data = self._record(requests.body("/record", call.body))
            return self._wait(self._put("record", data=data))
        if asked == ("POST", "/finish"):
            reason = requests.text(requests.body("/finish", call.body), "reason")
            return self._wait(self._put("finish", data={"reason": reason[:300]}))
        if asked in (("POST", "/evaluate"), ("POST", "/submit"), ("POST", "/no_candidate")):
            body = requests.body(call.path, call.body)
            proposal = self._proposal(call.path, body)
            self._hear()
            ticket = self._put("proposal", proposal=proposal, data=requests.lineage(body))
            if call.path == "/submit":
                return {"id": ticket.number}
            with self._alive():
                return self._wait(ticket)
        raise Refusal(
            404,
            f"Nothing is served at {call.verb} /run{call.path[:100]}. Served: GET /run/task, "
            "/run/status and /run/poll?id=N; POST /run/evaluate, /run/submit, /run/no_candidate, "
            "/run/record, /run/finish and /run/complete.",
        )

    def _complete(self, prompt: str) -> str:
        reply = self._model(lambda: self._problem.llm.complete(prompt, purpose="propose"))
        return reply.text

    def _put(
        self,
        kind: Literal["proposal", "record", "finish"],
        *,
        proposal: Proposal | None = None,
        data: JsonObject,
    ) -> Ticket:
        with self._mutex:
            ended = self._closed.is_set()
            ticket = Ticket(len(self._tickets) + 1, kind, proposal or NoCode(""), data)
            self._tickets[ticket.number] = ticket
        if ended:
            self._hold()  # nobody takes tickets any more
        self._queue.put(ticket)
        return ticket

    def _record(self, body: JsonObject) -> JsonObject:
        found = requests.record(body)
        with self._mutex:
            self._records += 1
            used = self._problem.budget - self._problem.charges_left
            if self._records > RECORDS_AT_ONCE + RECORDS_PER_CHARGE * used:
                raise Refusal(400, f"Too many records: {self._records} after {used} charges.")
        return found

    def _wait(self, ticket: Ticket) -> JsonObject:
        ticket.done.wait()
        if ticket.answer is None:
            self._hold()
        if "error" in ticket.answer:
            raise Refusal(400, str(ticket.answer["error"]))
        return ticket.answer

    def _poll(self, query: str) -> JsonObject:
        given = parse_qs(query).get("id", [""])[0]
        number = given.isascii() and given.isdigit() and len(given) <= _LONGEST_NUMBER
        ticket = self._tickets.get(int(given)) if number else None
        if ticket is None or ticket.kind != "proposal":
            raise Refusal(
                404, f"There is no submission {given[:40]!r}: give what /run/submit gave."
            )
        return {"id": ticket.number, "result": ticket.answer}

    def _proposal(self, path: str, body: JsonObject) -> Proposal:
        if path == "/no_candidate":
            return NoCode(requests.text(body, "reason", required=True)[:1000])
        source = requests.text(body, "candidate", required=True)
        language = self._problem.task.language
        return submitted(source, language, requests.parent(body), requests.text(body, "note"))

    def _task(self) -> JsonObject:
        problem = self._problem
        card = problem.task
        return {
            "format": FORMAT,
            "task": {
                "name": card.name,
                "suite": card.suite,
                "language": card.language,
                "prose": card.prose,
                "baseline": card.baseline,
                "workloads": list(card.workloads),
            },
            "prompt": {
                "system": system_block(card),
                "task": task_block(card),
                "answer": answer_block(card),
                "scores": scores_block(),
            },
            "start": {
                "candidate": problem.start.source,
                **verdict(problem.start_evaluation),
            },
            "budget": self.budget(),
            "seed": problem.seed,
            "model": MODEL_ALIAS,
            "options": dataclasses.asdict(problem.options),
        }


def verdict(evaluation: Evaluation) -> JsonObject:
    """An evaluation for programs. score: null unless it passed. info.feedback: the text that every
    method shows to its model."""
    outcome = evaluation.outcome
    info: JsonObject = {"feedback": evaluation.feedback}
    if isinstance(outcome, Passed):
        info["workloads"] = [
            {
                "name": m.workload,
                "latency_us": m.latency_us,
                "baseline_us": m.baseline_us,
                "speedup": m.speedup,
                "speedup_low": m.speedup_low,
                "speedup_high": m.speedup_high,
            }
            for m in outcome.measurements
        ]
    else:
        info |= {
            "stage": outcome.stage.value,
            "check": outcome.check,
            "workload": outcome.workload,
            "message": outcome.message,
            "evidence": dict(outcome.evidence),
        }
    return {
        "candidate_id": evaluation.candidate_id,
        "status": evaluation.status.value,
        "score": evaluation.score,
        "info": info,
    }


def _running_seconds() -> float:
    """The monotonic clock, without the time that programs were stopped for timed blocks."""
    return time.monotonic() - PROGRAMS.stopped_seconds()
