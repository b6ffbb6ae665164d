"""What a method may yield, and what a proposal without a program costs.

Covered: the check of a yield against the protocol (harness/method.py), and the evaluation that
answers a NoCode. Not covered: whether a program is usable text (`harness.reply.unusable_source`).
"""

from __future__ import annotations

from harness.method import TaskCard
from harness.types import Candidate, Evaluation, Failed, NoCode, Phase, Stage, Status

_MAX_REASON_CHARACTERS = 1900  # feedback is bounded to 2,000


def no_code(reason: str) -> Evaluation:
    """The evaluation of a proposal without a program: costs a charge and no seconds."""
    words = reason.encode("utf-8", "replace").decode("utf-8")[:_MAX_REASON_CHARACTERS]
    outcome = Failed(Status.NO_CODE, Stage.PARSE, "no_code", words)
    return Evaluation(None, Phase.SEARCH, outcome, f"NO_CODE at parse: {words}")


def what_is_wrong(yielded: object, task: TaskCard) -> str | None:
    """How a yield breaks the protocol, or None."""
    if isinstance(yielded, list):
        if not yielded:
            return "yielded an empty list; a list holds at least one proposal"
        return next((wrong for item in yielded if (wrong := _wrong_item(item, task))), None)
    return _wrong_item(yielded, task)


def _wrong_item(item: object, task: TaskCard) -> str | None:
    if isinstance(item, NoCode):
        return None if isinstance(item.reason, str) else "yielded a NoCode whose reason is no text"
    if not isinstance(item, Candidate):
        return (
            f"yielded {type(item).__name__}, expected a Candidate, a NoCode or a list of them "
            "(problem.candidate_from makes one from a reply)"
        )
    texts = (item.source, item.note, item.parent or "")
    if not all(isinstance(text, str) for text in texts):
        return "yielded a Candidate whose source, note or parent is no text"
    if item.language != task.language:
        return f"yielded a Candidate in {item.language!r}; this task is searched in {task.language}"
    return None
