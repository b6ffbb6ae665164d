"""A side whose program is a submission: observed, and its results fetched after the timed call.

A submission returns a tensor of its own instead of writing into the judge's. Copying it within the
call would time the copy (a tenth of a fast TriMul), so the worker holds the result, and copies it
when it is asked to: after the reply of the call, in a request of its own, outside both clocks.

`reuse_block` calls again and again on one slot whose contents are written once, with the same
containers: what a timer does that reuses its input object.

Covered: fetching, calls on reused inputs, the program's report on itself.
Not covered: work that a hostile program puts off until its result is fetched. So nothing here is
ever a score of a search; inspection.py says what is measured with it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.evaluate.channel import CallReply
from harness.evaluate.program import Call, Clocks, Contents, told_failure
from harness.evaluate.side import Side
from harness.types import JsonObject, Workload


class InspectedSide(Side):
    """A `Side` of a program in Python or Triton. Made by a bench for `Program.submission`."""

    bound: Workload | None = None
    _again = 0
    _reused: list[Clocks]

    def load(self) -> None:
        super().load()
        self._tell({"op": "defer"})

    def bind(self, workload: Workload, slots: int | None = None) -> None:
        self.bound = None
        super().bind(workload, slots)
        self.bound = workload

    def reuse_block(
        self, contents: Contents, rng: np.random.Generator, calls: int
    ) -> tuple[Call, list[Clocks]]:
        """One call on fresh contents, then `calls` on the same slot with nothing rewritten and in
        the same containers: the outputs of the last one, and the clocks of these. Checks what
        `run_block` does."""
        self._tell({"op": "keep", "kept": True})
        self._again, self._reused = calls, []
        try:
            (call,) = self.run_block([contents], rng)
        finally:
            self._again = 0
        self._tell({"op": "keep", "kept": False})
        return call, self._reused

    def report(self) -> JsonObject:
        """What the program says of itself: at most 1 MB of JSON, and not to be believed."""
        answer = self._ask({"op": "report"}, self._settings.call_timeout_seconds)
        report = answer.get("report")
        return report if isinstance(report, dict) else {}

    def _request(self, kind: Literal["run", "plan", "batch"], slot: int) -> CallReply:
        reply = super()._request(kind, slot)
        if kind == "plan":
            return reply
        self._tell({"op": "fetch", "slot": slot})
        for _ in range(self._again):
            reply = super()._request(kind, slot)
            self._reused.append(self._clocks(reply))
            self._tell({"op": "fetch", "slot": slot})
        return reply

    def _tell(self, message: JsonObject) -> None:
        answer = self._ask(message, self._settings.call_timeout_seconds)
        if answer.get("ok") is not True:
            raise told_failure(answer, "run", "its result is lost")
