"""One cycle: programs for one action, until K evaluations in a row bring nothing better.

    first     the action's intent on the parent's program
    debug     until the first pass: the cycle's last program with its verdict, same intent
    improve   after it: the better of the parent's program and the cycle's best, same intent

An evaluation improves if it passed and its score is above every earlier one *of this cycle*; the
first pass always does, even below the parent. So a good idea survives a broken first version, and
K counts from the last success. Every proposal counts and costs one charge: a failure and a reply
without a program (NO_CODE) are evaluations that did not improve, and nothing is asked again for
free. The cycle also ends with the budget, and after cycle_limit * K evaluations.

Programs are passed on as they are: nothing here reads or changes generated code.
"""

from __future__ import annotations

from collections.abc import Generator

from harness.method import Problem
from harness.types import Candidate, Evaluation, Proposal
from methods.ksearch import prompts
from methods.ksearch.options import Options
from methods.ksearch.trajectory import Attempt, Cycle, Step
from methods.ksearch.world_model import Node, Program, WorldModel


def refine(
    problem: Problem, options: Options, model: WorldModel, node: Node
) -> Generator[Proposal, Evaluation, Cycle]:
    """Run the cycle of one frontier node. Yields proposals; returns what happened."""
    cycle = Cycle(node, model.parent_program(node))
    while (
        problem.charges_left > 0
        and cycle.evaluations_since_improvement < options.k
        and len(cycle.attempts) < options.k * options.cycle_limit
    ):
        step, base = next_step(cycle)
        prompt = prompts.propose(problem.task, model, cycle, step=step, base=base, options=options)
        reply = problem.llm.complete(prompt, purpose="propose")
        number = len(cycle.attempts) + 1
        proposal = problem.candidate_from(
            reply, parent=base.candidate, note=f"{node.id} {step} {number}: {node.title}"
        )
        evaluation = yield proposal
        candidate = proposal if isinstance(proposal, Candidate) else None
        cycle = cycle.extended(Attempt(step, candidate, evaluation))
    return cycle


def next_step(cycle: Cycle) -> tuple[Step, Program]:
    """What the next attempt does, and to which program."""
    if cycle.best is not None:
        best_score, parent_score = cycle.best.score or 0.0, cycle.parent.score or 0.0
        return "improve", cycle.best if best_score > parent_score else cycle.parent
    last = cycle.last_program
    return ("first", cycle.parent) if last is None else ("debug", last)
