"""What the report says where methods differ: cost per charge, where curves end, seeds that label
replicates, runs that started over, a method that raised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reports.build import ReportPaths, build_report
from reports.figure import PALETTE
from reports.manifest import read_comparison
from tests.fake_comparison import Plan, write_comparison
from tests.test_reports import rows_of, text_of

ARMS = ("best_of_n", "ksearch[k=3,cycle_limit=2]", "openevolve", "shinkaevolve")
WHY = "evaluations run concurrently, and their order is not pinned"
PLAN = Plan(
    arms=ARMS,
    charges=16,
    replicates={"openevolve": WHY},
    put_aside=frozenset({("matmul", "openevolve", 1), ("matmul", "shinkaevolve", 1)})
    | frozenset({("softmax", "shinkaevolve", 2)}),
    ends={("softmax", "shinkaevolve", 1): "raised"},
)


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> ReportPaths:
    """Four arms that spend differently."""
    return build_report(write_comparison(tmp_path_factory.mktemp("four") / "c", PLAN))


@pytest.fixture(scope="module")
def costs(four) -> dict[str, dict[str, str]]:
    return {row["arm"]: row for row in rows_of(four, "cost")}


def test_calls_and_tokens_per_charge_stand_in_the_table_of_cost(costs):
    for row in costs.values():
        charges = int(row["charges"])
        for name in ("llm_calls", "prompt_tokens", "completion_tokens"):
            per_charge = float(row[f"{name}_per_charge"])
            assert per_charge == pytest.approx(int(row[name]) / charges, rel=1e-5)
    assert float(costs["best_of_n"]["llm_calls_per_charge"]) == 1
    assert float(costs["shinkaevolve"]["llm_calls_per_charge"]) == 3


def test_an_arm_without_a_charge_has_no_cost_per_charge(tmp_path):
    folder = write_comparison(tmp_path / "c", Plan(tasks=("matmul",), seeds=(0,), charges=0))
    assert rows_of(build_report(folder), "cost")[0]["prompt_tokens_per_charge"] == ""


def test_attempts_that_were_started_over_are_counted_apart(costs):
    assert re.fullmatch(
        r"1 attempt started over, not in the sums: \d+ LLM calls, [\d.]+ dollars",
        costs["openevolve"]["notes"],
    )
    assert costs["shinkaevolve"]["notes"].startswith("2 attempts started over, not in the sums")
    assert costs["best_of_n"]["notes"] == ""


def curve_end(paths: ReportPaths, panel: str, arm: str) -> float:
    """Where the thick curve of an arm ends, in points from the left edge."""
    svg = (paths.folder / f"best_so_far_{panel}.svg").read_text()
    colour = PALETTE[ARMS.index(arm)]
    lines = re.findall(rf'<path d="([^"]+)"[^>]*stroke: {colour}; stroke-width: 2[;"]', svg)
    return max(float(x) for line in lines for x in re.findall(r"[ML] ([\d.]+)", line))


def test_a_curve_ends_where_its_arm_spent_no_more(four):
    few, many = (curve_end(four, "llm_calls_matmul", arm) for arm in ("best_of_n", "shinkaevolve"))
    assert few < 0.6 * many


def test_against_evaluations_all_arms_end_together(four):
    ends = {round(curve_end(four, "evaluations_matmul", arm), 3) for arm in ARMS}
    assert len(ends) == 1


def test_the_curves_caption_says_that_arms_end_in_different_places(four):
    words = text_of(four.page)
    assert "against calls, tokens, dollars and seconds each arm ends elsewhere" in words
    assert "beyond the dot it cannot be compared" in words


def test_the_reason_why_seeds_label_replicates_stands_by_arms_statistics_and_settings(four):
    page = text_of(four.page)
    assert f"Seeds of openevolve label replicates and do not reproduce them: {WHY}." in page
    assert f"openevolve: a seed labels a replicate and does not reproduce it ({WHY})" in page
    assert f"Seeds that label replicates openevolve {WHY}" in page
    assert WHY in (four.folder / "arms.md").read_text()


def test_the_card_of_seeds_names_the_arms_whose_seeds_label_replicates(four):
    assert "4 arms × 3 tasks × 3 seeds = 36 runs; not reproducible by seed: openevolve" in (
        text_of(four.page)
    )


def test_the_line_about_replicates_is_there_with_one_seed_too(tmp_path):
    plan = Plan(tasks=("matmul",), arms=("openevolve",), seeds=(0,), charges=3)
    folder = write_comparison(tmp_path / "c", plan)
    path = folder / "comparison.json"
    data: dict[str, Any] = json.loads(path.read_text())
    data["resolved"]["arms"][0]["replicates"] = WHY
    path.write_text(json.dumps(data))
    words = text_of(build_report(folder).page)
    assert "One seed per task shows no run-to-run spread" in words
    assert "a seed labels a replicate" in words


@pytest.mark.parametrize("absent", [True, False])
def test_nothing_is_said_of_replicates_where_seeds_reproduce(tmp_path, absent):
    folder = write_comparison(tmp_path / "c", Plan(tasks=("matmul",), seeds=(0, 1), charges=3))
    path = folder / "comparison.json"
    data: dict[str, Any] = json.loads(path.read_text())
    for arm in data["resolved"]["arms"] if absent else ():
        del arm["replicates"]
    path.write_text(json.dumps(data))
    assert read_comparison(folder).replicated == ()
    assert not re.search(r"replicate|not reproducible", text_of(build_report(folder).page))


def test_a_run_whose_method_raised_failed_with_that_reason(four):
    words = text_of(four.page)
    assert (
        "Run failed: shinkaevolve on softmax, seed 1. method raised ForeignError: the program"
        in words
    )
    assert "35 of 36 finished 1 failed" in words


def test_a_run_that_goes_on_after_its_method_raised_is_no_failure(tmp_path):
    key = ("matmul", "ksearch", 0)
    plan = Plan(tasks=key[:1], arms=key[1:2], seeds=(0,), charges=4, ends={key: "raised"})
    folder = write_comparison(tmp_path / "c", plan)
    path = folder / Path("runs/matmul/ksearch/seed-0/events.jsonl")
    number = len(path.read_text().splitlines())
    event = {"i": number, "t": 0.0, "kind": "attempt", "number": 2, "resumed_at": number}
    with path.open("a") as stream:
        stream.write(json.dumps(event) + "\n")
    assert rows_of(build_report(folder), "runs")[0]["state"] == "interrupted"


def test_every_id_on_a_page_with_traces_and_lineages_is_unique(four):
    ids = re.findall(r'\sid="([^"]+)"', four.page.read_text())
    assert {"figure-lineage_matmul__openevolve__seed_0", "traces"} <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["tasks", "failures", "search_versus_confirmed"])
def test_the_arms_of_a_task_stand_side_by_side(four, name):
    rows = rows_of(four, name)
    assert [row["arm"] for row in rows[:4]] == list(ARMS)
    assert {row["task"] for row in rows[:4]} == {"matmul"}


def test_long_names_of_arms_do_not_overlap_in_a_legend(four):
    """Every entry ends before the next one on its line begins, at 0.069 inches a letter."""
    svg = (four.folder / "best_so_far_evaluations_matmul.svg").read_text()
    places = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', svg)
    entries = [(float(y), float(x), name) for x, y, name in places if name in ARMS]
    assert len(entries) == 4
    lines: dict[float, list[tuple[float, str]]] = {}
    for y, x, name in entries:
        lines.setdefault(y, []).append((x, name))
    for line in lines.values():
        for (x, name), (following, _) in zip(sorted(line), sorted(line)[1:], strict=False):
            assert x + 0.069 * 72 * len(name) < following
