"""The paper's ratios taken apart: what each mean makes of the same table.

Everything is computed from the shipped figures; no number stands in the words. A lead is the ratio
of two methods' scores on a task.

Covered: ratio of means, mean of ratios, their geometric mean, with and without the task that
carries most; once more with values that contradict the paper's own. Not covered: intervals (three
runs are published, and no spread of them); what is claimed (paper_claims.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.remeasured import Means
from harness.types import geometric_mean
from reports.paper import Paper

RATIO_OF_MEANS = "ratio of the arithmetic means over tasks"
MEAN_OF_RATIOS = "arithmetic mean of the per-task ratios"
GEOMETRIC = "geometric mean of the per-task ratios"
Mean = Literal["arithmetic", "geometric"]  # over workloads


@dataclass(frozen=True)
class Lead:
    """One method over another, task by task. values: where the second one's figures are from, if
    there is a choice. published: the ratio of the means as they are printed, None if the choice is
    not the one that was printed."""

    first: str
    second: str
    values: str
    published: float | None
    firsts: tuple[float, ...]
    seconds: tuple[float, ...]
    tasks: tuple[str, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(a / b for a, b in zip(self.firsts, self.seconds, strict=True))

    @property
    def ratio_of_means(self) -> float:
        return sum(self.firsts) / sum(self.seconds)

    @property
    def mean_of_ratios(self) -> float:
        return sum(self.ratios) / len(self.ratios)

    @property
    def geometric(self) -> float:
        return geometric_mean(self.ratios)

    @property
    def largest(self) -> tuple[str, float]:
        """The task that carries most of it, and its ratio."""
        return max(zip(self.tasks, self.ratios, strict=True), key=lambda item: item[1])

    def only(self, tasks: Sequence[str]) -> Lead:
        """The same on some of the tasks."""
        kept = [i for i, task in enumerate(self.tasks) if task in tasks]
        return replace(
            self,
            published=None,
            firsts=tuple(self.firsts[i] for i in kept),
            seconds=tuple(self.seconds[i] for i in kept),
            tasks=tuple(self.tasks[i] for i in kept),
        )

    @property
    def rest(self) -> Lead:
        """Without the task of the largest ratio."""
        return self.only([task for task in self.tasks if task != self.largest[0]])


def leads(paper: Paper) -> list[Lead]:
    """K-Search over each other method; once more with values that contradict the paper's own."""
    first, *others = paper.names
    found = []
    for other in others:
        choices = max(len(task.score(other).values) for task in paper.tasks)
        for choice in range(choices):
            picked = [task.score(other).values for task in paper.tasks]
            seconds = [values[min(choice, len(values) - 1)] for values in picked]
            disputed = [
                f"{v.percent} ({v.where})"
                for v, values in zip(seconds, picked, strict=True)
                if len(values) > 1
            ]
            found.append(
                Lead(
                    first,
                    other,
                    ", ".join(disputed),
                    paper.mean(first) / paper.mean(other) if choice == 0 else None,
                    tuple(task.score(first).percent for task in paper.tasks),
                    tuple(value.percent for value in seconds),
                    tuple(task.title for task in paper.tasks),
                )
            )
    return found


def lead_of_scores(
    paper: Paper, scores: Mapping[tuple[str, str], Means], other: str, mean: Mean
) -> Lead | None:
    """K-Search over `other` by one mean of other scores of the same tasks, where both have one."""
    first = paper.names[0]
    tasks = [t.title for t in paper.tasks if {(t.title, first), (t.title, other)} <= {*scores}]
    if not tasks:
        return None
    firsts = tuple(getattr(scores[task, first], mean) for task in tasks)
    seconds = tuple(getattr(scores[task, other], mean) for task in tasks)
    return Lead(first, other, "", None, firsts, seconds, tuple(tasks))


def lead_over(paper: Paper, method: str) -> Lead:
    """K-Search over one method, with the paper's own values."""
    return next(lead for lead in leads(paper) if lead.second == method)
