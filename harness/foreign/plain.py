"""The run's paths in plain text, for programs that have a shell and curl and no JSON.

Covered: which field a plain body is; the task as one prompt; an answer as a line that a shell can
evaluate, and the feedback below it. Not covered: lineage, records, notes: they need JSON.
"""

from __future__ import annotations

from harness.llm.gateway_format import Answer
from harness.method import Problem
from harness.prompt import answer_block, program_block, system_block, task_block
from harness.types import JsonObject

FIELDS = {
    "/evaluate": "candidate",
    "/submit": "candidate",
    "/no_candidate": "reason",
    "/finish": "reason",
    "/complete": "prompt",
}
"""What a plain body is, by path."""


def text_answer(text: str) -> Answer:
    return Answer(200, text.encode("utf-8", "replace"), "text/plain; charset=utf-8")


def task(problem: Problem) -> Answer:
    """The whole task as one prompt: what the other methods say of it, and the starting program."""
    card = problem.task
    start = program_block("Starting program", problem.start, problem.start_evaluation)
    return text_answer(
        "\n\n".join([system_block(card), task_block(card), start, answer_block(card)])
    )


def verdict(answer: JsonObject) -> Answer:
    """An answer's facts as NAME=VALUE words on the first line. Values are numbers, hashes and words
    of ours, so that a shell may evaluate the line; score is empty where there is none."""
    found = answer.get("result") or answer
    words: dict[str, object] = {}
    if "id" in answer:
        words["id"] = answer["id"]
    if "budget" in found:
        words["charges_left"] = found["budget"]["charges_left"]
    if "status" in found:
        score = found["score"]
        words["status"] = found["status"]
        words["score"] = "" if score is None else f"{score:.6g}"
        words["candidate_id"] = found["candidate_id"] or ""
    line = " ".join(f"{name}={value}" for name, value in words.items())
    return text_answer(f"{line}\n{found['info']['feedback']}\n" if "info" in found else f"{line}\n")
