"""K-Search: a model keeps a tree of optimisation ideas, and the search turns them into programs.

After "K-Search" (arXiv 2602.19128), from its description; docs/ksearch.md says where this differs.
The loop, until the charges are used up:

    0. planning.start        the root holds the starting program; the model inserts the first open
                             actions: at least three families of algorithms
    1. selection.select      take the action with the highest V on the frontier (or a random one, or
                             the one that UCT descends to)
    2. refinement.refine     write programs for it: first, debug until one passes, improve after
                             that, until K evaluations in a row bring no new best of the cycle
    3. planning.evolve       close the node with the cycle's best program, or demote it; then the
                             model reads what happened and inserts, updates and prunes

world_model.py is the tree and its rules, edits.py and strict_json.py read the model's answers,
projection.py writes the tree for prompts, prompts.py holds every word, trajectory.py is a cycle as
data, records.py what goes into the run log, options.py the settings. Every program and every reply
without one costs a charge; world-model calls do not.

Not covered: evaluating, counting, logging, resuming. They are the harness's.
"""

from __future__ import annotations

from harness.method import Method, Problem, Search
from methods.ksearch import planning, records
from methods.ksearch.options import Options
from methods.ksearch.refinement import refine
from methods.ksearch.selection import select


def search(problem: Problem) -> Search:
    """The loop of the module's docstring. Yields proposals, is sent their evaluations."""
    options: Options = problem.options
    model = planning.start(problem, options)
    round_number = 0
    while problem.charges_left > 0:
        round_number += 1
        node = select(
            model,
            policy=options.policy,
            max_difficulty=options.max_difficulty,
            uct_c=options.uct_c,
            stream=problem.random("selection"),
        )
        problem.record("selection", records.selection(model, round_number, node))
        cycle = yield from refine(problem, options, model, node)
        problem.record("cycle", records.cycle(cycle, round_number))
        model = planning.evolve(problem, options, model, cycle, round_number)


method = Method(
    name="ksearch",
    title="K-Search",
    search=search,
    options=Options,
    package="methods.ksearch",
    variants={
        "no-world-model": {"world_model": "none"},
        "frozen": {"world_model": "frozen"},
        "random-action": {"policy": "random"},
        "uct": {"policy": "uct"},
    },
)
