"""Best of n: independent samples, the baseline that every method must beat.

Every prompt shows the task, the starting program and its verdict, and nothing that was learned
since; the best of the n = budget answers is the result. The prompts of a run are identical, so a
recorded or simulated model tells them apart by their occurrence number.

It is also the template of a plugin: a frozen Options, a generator, a Method. Not covered, because
it is the point of the baseline: feedback, memory, choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.llm.client import Message
from harness.method import Method, Problem, Search
from harness.prompt import answer_block, program_block, system_block, task_block


@dataclass(frozen=True)
class Options:
    """show_feedback: whether the prompt holds the verdict on the starting program."""

    show_feedback: bool = True


def search(problem: Problem) -> Search:
    """One prompt, asked again for every charge."""
    shown = problem.start_evaluation if problem.options.show_feedback else None
    prompt = [
        Message("system", system_block(problem.task)),
        Message(
            "user",
            "\n\n".join(
                [
                    task_block(problem.task),
                    program_block("Starting program", problem.start, shown),
                    "Write a faster program for this task, in one step from the one above.",
                    answer_block(problem.task),
                ]
            ),
        ),
    ]
    while problem.charges_left > 0:
        reply = problem.llm.complete(prompt, purpose="propose")
        yield problem.candidate_from(reply, parent=problem.start, note="independent sample")


method = Method(
    name="best_of_n",
    title="Best of n independent samples",
    search=search,
    options=Options,
    package="methods.best_of_n",
)
