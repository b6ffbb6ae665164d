"""The paper's best-so-far curves, as digitised in published/ksearch_curves.json.

Covered: their reading and their checks: the table's tasks and methods, one reading per evaluation,
no fall, an end at a published value, each within the reading error. Not covered: how they are drawn
(paper_figure.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from reports.paper import STRICT, Paper, Value, damaged, read_shipped

_FILE = "ksearch_curves.json"


@dataclass(frozen=True)
class Curve:
    """percent: after each evaluation from the first on; None where it cannot be read."""

    __pydantic_config__ = STRICT
    method: str
    percent: tuple[float | None, ...]


@dataclass(frozen=True)
class Panel:
    __pydantic_config__ = STRICT
    task: str
    published_title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class PaperCurves:
    """mark: the words that every picture of them carries. uncertainty_percent: of one reading."""

    __pydantic_config__ = STRICT
    format: Literal[1]
    mark: str
    uncertainty_percent: float
    what: str
    panels: tuple[Panel, ...]

    def __post_init__(self) -> None:
        for panel in self.panels:
            for curve in panel.curves:
                read = [p for p in curve.percent if p is not None]
                falls = max((a - b for a, b in pairwise(read)), default=0.0)
                if not read or falls > 2 * self.uncertainty_percent:
                    raise ValueError(f"{panel.task}, {curve.method}: no best-so-far curve")

    def last(self, task: str, method: str) -> float:
        """The last reading of a curve."""
        panel = next(panel for panel in self.panels if panel.task == task)
        curve = next(curve for curve in panel.curves if curve.method == method)
        return next(percent for percent in reversed(curve.percent) if percent is not None)


def read_curves(paper: Paper) -> PaperCurves:
    """The curves, held against the table. Raises LogError where they are not whole."""
    curves = read_shipped(_FILE, PaperCurves)
    try:
        _check(curves, paper)
    except ValueError as error:
        raise damaged(_FILE, error) from error
    return curves


def _check(curves: PaperCurves, paper: Paper) -> None:
    if [panel.task for panel in curves.panels] != [task.title for task in paper.tasks]:
        raise ValueError("the curves' tasks are not the table's")
    for panel in curves.panels:
        if tuple(curve.method for curve in panel.curves) != paper.names:
            raise ValueError(f"{panel.task}: the curves' methods are not the table's")
        for curve in panel.curves:
            if len(curve.percent) != paper.charges:
                raise ValueError(f"{panel.task}, {curve.method}: another number of evaluations")
            if curve_end(curves, paper, panel.task, curve.method) is None:
                raise ValueError(f"{panel.task}, {curve.method}: ends at no published value")


def curve_end(curves: PaperCurves, paper: Paper, task: str, method: str) -> Value | None:
    """The published value at which a curve ends, within the reading error; None if at none."""
    last = curves.last(task, method)
    values = paper.task(task).score(method).values
    nearest = min(values, key=lambda value: abs(value.percent - last))
    close = abs(nearest.percent - last) <= curves.uncertainty_percent
    return nearest if close else None
