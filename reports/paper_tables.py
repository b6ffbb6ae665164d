"""The tables of the paper's page that come from the shipped figures alone.

Covered: the table as published (to read, and in long form with where each value stands), the means
taken apart, the claims, the earlier re-measurement, the curves as numbers. Not covered: TriMul
(leaderboard.py), runs (paper_runs.py), kernels measured here (paper_kernels.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.paper import ROUNDING_PERCENT, Paper, Score
from reports.paper_claims import Claim
from reports.paper_curves import PaperCurves, curve_end
from reports.paper_means import GEOMETRIC, MEAN_OF_RATIOS, RATIO_OF_MEANS, leads
from reports.table import Cell, Column, Table


def published_levels(paper: Paper) -> str:
    """What every table and figure of published numbers is marked with."""
    return f"published, not measured by this run; {paper.hardware}"


def paper_table(paper: Paper) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in paper.tasks:
        cells: list[Cell] = [task.title, task.hardware, task.workloads]
        for score in task.scores:
            cells += [" or ".join(str(value.percent) for value in score.values), _range(score)]
        rows.append(tuple(cells))
    published: list[Cell] = ["mean, as published", "", None]
    computed: list[Cell] = ["mean, of the rows above", "", None]
    for name in paper.names:
        published += [str(paper.mean(name)), None]
        choices = max(len(task.score(name).values) for task in paper.tasks)
        means = [f"{_mean(paper, name, place):.2f}" for place in range(choices)]
        computed += [" or ".join(means), None]
    rows += [tuple(published), tuple(computed)]
    columns = [Column("task", "Task"), Column("hardware", "Card")]
    columns.append(Column("workloads", "Workloads", "integer"))
    for method in paper.methods:
        columns.append(Column(f"{method.method}_percent", f"{method.name}, %", "number"))
        columns.append(Column(f"{method.method}_range", "runs", "number"))
    return Table(
        "paper_table",
        "The paper's table",
        f"{_sentence(paper.statistic)}. Every value is an arithmetic mean over workloads; 100 is "
        f"FlashInfer's speed. Runs: lowest to highest of {paper.runs}, read off the figure, so "
        f"approximate. {' '.join(disputes(paper))} Budget {paper.charges} evaluations; "
        f"{paper.model}.",
        tuple(columns),
        tuple(rows),
        published_levels(paper),
    )


def _mean(paper: Paper, method: str, place: int) -> float:
    """Over the tasks; with the place-th value where there are several."""
    values = [task.score(method).values for task in paper.tasks]
    return sum(v[min(place, len(v) - 1)].percent for v in values) / len(values)


def disputes(paper: Paper) -> list[str]:
    """Where the paper gives two values, a sentence with both and what its own mean follows from."""
    sentences = []
    for task in paper.tasks:
        for score in task.scores:
            if len(score.values) > 1:
                found = " and ".join(f"{v.percent} ({v.where})" for v in score.values)
                printed = paper.mean(score.method)
                means = [_mean(paper, score.method, place) for place in range(len(score.values))]
                follows = ", ".join(
                    f"{'from' if abs(mean - printed) <= ROUNDING_PERCENT else 'not from'} "
                    f"{value.percent}, which gives {mean:.1f}"
                    for value, mean in zip(score.values, means, strict=True)
                )
                sentences.append(
                    f"Different values are published for {score.method} on {task.title}: {found}. "
                    f"Its printed mean over the tasks, {printed}, follows {follows}."
                )
    return sentences


def _range(score: Score) -> str | None:
    return None if score.lowest is None else f"{score.lowest:g}–{score.highest:g}"


def _whole(percent: float | None) -> str | None:
    return None if percent is None else f"{percent:g}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def scores_table(paper: Paper, curves: PaperCurves) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in paper.tasks:
        for score in task.scores:
            end = curve_end(curves, paper, task.title, score.method)
            for value in score.values:
                ends = str(curves.last(task.title, score.method)) if value == end else None
                rows.append(
                    (
                        task.title, task.hardware, score.method, str(value.percent),
                        _whole(score.lowest), _whole(score.highest), ends, value.where,
                        task.names[0],
                    )
                )  # fmt: skip
    return Table(
        "paper_scores",
        "Every published value, with where it stands",
        "One row for each value; where the paper gives two, both. Curve: where the published "
        f"best-so-far curve ends, {curves.mark}, beside the value that it agrees with.",
        (
            Column("task", "Task"),
            Column("hardware", "Card"),
            Column("method", "Method"),
            Column("arithmetic_percent", "Arithmetic mean, %", "number"),
            Column("lowest", "Lowest run", "number"),
            Column("highest", "Highest run", "number"),
            Column("curve_end_percent", "Curve, %", "number"),
            Column("where", "Where"),
            Column("definition", "FlashInfer-Bench definition"),
        ),
        tuple(rows),
        published_levels(paper),
    )


def means_table(paper: Paper) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for lead in leads(paper):
        task, largest = lead.largest
        for tasks, part in (("all", lead), (f"without {task}", lead.rest)):
            rows.append(
                (
                    f"{lead.first} / {lead.second}", lead.values, tasks, part.published,
                    part.ratio_of_means, part.mean_of_ratios, part.geometric,
                    largest if part is lead else None, task if part is lead else "",
                )
            )  # fmt: skip
    return Table(
        "paper_means",
        "One table, three means",
        "How much faster on average depends on the mean. Published: the ratio of the two means as "
        f"they are printed. Then, of the table's rows: the {RATIO_OF_MEANS}, the {MEAN_OF_RATIOS}, "
        f"the {GEOMETRIC}. All start from arithmetic means over workloads; what geometric means "
        "over workloads would give is not published.",
        (
            Column("pair", "Pair"),
            Column("values", "With"),
            Column("tasks", "Tasks"),
            Column("published_ratio", "Published", "ratio"),
            Column("ratio_of_means", "Ratio of means", "ratio"),
            Column("mean_of_ratios", "Mean of ratios", "ratio"),
            Column("geometric_mean", "Geometric mean", "ratio"),
            Column("largest", "Largest", "ratio"),
            Column("largest_task", "on"),
        ),
        tuple(rows),
        published_levels(paper),
    )


def claims_table(name: str, claims: Sequence[Claim], levels: str) -> Table:
    return Table(
        name,
        "Which of the paper's claims hold under which mean",
        "A row is a claim on certain figures under one mean. “Holds on 3 of 4” counts tasks, or "
        "pairs of task and method. An order of two means without an interval is no proof that one "
        "method is better; a comparison's own report judges that.",
        (
            Column("claim", "Claim"),
            Column("figures", "Figures"),
            Column("mean", "Mean"),
            Column("verdict", "Verdict"),
            Column("notes", "Why"),
        ),
        tuple((c.claim, c.figures, c.mean, c.verdict, c.why) for c in claims),
        levels,
    )


def remeasured_table(paper: Paper) -> Table:
    again = paper.remeasured
    rows: list[tuple[Cell, ...]] = []
    for task in again.tasks:
        row = paper.task(task.title)
        for score in task.scores:
            published = " or ".join(str(v.percent) for v in row.score(score.method).values)
            rows.append(
                (
                    task.title, score.method, f"{task.workloads} of {row.workloads}", published,
                    f"{100 * score.arithmetic:.1f}", f"{100 * score.geometric:.1f}",
                    score.geometric / score.arithmetic, score.note,
                )
            )  # fmt: skip
    left = [task.title for task in paper.tasks if task.title not in {t.title for t in again.tasks}]
    cards = "; ".join(dict.fromkeys(paper.task(task.title).hardware for task in again.tasks))
    return Table(
        "paper_remeasured_h200",
        f"The published kernels, measured again: {again.hardware}",
        f"Per cent of FlashInfer. {_sentence(again.conditions)}. {again.note} An H200 has the "
        "H100's arithmetic and faster memory, and this is a part of the workloads, so no figure "
        f"here corrects a published one. Not measured: {', '.join(left)}.",
        (
            Column("task", "Task"),
            Column("method", "Method"),
            Column("workloads", "Workloads"),
            Column("published_percent", f"Published, arithmetic, % ({cards})", "number"),
            Column("arithmetic_percent", "Arithmetic, % (H200)", "number"),
            Column("geometric_percent", "Geometric, % (H200)", "number"),
            Column("geometric_over_arithmetic", "Geometric / arithmetic", "number"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        f"measured by {again.measured_by}; {again.hardware}, {again.software}",
    )


def curves_table(curves: PaperCurves) -> Table:
    """The readings, a row per evaluation."""
    every = [(panel.task, curve) for panel in curves.panels for curve in panel.curves]
    columns = [Column("evaluation", "Evaluation", "integer")]
    columns += [Column(f"{task}, {c.method}", f"{task}, {c.method}", "number") for task, c in every]
    readings = zip(*(curve.percent for _, curve in every), strict=True)
    rows: list[tuple[Cell, ...]] = [
        (number, *(None if percent is None else str(percent) for percent in row))
        for number, row in enumerate(readings, 1)
    ]
    return Table(
        "paper_curves",
        "The published best-so-far curves, as read",
        f"{_sentence(curves.what)}. A reading is within ±{curves.uncertainty_percent:g}"
        " of the figure's line.",
        tuple(columns),
        tuple(rows),
        curves.mark,
    )
