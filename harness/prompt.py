"""The blocks that every method builds its prompts from: one prose for the task, one form of
feedback.

Methods arrange these blocks; none rewrites them. So no method wins by a better description of the
task, and a program, its verdict and an intended change look the same in every prompt.
"""

from __future__ import annotations

from harness.method import TaskCard
from harness.types import Candidate, Evaluation, Language

FENCES: dict[Language, str] = {"cpp": "cpp", "python": "python", "triton": "python", "cuda": "cuda"}


def system_block(card: TaskCard) -> str:
    """Who the model is and what counts. The system message of every prompt for a program."""
    return (
        "You are an expert performance engineer. You write one kernel. A machine that you cannot "
        "see judges it: it must first be correct on every workload, and then be fast. Its score is "
        f"the geometric mean over workloads of the latency of {card.baseline} divided by its own "
        "latency, so higher is better. All inputs change with every call: keep no results between "
        "calls."
    )


def task_block(card: TaskCard) -> str:
    """The task in words, with its interface."""
    return f"# Task: {card.name}\n\n{card.prose}"


def program_block(title: str, candidate: Candidate, evaluation: Evaluation | None = None) -> str:
    """A program under a heading, in a code fence, followed by its verdict if there is one."""
    fence = FENCES[candidate.language]
    block = f"## {title}\n\n```{fence}\n{candidate.source.rstrip()}\n```\n"
    if evaluation is not None:
        block += f"\nVerdict on this program:\n{evaluation.feedback.rstrip()}\n"
    return block


def intent_block(intent: str) -> str:
    """The change that is asked for, on one line that starts with "Intent:"."""
    return f"Intent: {' '.join(intent.split())}"


def answer_block(card: TaskCard) -> str:
    """The form of the answer, the same for all methods, read by `Problem.candidate_from`."""
    return (
        f"Answer with the complete program in one code block fenced with "
        f"```{FENCES[card.language]}. Text outside the block is ignored. Leave nothing out: the "
        "block is compiled as it is."
    )


def scores_block() -> str:
    """For the programs of foreign methods, which show numbers of their own beside the verdicts."""
    return (
        "Where a program is listed with a fitness or a combined score, that number is its score "
        "times 100, and 0 for a program that failed. Its verdict, where it is shown, gives the "
        "score itself."
    )
