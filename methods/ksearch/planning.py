"""The world model over time: written at the start, edited after each cycle, never empty-handed.

    start     a tree of the root; "evolving" and "frozen" ask the model for the first actions
    conclude  engine only: attach the cycle's best program, or demote the action; after
              `attempt_cap` failed cycles it is pruned, whatever V the model gives it
    evolve    conclude, then ("evolving") let the model edit the tree

An answer that cannot be used is asked for again, with the reason, `world_model_retries` times; then
the search goes on with the tree as it was. If the frontier is empty the model is asked for actions
(unless its answers have just proved unusable), and if it stays empty the engine inserts one generic
action below the best node. So no answer ends a run, and `start` and `evolve` always return a tree
with a frontier while charges are left. World-model calls cost no charge; they count as LLM calls,
tokens and dollars.

Every version goes into the run log. Not covered: transport failures, which never reach a method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.errors import BudgetExhausted
from harness.llm.client import Message
from harness.method import Problem
from methods.ksearch import prompts, records
from methods.ksearch.edits import AppliedEdit, apply_revision, parse
from methods.ksearch.options import Options
from methods.ksearch.trajectory import Cycle
from methods.ksearch.world_model import EditError, Insert, Program, Prune, WorldModel

GENERIC_TITLE = "make the best program faster"
GENERIC_INTENT = "make this program faster by the change that promises most, judged by its verdict"


@dataclass(frozen=True)
class Version:
    """A world model and how it came about. edits: what was done, by the model or the engine.

    rejected: reasons of refused answers and of skipped insertions. answered: False if the model was
    asked and gave no usable answer.
    """

    model: WorldModel
    edits: tuple[AppliedEdit, ...] = ()
    rejected: tuple[str, ...] = ()
    answered: bool = True


def start(problem: Problem, options: Options) -> WorldModel:
    """Version 0, recorded as "initial"."""
    version = Version(WorldModel.of_start(Program(problem.start, problem.start_evaluation)))
    if options.world_model != "none" and problem.charges_left > 0:
        prompt = prompts.plan_initial(problem.task, version.model, options)
        version = _ask(problem, options, version, prompt, round_number=0, must_open=True)
    version = _with_generic_action(version, round_number=0)
    _record(problem, version, round_number=0, reason="initial")
    return version.model


def evolve(
    problem: Problem, options: Options, model: WorldModel, cycle: Cycle, round_number: int
) -> WorldModel:
    """The version after a cycle, recorded as "update" or "failed update"."""
    version = conclude(model, cycle, options)
    if problem.charges_left > 0:
        if options.world_model == "evolving":
            try:
                version = _edited(problem, options, version, cycle, round_number)
            except BudgetExhausted:  # of calls, tokens or money: log what the cycle came to
                _record(problem, version, round_number, "update")
                raise
        version = _with_generic_action(version, round_number)
    reason: records.Reason = "update" if version.answered else "failed update"
    _record(problem, version, round_number, reason)
    return version.model


def conclude(model: WorldModel, cycle: Cycle, options: Options) -> Version:
    """What a cycle's result does to its node, with no model asked."""
    node_id = cycle.node.id
    if cycle.best is not None:
        return Version(model.attach(node_id, cycle.best))
    demoted = model.demote(node_id, options.demotion)
    edits = [AppliedEdit("update", node_id, "engine")]
    if demoted.nodes[node_id].attempts >= options.attempt_cap:
        reason = f"no pass in {options.attempt_cap} cycles"
        demoted, pruned = demoted.prune(Prune(node_id, reason))
        edits += [AppliedEdit("prune", pruned_id, "engine") for pruned_id in pruned]
    return Version(demoted, tuple(edits))


def _edited(
    problem: Problem, options: Options, version: Version, cycle: Cycle, round_number: int
) -> Version:
    """The version after the model's edits; if they leave no frontier, it is asked to fill it."""
    prompt = prompts.plan_update(problem.task, version.model, cycle, options)
    edited = _ask(problem, options, version, prompt, round_number=round_number, must_open=False)
    if edited.answered and not edited.model.frontier:
        prompt = prompts.plan_refill(problem.task, edited.model, options)
        edited = _ask(problem, options, edited, prompt, round_number=round_number, must_open=True)
    return edited


def _ask(
    problem: Problem,
    options: Options,
    version: Version,
    prompt: list[Message],
    *,
    round_number: int,
    must_open: bool,
) -> Version:
    """The version after the model's first usable answer, or the same one, marked."""
    rejected = list(version.rejected)
    request = prompt
    for _ in range(1 + options.world_model_retries):
        reply = problem.llm.complete(request, purpose="world-model")
        try:
            applied = apply_revision(
                version.model,
                parse(reply),
                round_number=round_number,
                max_new_nodes=options.max_new_nodes,
            )
            if must_open and not applied.model.frontier:
                raise EditError("it leaves no open action below a closed node; insert some")
        except EditError as error:
            rejected.append(str(error))
            request = prompts.corrected(prompt, str(error))
            continue
        return Version(
            applied.model,
            (*version.edits, *applied.edits),
            (*rejected, *applied.skipped),
        )
    return replace(version, rejected=tuple(rejected), answered=False)


def _with_generic_action(version: Version, round_number: int) -> Version:
    """The version itself if there is something to try, else with one action below the best node."""
    if version.model.frontier:
        return version
    insert = Insert(
        version.model.best.id, GENERIC_TITLE, GENERIC_INTENT, priority=0.5, difficulty=2
    )
    model, node = version.model.insert(insert, round_number)
    return replace(
        version, model=model, edits=(*version.edits, AppliedEdit("insert", node.id, "engine"))
    )


def _record(problem: Problem, version: Version, round_number: int, reason: records.Reason) -> None:
    data = records.world_model(version.model, round_number, reason, version.edits, version.rejected)
    problem.record("world_model", data)
