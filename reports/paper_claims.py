"""Which of the paper's claims hold, on which figures and under which mean, in words.

Covered: the headline, who is ahead of whom, whether single runs overlap, whether anything is faster
than the baseline; the same for any other scores of the same tasks (an earlier re-measurement,
kernels measured here, runs). Not covered: the ratios themselves (paper_means.py); a claim that the
paper does not make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.remeasured import Means
from reports.paper import Paper, PaperTask
from reports.paper_means import (
    GEOMETRIC,
    MEAN_OF_RATIOS,
    RATIO_OF_MEANS,
    Lead,
    Mean,
    lead_of_scores,
    lead_over,
)
from reports.table import significant

WORKLOADS_ARITHMETIC = "arithmetic over workloads"
WORKLOADS_GEOMETRIC = "geometric over workloads"
MEANS: tuple[tuple[str, Mean], ...] = (
    (WORKLOADS_ARITHMETIC, "arithmetic"),
    (WORKLOADS_GEOMETRIC, "geometric"),
)


@dataclass(frozen=True)
class Claim:
    """A claim, on which figures and under which mean, whether it holds there, and why."""

    claim: str
    figures: str
    mean: str
    verdict: str
    why: str


def claims(paper: Paper) -> list[Claim]:
    """The paper's claims, held against its own table and the earlier re-measurement."""
    rows = [*_headline(paper), *_ahead(paper), *_separate(paper), _baseline(paper)]
    again = paper.remeasured
    notes = {(task.title, s.method): s.note for task in again.tasks for s in task.scores if s.note}
    figures = f"re-measured on an {again.hardware}, once"
    return rows + claims_of_scores(paper, again.scores, figures, notes)


def claims_of_scores(
    paper: Paper,
    scores: Mapping[tuple[str, str], Means],
    figures: str,
    notes: Mapping[tuple[str, str], str],
) -> list[Claim]:
    """The same claims on other scores, by (task's title, method), under both means. notes: what a
    reader must know of a score."""
    first, *others = paper.names
    rows = []
    for mean, name in MEANS:
        for other in others:
            lead = lead_of_scores(paper, scores, other, name)
            if lead is None:
                continue
            tasks = lead.tasks
            published = lead_over(paper, other).only(tasks)
            said = [
                f". {method} on {task}: {notes[task, method]}"
                for task in tasks
                for method in (first, other)
                if (task, method) in notes
            ]
            rows.append(
                Claim(
                    f"{first} is ahead of {other}",
                    figures,
                    mean,
                    _of(sum(ratio > 1 for ratio in lead.ratios), len(tasks)),
                    f"{_ratios(lead)}. Over these tasks together {_times(lead.ratio_of_means)} "
                    f"({RATIO_OF_MEANS}), {_times(lead.geometric)} ({GEOMETRIC}); of the published "
                    f"arithmetic means {_times(published.ratio_of_means)} and "
                    f"{_times(published.geometric)}{''.join(said)}",
                )
            )
        values = {key: getattr(means, name) for key, means in scores.items()}
        if values:
            best = max(values, key=lambda key: values[key])
            rows.append(
                Claim(
                    "A kernel is faster than the baseline",
                    figures,
                    mean,
                    _of(sum(value > 1 for value in values.values()), len(values)),
                    f"the highest is {significant(values[best])}, of {best[1]} on {best[0]}",
                )
            )
    return rows


def _headline(paper: Paper) -> list[Claim]:
    claimed = paper.claimed
    lead = lead_over(paper, claimed.over)
    means = paper.mean(lead.first), paper.mean(lead.second)
    average = f"{significant(claimed.average)}× over {claimed.over} on average"
    rest, (task, largest) = lead.rest, lead.largest
    published = lead.published or lead.ratio_of_means
    rows = [
        Claim(
            average,
            "published",
            RATIO_OF_MEANS,
            _same(published, claimed.average),
            f"{means[0]} / {means[1]} = {significant(published)}; without {task} "
            f"{significant(rest.ratio_of_means)}",
        )
    ]
    for mean, value, other in (
        (MEAN_OF_RATIOS, lead.mean_of_ratios, rest.mean_of_ratios),
        (GEOMETRIC, lead.geometric, rest.geometric),
    ):
        rows.append(
            Claim(
                average,
                "published",
                mean,
                _same(value, claimed.average),
                f"of {_ratios(lead)}: {significant(value)}; without {task} {significant(other)}",
            )
        )
    next_task, next_ratio = rest.largest
    rows.append(
        Claim(
            f"up to {significant(claimed.largest)}×",
            "published",
            "ratio on one task, " + WORKLOADS_ARITHMETIC,
            _same(largest, claimed.largest),
            f"{significant(largest)} on {task}; the next is {significant(next_ratio)} on "
            f"{next_task}",
        )
    )
    return rows


def _ahead(paper: Paper) -> list[Claim]:
    first, *others = paper.names
    rows = []
    for other in others:
        lead = lead_over(paper, other)
        ahead = sum(ratio > 1 for ratio in lead.ratios)
        claim, figures = f"{first} is ahead of {other}", "published"
        rows += [
            Claim(
                claim, figures, WORKLOADS_ARITHMETIC, _of(ahead, len(lead.tasks)), _ratios(lead)
            ),
            Claim(
                claim, figures, WORKLOADS_GEOMETRIC, "cannot be told",
                "no geometric mean over workloads and no per-workload figure is published",
            ),
        ]  # fmt: skip
    return rows


def _separate(paper: Paper) -> list[Claim]:
    first, *others = paper.names
    rows = []
    for other in others:
        known = [task for task in paper.tasks if _apart(task, first, other) is not None]
        overlapping = [task.title for task in known if not _apart(task, first, other)]
        unread = [task.title for task in paper.tasks if task not in known]
        why = [f"the ranges overlap on {', '.join(overlapping)}"] if overlapping else []
        why += [f"not readable on {', '.join(unread)}"] if unread else []
        rows.append(
            Claim(
                f"every run of {first} is ahead of every run of {other}",
                f"ranges of {paper.runs} runs, read off the figure",
                WORKLOADS_ARITHMETIC,
                _of(len(known) - len(overlapping), len(known)),
                "; ".join(why) or "no ranges overlap",
            )
        )
    return rows


def _apart(task: PaperTask, first: str, second: str) -> bool | None:
    lowest, highest = task.score(first).lowest, task.score(second).highest
    return None if lowest is None or highest is None else lowest > highest


def _baseline(paper: Paper) -> Claim:
    values = {(t.title, s.method): s.percent for t in paper.tasks for s in t.scores}
    best = max(values, key=lambda key: values[key])
    return Claim(
        "A kernel is faster than FlashInfer",
        "published",
        WORKLOADS_ARITHMETIC,
        _of(sum(value > 100 for value in values.values()), len(values)),
        f"the highest is {values[best]} %, of {best[1]} on {best[0]}",
    )


def _same(value: float, claimed: float) -> str:
    """Whether `value` is the claimed figure with its digits, and what it is otherwise."""
    shown = significant(value)
    return "holds" if shown == significant(claimed) else f"another size: {shown}×"


def _of(count: int, total: int) -> str:
    return f"holds on {count} of {total}" if count else f"does not hold: 0 of {total}"


def _ratios(lead: Lead) -> str:
    found = zip(lead.tasks, lead.ratios, strict=True)
    return ", ".join(f"{task} {_times(ratio)}" for task, ratio in found)


def _times(ratio: float) -> str:
    return f"{significant(ratio)}×"
