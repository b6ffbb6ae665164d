"""What the paper's page says first: the answer in sentences, the facts, where kernels come from.

Covered: the words of the first screen, from the shipped figures and whatever was laid beside them.
Not covered: claims as rows (paper_claims.py), tables, the page's layout (paper.html.j2).
"""

from __future__ import annotations

from harness.remeasured import Remeasured
from reports.page import Card, joined
from reports.paper import Paper
from reports.paper_means import MEAN_OF_RATIOS, RATIO_OF_MEANS, lead_of_scores, lead_over
from reports.paper_runs import OurRuns
from reports.paper_tables import disputes
from reports.table import significant

QUESTION = (
    "What do K-Search's published figures say under which mean, and what do runs and kernels "
    "measured elsewhere say beside them?"
)


def answers(paper: Paper, runs: OurRuns | None, record: Remeasured | None) -> list[str]:
    """The first screen's sentences."""
    sentences = [_headline(paper), _baseline(paper), _again(paper), *disputes(paper)]
    if runs is not None:
        sentences.append(_runs(paper, runs))
    if record is not None:
        right = sum(k.means("ours", "outside") is not None for k in record.kernels)
        sentences.append(
            f"Measured here on {record.hardware}: {len(record.kernels)} published kernels; {right} "
            f"are right and timed on every workload under this project's gate."
        )
    return sentences


def _headline(paper: Paper) -> str:
    lead = lead_over(paper, paper.claimed.over)
    task, largest = lead.largest
    rest = lead.rest
    return (
        f"The paper's {significant(paper.claimed.average)}× over {lead.second} is the "
        f"{RATIO_OF_MEANS}: {paper.mean(lead.first)} / {paper.mean(lead.second)}. The same table "
        f"gives {significant(lead.mean_of_ratios)}× as the {MEAN_OF_RATIOS} and "
        f"{significant(lead.geometric)}× as their geometric mean. {task} carries much of it, with "
        f"{significant(largest)}×; without it the three are {significant(rest.ratio_of_means)}×, "
        f"{significant(rest.mean_of_ratios)}× and {significant(rest.geometric)}×."
    )


def _baseline(paper: Paper) -> str:
    values = [score.percent for task in paper.tasks for score in task.scores]
    above = sum(value > 100 for value in values)
    if above:
        return f"{above} of {len(values)} published means are above FlashInfer's speed."
    return (
        f"All {len(values)} published means are below 100 %: on average over workloads no method's "
        "kernels reach FlashInfer's speed."
    )


def _again(paper: Paper) -> str:
    again, other = paper.remeasured, paper.claimed.over
    arithmetic = lead_of_scores(paper, again.scores, other, "arithmetic")
    geometric = lead_of_scores(paper, again.scores, other, "geometric")
    if arithmetic is None or geometric is None:
        return f"No published kernel of {other} was measured again."
    published = lead_over(paper, other).only(arithmetic.tasks)
    return (
        f"Measured again, once, on an {again.hardware} and a part of the workloads, "
        f"{arithmetic.first}'s kernels are {significant(arithmetic.ratio_of_means)}× as fast as "
        f"{other}'s by the {RATIO_OF_MEANS}, and {significant(geometric.geometric)}× by geometric "
        f"means over workloads and tasks. The published figures of the same {len(published.tasks)} "
        f"tasks give {significant(published.ratio_of_means)}×."
    )


def _runs(paper: Paper, runs: OurRuns) -> str:
    tasks = runs.comparison.tasks
    known = [task for task in tasks if runs.paper_task(paper, task) is not None]
    found = f"{len(known)} of the {len(tasks)} tasks of the runs are the paper's"
    if runs.comparison.simulated:
        return (
            f"{found}. A simulated model wrote their candidates: the runs show that the chain "
            "works, and say nothing about LLMs or these methods."
        )
    return f"{found}; they were measured on {runs.hardware}."


def cards(paper: Paper, runs: OurRuns | None, record: Remeasured | None) -> list[Card]:
    """The facts of the first screen."""
    found = [
        Card("The paper's cards", paper.hardware, "clocks, drivers and versions: not published"),
        Card(
            "One published figure",
            "arithmetic mean over workloads",
            f"mean of {paper.runs} runs; per cent of FlashInfer",
        ),
    ]
    if runs is None:
        found.append(Card("Runs beside it", "none", "RUNS=DIR lays a comparison beside the paper"))
    else:
        seeds = len(runs.comparison.seeds)
        note = f"{joined(runs.comparison.arm_names)}; {seeds} {'seed' if seeds == 1 else 'seeds'}"
        found.append(Card("Runs beside it", runs.levels, note))
    if record is None:
        found.append(Card("Kernels measured here", "none", "KERNELS=DIR takes a folder of them"))
    else:
        note = f"{len(record.kernels)} kernels; baseline {record.baseline}"
        found.append(Card("Kernels measured here", record.hardware, note))
    return found


def provenance(paper: Paper) -> list[tuple[str, str]]:
    """Where published kernels come from: (what, where)."""
    kernels = paper.kernels
    rows = [("Repository", kernels.repository), ("Shipped", kernels.shipped)]
    rows += [(task.title, f"{task.kernels} in the repository") for task in paper.tasks]
    return [
        *rows,
        ("TriMul", f"{kernels.trimul} in the repository"),
        ("Workloads", kernels.workloads),
    ]
