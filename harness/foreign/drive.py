"""The adapter of a foreign method: a generator that yields what a child process submits.

1. Start the gateway, the session behind its token, and the program (in an empty folder).
2. Wait, with the machine given up, for what the program sends: records are written, proposals are
   yielded (several that are there at once as a list) and answered by number.
3. When the charges are used up, the program has been told so in its last answer. It gets time to
   end by itself and may record; a further call is held, never refused, and shortens that time.
4. End the program and everything that it started.

A run counts if the program used its budget to the last charge and asked the model at least once
(or said by /run/finish that it is done). Anything else is raised, with the program's last words: a
package whose every call fails can end with exit status 0 and no candidate at all.

Covered: a program that dies, hangs, floods, forks, submits too much or too early. Not covered: what
the program decides.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ForeignError
from harness.evaluate.machine import released
from harness.foreign.child import Child, writing
from harness.foreign.endpoint import MODEL_ALIAS, Session, Ticket
from harness.llm.gateway import Gateway
from harness.method import Problem, Search
from harness.types import Candidate, JsonObject

POLL_SECONDS = 1.0  # how often a silent program is looked at
SETTLE_SECONDS = 0.2  # for its last words to come through the pipe
LATE_SECONDS = 3.0  # how long a program that went on after its last charge may still take


@dataclass(frozen=True)
class ForeignProgram:
    """What is run, and how it is held.

    command: argv; the program by an absolute path or by its name on PATH; "{files}" in it stands
    for the folder of `files`: texts by name, which the program also finds in HARNESS_FILES.
    environment: further variables. needs_model: whether a run without an LLM call is a failure.
    silent_seconds: how long it may neither ask, nor submit, nor wait for anything. grace_seconds:
    how long it may take to end after its last charge.
    """

    command: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    needs_model: bool = True
    silent_seconds: float = 900.0
    grace_seconds: float = 60.0


def drive(problem: Problem, program: ForeignProgram) -> Search:
    """Run the program against the problem.

    Raises ForeignError if the program ends, hangs or gives up before its budget does,
    EnvironmentMissing if it cannot be started, BudgetExhausted at another limit than the charges.
    """
    folder = problem.workspace()
    files = folder / "files"
    with writing(folder):
        files.mkdir()
        for name, text in program.files.items():
            (files / name).write_text(text, encoding="utf-8")
    session = Session(problem)
    ended_well = False
    stack = ExitStack()
    try:
        gateway = stack.enter_context(Gateway(poll_seconds=0.25))
        access = gateway.grant(
            session, model=MODEL_ALIAS, sampling={}, embed=session.embed, routes=session.routes
        )
        environment = {
            "HARNESS_URL": gateway.run_url,
            "HARNESS_TOKEN": access.token,
            "HARNESS_FILES": str(files),
            "OPENAI_BASE_URL": access.base_url,
            "OPENAI_API_KEY": access.token,
            "OPENAI_MODEL": MODEL_ALIAS,
            **program.environment,
        }
        command = [word.replace("{files}", str(files)) for word in program.command]
        stack.callback(session.close)
        child = stack.enter_context(
            Child(command, folder=folder, environment=environment, on_end=session.wake)
        )
        yield from _Drive(problem, program, session, child).run()
        ended_well = True
    finally:
        # The program ends first, then its requests are let go, then the gateway waits for them: no
        # program lives to see an error. Some of them may want the machine: do not hold it.
        with released():
            stack.close()
        if ended_well:
            shutil.rmtree(folder / "work", ignore_errors=True)  # what matters is in the log


class _Drive:
    """One program's run, step by step."""

    def __init__(
        self, problem: Problem, program: ForeignProgram, session: Session, child: Child
    ) -> None:
        self._problem = problem
        self._program = program
        self._session = session
        self._child = child
        self._waiting: list[Ticket] = []
        self._finished: str | None = None

    def run(self) -> Search:
        while self._problem.charges_left > 0 and self._finished is None:
            self._problem.check_stop()
            self._listen(POLL_SECONDS)
            if self._waiting:
                yield from self._propose()
            elif self._session.end is not None:
                raise self._session.end
            elif self._child.ended is not None:
                # What it said before it ended may have come in between.
                self._listen(0.0)
                if not self._waiting and self._finished is None:
                    raise self._failure(f"ended ({self._child.ended})")
            elif self._session.silent_seconds() > self._program.silent_seconds:
                raise self._failure(f"was silent for {self._program.silent_seconds:g} s")
        self._let_end()
        if self._program.needs_model and self._session.llm_calls == 0:
            raise self._failure("never got an answer from the model")

    def _listen(self, timeout_seconds: float) -> None:
        """Take what has come: records at once, proposals to be yielded."""
        with released():
            tickets = self._session.take(timeout_seconds)
        for ticket in tickets:
            if ticket.kind == "proposal":
                self._waiting.append(ticket)
            elif ticket.kind == "record":
                self._record(ticket)
            else:
                self._finished = ticket.data["reason"] or "it said so"
                ticket.resolve({"budget": self._session.budget()})

    def _record(self, ticket: Ticket) -> None:
        try:
            self._problem.record(ticket.data["kind"], ticket.data["data"])
        except (ValueError, TypeError, RecursionError) as error:
            ticket.resolve({"error": str(error)})
        else:
            ticket.resolve({"budget": self._session.budget()})

    def _propose(self) -> Search:
        """Yield what is waiting, as far as the charges go, and answer it."""
        left = self._problem.charges_left
        batch, self._waiting = self._waiting[:left], self._waiting[left:]
        charge = self._problem.budget - left
        for ticket in batch:
            charge += 1
            if ticket.data:
                self._problem.record("lineage", _lineage_record(charge, ticket))
        if len(batch) == 1:
            evaluations = [(yield batch[0].proposal)]
        else:
            evaluations = yield [ticket.proposal for ticket in batch]
        for ticket, evaluation in zip(batch, evaluations, strict=True):
            ticket.resolve(self._session.result(ticket.number, evaluation))

    def _let_end(self) -> None:
        """Wait for the program's own end, ask for it, and leave the rest to `Child.close`."""
        deadline = time.monotonic() + self._program.grace_seconds
        asked = False
        while self._child.ended is None:
            late = bool(self._waiting) or self._session.late.is_set()
            if late:
                deadline = min(deadline, time.monotonic() + LATE_SECONDS)
                self._waiting.clear()  # held until the end
                self._session.late.clear()
            left = deadline - time.monotonic()
            if left <= 0 and asked:
                return
            if left <= 0:
                self._child.interrupt()
                asked, deadline = True, time.monotonic() + LATE_SECONDS
            self._listen(max(0.0, min(left, POLL_SECONDS)))

    def _failure(self, what: str) -> ForeignError:
        time.sleep(SETTLE_SECONDS)
        used = self._problem.budget - self._problem.charges_left
        return ForeignError(
            f"The program {Path(self._program.command[0]).name} {what} after {used} of "
            f"{self._problem.budget} charges and {self._session.llm_calls} LLM calls. Its last "
            f"words:\n{self._child.last_words()}\nAll that it printed: {self._child.output}"
        )


def _lineage_record(charge: int, ticket: Ticket) -> JsonObject:
    proposal = ticket.proposal
    candidate = proposal.id if isinstance(proposal, Candidate) else None
    return {"charge": charge, "candidate": candidate, **ticket.data}
