"""What a method is given: the run's implementation of harness.method.Problem.

Covered: the task card, the start, the metered model, random streams, the reply parser, records in
the run log, and the attempt's folder. Not covered: the loop (harness/search.py).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from harness.budget import Meter
from harness.journal import Journal, record_fields
from harness.llm.client import Reply
from harness.metered import Interruption
from harness.method import MeteredLLM, TaskCard
from harness.reply import candidate_from
from harness.types import Candidate, Evaluation, JsonObject, Proposal, canonical_json

_RECORD_KIND = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class RunProblem:
    """One run's problem. See harness.method.Problem for what each part means."""

    def __init__(
        self,
        *,
        task: TaskCard,
        start: Candidate,
        start_evaluation: Evaluation,
        llm: MeteredLLM,
        options: object,
        method: str,
        seed: int,
        meter: Meter,
        journal: Journal,
        interruption: Interruption,
        workspace: Callable[[], Path],
        check_stop: Callable[[], None],
    ) -> None:
        self.task = task
        self.start = start
        self.start_evaluation = start_evaluation
        self.llm: MeteredLLM = llm
        self.options = options
        self.budget = meter.budget.charges
        self.seed = seed
        self._method = method
        self._meter = meter
        self._journal = journal
        self._interruption = interruption
        self._make_workspace = workspace
        self._check_stop = check_stop
        self._workspace: Path | None = None
        self._streams: dict[str, random.Random] = {}

    @property
    def charges_left(self) -> int:
        """How many proposals may still be made."""
        return self._meter.charges_left

    def random(self, name: str) -> random.Random:
        """The run's random stream called `name`, the same object each time.

        Seeded by blake2b over (seed, method, task, name), so that neither the order of first use
        nor another stream's use changes what it yields.
        """
        if name not in self._streams:
            identity = canonical_json([self.seed, self._method, self.task.name, name])
            digest = hashlib.blake2b(identity.encode(), digest_size=32).digest()
            self._streams[name] = random.Random(int.from_bytes(digest, "big"))
        return self._streams[name]

    def candidate_from(
        self, reply: Reply, *, parent: Candidate | None = None, note: str = ""
    ) -> Proposal:
        """The program in a reply, or NoCode with the reason (harness/reply.py)."""
        parent_id = parent.id if parent is not None else None
        return candidate_from(reply.text, self.task.language, parent_id, note)

    def record(self, kind: str, data: JsonObject) -> None:
        """Put something of the method's own into the run log.

        Raises ValueError or TypeError for a kind that is no short word or data that is not JSON.
        """
        if not isinstance(kind, str) or not _RECORD_KIND.fullmatch(kind):
            raise ValueError(f"a record's kind is one short word, got {kind!r}")
        json.dumps(data, allow_nan=False)  # a method's mistake is raised to the method
        with self._interruption:
            log = self._journal.log
            self._journal.record(record_fields(log, kind, self._meter.charges, data))

    def check_stop(self) -> None:
        """Ends this step if the user asked the run to stop."""
        with self._interruption:
            self._check_stop()

    def workspace(self) -> Path:
        """A folder for this attempt at the run, empty when it is first asked for."""
        with self._interruption:
            if self._workspace is None:
                self._workspace = self._make_workspace()
            return self._workspace
