"""Every word that K-Search says to a model. Arranged from the blocks of harness/prompt.py.

    propose        a program: one base program with its verdict, one intent, one wanted answer. The
                   base is the last and only program, shown in full and unchanged.
    plan_initial   the first world model: algorithm families below the root
    plan_update    edits after a cycle: what was tried, what came of it, the best programs
    plan_refill    edits that put actions on an empty frontier
    corrected      any of the three again, with the reason why the last answer was refused

The size of a prompt is bounded: the tree by `projection_tokens`, feedback by the evaluator, the
lists of attempts and ancestors by the constants below, and planning prompts leave out a program
that is longer than PROGRAM_CHARACTERS, saying so. Not covered: the wording of the task, of verdicts
and of the answer's form, which is the same for all methods.
"""

from __future__ import annotations

from harness.llm.client import Message
from harness.method import TaskCard
from harness.prompt import answer_block, intent_block, program_block, system_block, task_block
from harness.types import Evaluation, Failed
from methods.ksearch.options import Options
from methods.ksearch.projection import project
from methods.ksearch.trajectory import Attempt, Cycle, Step
from methods.ksearch.world_model import Program, WorldModel

ATTEMPTS_SHOWN = 12
ANCESTORS_SHOWN = 8
PROGRAM_CHARACTERS = 24_000
VERDICT_CHARACTERS = 160

_PLANNER = (
    "You plan the search for a fast kernel. You do not write programs here: you keep a tree of "
    "ideas, called the world model, that says what was tried, what was learned and what is worth "
    "trying next. Another model writes the programs, and a machine checks and times them. Be "
    "concrete about the bottleneck, honest about what failed, and brief."
)

_TREE = """\
# How to read the world model

Every node is one action: a change, in words, to the program of its parent.
- closed: tried; a program that passed is attached, and `score` is its measured speedup over the \
baseline (higher is better). The root is the starting program.
- open: an idea that was not tried yet, or failed so far. `priority` is V, your estimate in [0, 1] \
of how much the search gains by trying it next; `difficulty` runs from 1 (a few lines) to 5 (a \
redesign that is likely to fail at first).
- pruned: given up.
The frontier lists the open nodes whose parent is closed: only these can be tried now. `attempts` \
counts the cycles spent on a node. A cycle is a series of programs for one action; it ends after \
several evaluations in a row without a better one. Ids, programs, scores and states are kept by \
the search and cannot be edited."""

_EDITS = """\
# The edits

    {"edits": [
       {"op": "insert", "parent": "n0", "title": "...", "intent": "...", "priority": 0.7, \
"difficulty": 2, "expected_factor": 1.5, "rationale": "..."},
       {"op": "update", "node": "n3", "priority": 0.2, "difficulty": 4, "notes": "..."},
       {"op": "prune", "node": "n5", "reason": "..."}],
     "kernel_summary": "...", "open_questions": ["..."]}

- insert: a new open action below an existing node. `intent` tells the programmer what to change, \
in one or two sentences and without code. `expected_factor` (the speedup over the parent's \
program) and `rationale` may be left out.
- update: a new V or difficulty for a node, or notes on what was learned about it.
- prune: drops an open node and everything open below it. Closed nodes cannot be pruned.
- `kernel_summary` (what is known about the bottleneck) and `open_questions` replace the old ones; \
leave them out to keep these.
Use no other fields. All edits are applied together: if one is invalid, none is."""


def propose(
    card: TaskCard,
    model: WorldModel,
    cycle: Cycle,
    *,
    step: Step,
    base: Program,
    options: Options,
) -> list[Message]:
    """The prompt for the next program of a cycle."""
    title = {
        "first": "Current program",
        "debug": "Program to repair",
        "improve": "Current best program",
    }[step]
    blocks = [task_block(card)]
    if options.world_model != "none":
        blocks += _context(model, cycle)
    if cycle.attempts:
        blocks.append("# Attempts at the current intent so far\n\n" + _attempts(cycle.attempts))
    blocks += [
        program_block(title, base.candidate, base.evaluation),
        _instruction(step),
        intent_block(cycle.node.intent),
        answer_block(card),
    ]
    return _messages(system_block(card), blocks)


def plan_initial(card: TaskCard, model: WorldModel, options: Options) -> list[Message]:
    """The prompt for the first world model."""
    start = model.nodes[model.root].program
    return _planning(
        card,
        model,
        options,
        [_program(f"Starting program ({model.root})", start)] if start else [],
        f"Insert at least 3 and at most {options.max_new_nodes} open actions below "
        f"{model.root}. Each should be a different family of algorithms or a different "
        "organisation of the whole computation, not a local tweak: tweaks can follow below the "
        "family that works. Spread the priorities so that they say which one you would try first.",
    )


def plan_update(card: TaskCard, model: WorldModel, cycle: Cycle, options: Options) -> list[Message]:
    """The prompt for the edits after a cycle. `model` already holds the cycle's result."""
    blocks = [_trajectory(model, cycle)]
    shown = cycle.best or cycle.last_program
    best = model.best.program
    if best is not None and (shown is None or best.candidate != shown.candidate):
        blocks.append(_program(f"Best program of the search so far ({model.best.id})", best))
    if shown is not None:
        which = "Best" if cycle.best else "Last"
        blocks.append(_program(f"{which} program of this cycle ({cycle.node.id})", shown))
    return _planning(
        card,
        model,
        options,
        blocks,
        "Update the world model with what this cycle taught. Below a node that just closed, insert "
        "the next steps that its program makes possible"
        f" (at most {options.max_new_nodes} insertions in one answer). Correct V and difficulty "
        "wherever the result changes your expectation, related ideas included. If the action "
        "failed because it was too large, split it: prune it and insert smaller actions. Prune "
        "what the evidence rules out. Leave at least one open action on the frontier.",
    )


def plan_refill(card: TaskCard, model: WorldModel, options: Options) -> list[Message]:
    """The prompt for edits when nothing is left to try."""
    best = model.best.program
    return _planning(
        card,
        model,
        options,
        [_program(f"Best program of the search so far ({model.best.id})", best)] if best else [],
        "The frontier is empty: no action can be tried. Insert at least one and at most "
        f"{options.max_new_nodes} open actions below closed nodes, different from everything that "
        "was tried or pruned.",
    )


def corrected(prompt: list[Message], error: str) -> list[Message]:
    """The same prompt with the reason why the last answer could not be used."""
    note = (
        f"Your previous answer was refused and changed nothing: {error}. Answer again, completely "
        "and in the form above."
    )
    return [*prompt[:-1], Message("user", f"{prompt[-1].content}\n\n{note}")]


def _planning(
    card: TaskCard, model: WorldModel, options: Options, blocks: list[str], wanted: str
) -> list[Message]:
    tree = f"# World model\n\n```json\n{project(model, options.projection_tokens)}\n```"
    answer = "Answer with one JSON object in one block fenced with ```json, and nothing else."
    return _messages(
        _PLANNER, [task_block(card), _TREE, tree, *blocks, _EDITS, f"# Now\n\n{wanted}", answer]
    )


def _messages(system: str, blocks: list[str]) -> list[Message]:
    return [Message("system", system), Message("user", "\n\n".join(blocks))]


def _context(model: WorldModel, cycle: Cycle) -> list[str]:
    """What is known and which steps led to the parent's program; nothing where there is
    nothing."""
    lines = []
    if model.kernel_summary:
        lines.append(f"Known about this kernel: {model.kernel_summary}")
    steps = [node for node in model.path(cycle.node.id) if node.parent is not None]
    if steps:
        lines.append("Steps that led to the program which this intent builds on:")
        lines += [
            f"- {node.title} (speedup over the baseline {_number(node.score)})"
            for node in steps[-ANCESTORS_SHOWN:]
        ]
    return ["# Context\n\n" + "\n".join(lines)] if lines else []


def _instruction(step: Step) -> str:
    if step == "debug":
        return (
            "This program does not pass. Find the cause of the verdict above and repair it; a "
            "correct program comes first. Keep the intent: do not fall back to the program without "
            "it."
        )
    if step == "improve":
        return (
            "Make this program faster by carrying the intent further or doing it better. If it is "
            "already carried out in full, tune what it left slow. Keep the program correct."
        )
    return (
        "Change this program as the intent says, and keep everything correct that the change does "
        "not touch."
    )


def _trajectory(model: WorldModel, cycle: Cycle) -> str:
    node = model.nodes[cycle.node.id]
    if cycle.best_score is None:
        outcome = "No program passed. "
        outcome += (
            "The action reached its limit of failed cycles and was pruned."
            if node.state == "pruned"
            else f"Its V was lowered to {node.priority:.3g} and its difficulty set to "
            f"{node.difficulty}."
        )
    else:
        outcome = (
            f"It is closed now: its best program reached {_number(cycle.best_score)}, the parent's "
            f"program has {_number(cycle.parent.score)}, the best of the whole search is "
            f"{_number(model.best.score)} ({model.best.id})."
        )
    return (
        f"# The cycle that just ended\n\nAction {node.id}, below {node.parent}: {node.title}\n"
        f"Wanted change: {node.intent}\n\n{_attempts(cycle.attempts)}\n\n{outcome}"
    )


def _attempts(attempts: tuple[Attempt, ...]) -> str:
    """One line per attempt, the latest ones if there are many."""
    first = max(0, len(attempts) - ATTEMPTS_SHOWN)
    lines = [f"- ({first} earlier attempts are not shown)"] if first else []
    lines += [
        f"- attempt {number} ({attempt.step}): {_verdict(attempt.evaluation)}"
        for number, attempt in enumerate(attempts[first:], start=first + 1)
    ]
    return "\n".join(lines)


def _verdict(evaluation: Evaluation) -> str:
    outcome = evaluation.outcome
    if not isinstance(outcome, Failed):
        return f"passed, speedup over the baseline {_number(outcome.score)}"
    message = " ".join(outcome.message.split())[:VERDICT_CHARACTERS]
    return f"failed, {outcome.status.value} at {outcome.stage.value} ({outcome.check}): {message}"


def _program(title: str, program: Program) -> str:
    length = len(program.candidate.source)
    if length > PROGRAM_CHARACTERS:
        return f"## {title}\n\n(A program of {length} characters, too long to show here.)"
    return program_block(title, program.candidate, program.evaluation)


def _number(score: float | None) -> str:
    return "none" if score is None else f"{score:.4g}"
