"""The questions before a comparison that costs money: how much, and whether to start.

Covered: showing the estimates (`llm/estimate.py` and `evaluate/modal/estimate.py` make them) and
asking above a limit. Not covered: holding a budget during a run (`budget.py`,
`evaluate/modal/calls.py`).
"""

from __future__ import annotations

import sys

from rich.console import Console

from harness.config import Resolved
from harness.errors import UsageError
from harness.evaluate.modal.estimate import estimate_containers
from harness.llm.estimate import PlannedRuns, confirmation_text, estimate, needs_confirmation
from harness.suite import load_suite

ASK_ABOVE_DOLLARS = 5.0  # a comparison estimated above this is confirmed first
ASSUMED_DEVICE_SECONDS = 2.0  # per evaluation, for the estimate alone


def ask_about_costs(resolved: Resolved, yes: bool, console: Console) -> None:
    """Show what a new live comparison will cost, and ask above the limit; `yes` answers.

    Silent for simulated models and replay, which cost nothing. Raises UsageError if nobody is there
    to answer, or the answer is no.
    """
    live = any(settings.kind != "simulated" for settings in resolved.models_used.values())
    if not live or resolved.llm_level.kind == "replay":
        return
    runs = len(resolved.tasks) * len(resolved.seeds)
    plans = [
        PlannedRuns(arm.method.name, arm.schedule, runs, resolved.budget.charges)
        for arm in resolved.arms
    ]
    cost = estimate(plans, resolved.models, device_seconds_per_evaluation=ASSUMED_DEVICE_SECONDS)
    text = confirmation_text(cost, ASK_ABOVE_DOLLARS)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not yes and needs_confirmation(cost, ASK_ABOVE_DOLLARS):
        _ask(console)


def ask_about_containers(resolved: Resolved, yes: bool, console: Console) -> None:
    """Show what the containers of a new comparison on Modal will cost, and ask above the limit or
    where a price is unknown; `yes` answers. Silent elsewhere. Raises UsageError like the other."""
    if resolved.modal is None:
        return
    runs = len(resolved.arms) * len(resolved.seeds)
    cost = estimate_containers(
        resolved.modal,
        on_gpu=load_suite(resolved.suite).device != "cpu",
        language=resolved.language,
        tasks=len(resolved.tasks),
        evaluations=len(resolved.tasks) * (1 + runs * resolved.budget.charges),
    )
    console.print(cost.text, markup=False, highlight=False, soft_wrap=True)
    if not yes and (cost.dollars is None or cost.dollars > ASK_ABOVE_DOLLARS):
        _ask(console)


def _ask(console: Console) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "The comparison was not started: its cost must be confirmed, and there is no terminal "
            "to ask on. Say --yes (YES=1) to start it."
        )
    if console.input("Start? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("The comparison was not started, as you said. Nothing was spent.")
