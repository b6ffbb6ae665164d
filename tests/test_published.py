"""The shipped figures of the paper: their checks, what follows from them, which claims hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from harness.errors import LogError
from harness.remeasured import Means
from reports import paper_curves
from reports.leaderboard import read_published
from reports.paper import Paper, read_paper
from reports.paper_claims import Claim, claims, claims_of_scores
from reports.paper_curves import PaperCurves, curve_end, read_curves
from reports.paper_means import lead_over, leads
from reports.paper_tables import disputes, means_table, paper_table, remeasured_table, scores_table

FOLDER = Path(__file__).parents[1] / "reports" / "published"
PAPER = read_paper()
CURVES = read_curves(PAPER)


def raw(name: str) -> dict[str, Any]:
    data = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def values(method: str) -> np.ndarray:
    """Straight from the file: the paper's own value on each task."""
    rows = [task["scores"] for task in raw("ksearch.json")["tasks"]]
    return np.array([s["values"][0]["percent"] for r in rows for s in r if s["method"] == method])


# The files.


def test_every_published_figure_has_a_source() -> None:
    text = " ".join(source.of for source in PAPER.sources)
    for what in ("scores", "means", "second value", "lowest and highest", "curves", "re-measure"):
        assert what in text
    assert all(len(source.what) > 20 for source in PAPER.sources)
    assert all(value.where for task in PAPER.tasks for s in task.scores for value in s.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["tasks"][0]["scores"].pop(), "does not have the methods"),
        (lambda d: d["tasks"][0]["scores"][0].update(lowest=80), "outside its own range"),
        (lambda d: d["tasks"][1]["scores"][0].update(lowest=None), "belong together"),
        (lambda d: d["means"][0].update(percent=57.0), "of its values 56.150"),
        (lambda d: d["tasks"][0]["scores"][0].update(values=[]), "needs values above 0"),
        (lambda d: d["remeasured"]["tasks"][0]["scores"][0].update(geometric=0.6), "no arithmetic"),
        (lambda d: d["remeasured"]["tasks"][0].update(workloads=49), "more workloads"),
        (lambda d: d["remeasured"]["tasks"][0].update(title="GEMM"), "not in the table"),
        (lambda d: d.update(remark="?"), "Unexpected keyword"),
        (lambda d: d["tasks"][0].update(workloads="48"), "valid integer"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = raw("ksearch.json")
    change(data)
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Paper).validate_json(json.dumps(data))


def _edited(panel: int, curve: int, percent: list[float | None]) -> str:
    data = raw("ksearch_curves.json")
    data["panels"][panel]["curves"][curve]["percent"] = percent
    return json.dumps(data)


def test_a_curve_that_falls_is_refused() -> None:
    falling = [None, *np.linspace(80, 76, 119)]
    falling[50] = 70.0
    with pytest.raises(ValidationError, match="no best-so-far curve"):
        TypeAdapter(PaperCurves).validate_json(_edited(0, 0, falling))


@pytest.mark.parametrize(
    ("percent", "message"),
    [([1.0] * 120, "ends at no published value"), ([76.0] * 12, "another number")],
)
def test_a_curve_that_does_not_fit_the_table_is_refused(
    monkeypatch: pytest.MonkeyPatch, percent: list[float | None], message: str
) -> None:
    curves = TypeAdapter(PaperCurves).validate_json(_edited(0, 0, percent))
    monkeypatch.setattr(paper_curves, "read_shipped", lambda name, kind: curves)
    with pytest.raises(LogError, match=message):
        read_curves(PAPER)


def test_the_curves_end_at_the_published_values_the_disputed_one_at_the_readmes() -> None:
    ends = {
        (panel.task, curve.method): curve_end(CURVES, PAPER, panel.task, curve.method)
        for panel in CURVES.panels
        for curve in panel.curves
    }
    assert len(ends) == 12
    assert all(end is not None for end in ends.values())
    disputed = ends["GQA paged decode", "ShinkaEvolve"]
    assert disputed is not None
    assert (disputed.percent, disputed.where) == (35.3, "the README's figure")


def test_trimul_is_shipped_once() -> None:
    assert [p.table.name for p in read_published("trimul")] == ["published_h100", "remeasured_h200"]
    assert "1.067" not in (FOLDER / "ksearch.json").read_text(encoding="utf-8")


# What follows.


def test_the_headline_is_a_ratio_of_arithmetic_means_and_other_means_give_other_sizes() -> None:
    lead = lead_over(PAPER, "OpenEvolve")
    ours, theirs = values("K-Search"), values("OpenEvolve")
    assert lead.published == pytest.approx(56.13 / 26.68)
    assert lead.ratio_of_means == pytest.approx(ours.mean() / theirs.mean())
    assert lead.mean_of_ratios == pytest.approx((ours / theirs).mean())
    assert lead.geometric == pytest.approx(np.exp(np.log(ours / theirs).mean()))
    found = (lead.published, lead.mean_of_ratios, lead.geometric)
    assert [f"{value:.2f}" for value in found] == ["2.10", "5.03", "3.04"]


def test_the_largest_ratio_is_named_and_the_rest_is_without_it() -> None:
    lead = lead_over(PAPER, "OpenEvolve")
    assert lead.largest == ("MoE fp8", pytest.approx(44.1 / 3.09))
    assert lead.rest.tasks == ("GQA paged decode", "MLA paged decode", "MLA paged prefill")
    assert lead.rest.ratio_of_means == pytest.approx((76.0 + 47.1 + 57.4) / (44.2 + 39.9 + 19.5))


def test_both_of_two_contradicting_values_are_taken_through_the_means() -> None:
    found = [lead for lead in leads(PAPER) if lead.second == "ShinkaEvolve"]
    assert [lead.values.split()[0] for lead in found] == ["27.7", "35.3"]
    assert found[0].ratios[0] == pytest.approx(76.0 / 27.7)
    assert found[1].ratios[0] == pytest.approx(76.0 / 35.3)
    assert found[1].published is None  # the printed mean belongs to the other value


def test_the_contradiction_is_said_with_the_value_that_the_printed_mean_follows_from() -> None:
    (sentence,) = disputes(PAPER)
    assert "27.7 (the paper's text) and 35.3 (the README's figure)" in sentence
    assert "follows from 27.7, which gives 25.4, not from 35.3, which gives 27.3" in sentence


def test_the_tables_show_both_values_and_the_digits_that_were_published() -> None:
    rows = {row[0]: row for row in paper_table(PAPER).shown()}
    assert rows["GQA paged decode"][7] == "27.7 or 35.3"
    assert rows["MoE fp8"][3:6] == ["44.1", "27–56", "3.09"]
    assert rows["mean, as published"][3::2] == ["56.13", "26.68", "25.37"]
    assert rows["mean, of the rows above"][7] == "25.40 or 27.30"
    assert len(scores_table(PAPER, CURVES).rows) == 13
    assert means_table(PAPER).shown()[0][4:7] == ["2.11×", "5.03×", "3.04×"]
    again = {(row[0], row[1]): row for row in remeasured_table(PAPER).shown()}
    assert again["MLA paged prefill", "K-Search"][2:6] == ["8 of 38", "57.4", "33.1", "9.5"]
    assert "NaN" in again["MLA paged prefill", "ShinkaEvolve"][7]


# Claims.


def find(found: list[Claim], claim: str, figures: str, mean: str) -> Claim:
    (row,) = [c for c in found if (c.claim, c.mean) == (claim, mean) and figures in c.figures]
    return row


def test_the_headlines_verdict_depends_on_the_mean() -> None:
    verdicts = {c.mean: c.verdict for c in claims(PAPER) if c.claim.startswith("2.10×")}
    assert verdicts == {
        "ratio of the arithmetic means over tasks": "holds",
        "arithmetic mean of the per-task ratios": "another size: 5.03×",
        "geometric mean of the per-task ratios": "another size: 3.04×",
    }
    (largest,) = [c for c in claims(PAPER) if c.claim == "up to 14.3×"]
    assert largest.verdict == "holds"
    assert "2.94 on MLA paged prefill" in largest.why


def test_a_headline_that_the_table_does_not_give_does_not_hold() -> None:
    boasting = replace(PAPER, claimed=replace(PAPER.claimed, average=3.0, largest=20.0))
    found = [
        c
        for c in claims(boasting)
        if c.claim in ("3.00× over OpenEvolve on average", "up to 20.0×")
    ]
    assert [c.verdict for c in found] == [
        "another size: 2.10×", "another size: 5.03×", "another size: 3.04×", "another size: 14.3×",
    ]  # fmt: skip


def test_what_was_not_published_cannot_be_told() -> None:
    ahead = "K-Search is ahead of OpenEvolve"
    assert find(claims(PAPER), ahead, "published", "arithmetic over workloads").verdict == (
        "holds on 4 of 4"
    )
    assert find(claims(PAPER), ahead, "published", "geometric over workloads").verdict == (
        "cannot be told"
    )


def test_ranges_that_overlap_or_cannot_be_read_are_named() -> None:
    found = {c.claim: c for c in claims(PAPER) if c.claim.startswith("every run")}
    openevolve, shinka = found.values()
    assert (openevolve.verdict, openevolve.why) == ("holds on 3 of 3", "not readable on MoE fp8")
    assert (shinka.verdict, shinka.why) == ("holds on 3 of 4", "the ranges overlap on MoE fp8")


def test_the_re_measurement_is_judged_under_both_means() -> None:
    ahead = "K-Search is ahead of OpenEvolve"
    arithmetic = find(claims(PAPER), ahead, "H200", "arithmetic over workloads")
    geometric = find(claims(PAPER), ahead, "H200", "geometric over workloads")
    assert "MLA paged prefill 2.65×" in arithmetic.why
    assert "MLA paged prefill 1.03×" in geometric.why
    faster = find(claims(PAPER), "A kernel is faster than the baseline", "H200",
                  "geometric over workloads")  # fmt: skip
    assert faster.verdict == "does not hold: 0 of 9"
    shinka = find(claims(PAPER), "K-Search is ahead of ShinkaEvolve", "H200",
                  "arithmetic over workloads")  # fmt: skip
    assert "it has no score" in shinka.why


def test_a_claim_may_hold_under_one_mean_and_not_under_the_other() -> None:
    task = "GQA paged decode"
    scores = {(task, "K-Search"): Means(2.0, 0.5), (task, "OpenEvolve"): Means(1.0, 0.8)}
    found = claims_of_scores(PAPER, scores, "here", {})
    ahead = [c.verdict for c in found if c.claim == "K-Search is ahead of OpenEvolve"]
    faster = [c.verdict for c in found if c.claim == "A kernel is faster than the baseline"]
    assert ahead == ["holds on 1 of 1", "does not hold: 0 of 1"]
    assert faster == ["holds on 1 of 2", "does not hold: 0 of 2"]
    assert not [c for c in found if "ShinkaEvolve" in c.claim]


def test_scores_of_no_shared_task_make_no_claim() -> None:
    assert claims_of_scores(PAPER, {}, "here", {}) == []
