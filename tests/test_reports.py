"""The report folder as a reader gets it: page, tables and figures."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from reports.build import ReportPaths, build_report
from reports.manifest import facts
from reports.page import SELF_TEST
from reports.statistics import Estimate
from reports.table import Column, Table, show, tex, write
from tests.fake_comparison import Plan, write_comparison

ROUGH = Plan(
    charges=14,
    ends={
        ("matmul", "ksearch", 1): "paused",
        ("softmax", "best_of_n", 0): "killed",
        ("softmax", "ksearch", 2): "failed",
    },
    hopeless=frozenset({("matmul", "best_of_n", 2)}),
    rejected_best=frozenset({("softmax", "ksearch", 0)}),
    unconfirmed=frozenset({"gqa_paged_decode"}),
)


@pytest.fixture(scope="module")
def rough(tmp_path_factory) -> ReportPaths:
    """A simulated comparison in which much went wrong."""
    return build_report(write_comparison(tmp_path_factory.mktemp("rough") / "c", ROUGH))


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> ReportPaths:
    plan = Plan(
        arms=("best_of_n", "ksearch[k=5]_&<b>"),
        llm_level="live",
        charges=12,
        gain={"best_of_n": 0.02, "ksearch[k=5]_&<b>": 0.5},
    )
    return build_report(write_comparison(tmp_path_factory.mktemp("live") / "c", plan))


def text_of(path: Path) -> str:
    """The page's words alone."""
    page = re.sub(r"(?s)<(style|svg).*?</\1>", " ", path.read_text())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def rows_of(paths: ReportPaths, name: str) -> list[dict[str, str]]:
    with (paths.folder / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_simulated_page_opens_with_the_self_test_line(rough):
    body = rough.page.read_text().partition("<body>")[2]
    assert re.sub(r"<[^>]+>", "", body).strip().startswith(SELF_TEST)


def test_a_simulated_page_names_no_winner(rough):
    words = text_of(rough.page)
    assert not re.search(r"finds faster|scores higher \(|outperforms|\bbeats\b|best arm", words)
    assert {row["verdict"] for row in rows_of(rough, "statistics")} == {
        "not judged: simulated model"
    }


def test_a_simulated_page_lists_the_knobs_of_every_simulated_model(rough):
    words = text_of(rough.page)
    assert "Simulated model simulated-noise" in words
    assert "world_model noise" in words


def test_a_live_page_answers_with_an_interval_and_its_n(live):
    words = text_of(live.page)
    assert SELF_TEST not in words
    assert re.search(r"finds faster kernels than best_of_n: [\d.]+× \(95 % interval", words)
    assert "3 seeds × 3 tasks" in words


def test_the_first_screen_says_what_failed_and_why(rough):
    words = text_of(rough.page)
    assert "Run paused: ksearch on matmul, seed 1." in words
    assert "the endpoint answered 429 six times" in words
    assert "Confirmation missing: gqa_paged_decode." in words
    assert "Run without a pass: best_of_n on matmul, seed 2." in words


def test_every_table_carries_the_level_pair_in_every_form(rough):
    for path in rough.tables:
        text = path.read_text()
        pair = (
            tex("simulated LLM × live evaluator")
            if path.suffix == ".tex"
            else ("simulated LLM × live evaluator")
        )
        if path.suffix == ".csv":
            rows = list(csv.reader(text.splitlines()))
            assert rows[0][-1] == "levels"
            assert all(row[-1] == pair for row in rows[1:])
        else:
            assert pair in text, path.name


def test_every_figure_is_well_formed_titled_with_the_levels_and_undated(rough):
    for path in rough.figures:
        root = ElementTree.fromstring(path.read_text())
        title = root.find("{http://www.w3.org/2000/svg}title")
        assert title is not None, path.name
        assert "simulated LLM × live evaluator" in (title.text or "")
        assert "<dc:date>" not in path.read_text()


def test_the_page_needs_no_network_and_no_script(rough):
    page = rough.page.read_text()
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_every_id_on_the_page_is_unique(rough):
    ids = re.findall(r'\sid="([^"]+)"', rough.page.read_text())
    assert len(ids) == len(set(ids))


def test_names_are_escaped_on_the_page_and_in_latex(live):
    assert "ksearch[k=5]_&amp;&lt;b&gt;" in live.page.read_text()
    assert r"ksearch[k=5]\_\&<b>" in (live.folder / "arms.tex").read_text()


def test_floats_in_csv_have_at_most_six_significant_digits(rough):
    for path in rough.tables:
        if path.suffix == ".csv":
            for number in re.findall(r"(?<![\w.])\d+\.\d+(?:e-?\d+)?(?![\w.])", path.read_text()):
                digits = number.partition("e")[0].replace(".", "").lstrip("0")
                assert len(digits) <= 6, (path.name, number)


def test_missing_confirmations_leave_empty_cells_and_not_search_scores(rough):
    rows = [r for r in rows_of(rough, "runs") if r["task"] == "gqa_paged_decode"]
    assert len(rows) == 9
    assert all(r["confirmed"] == "" and r["search_score"] != "" for r in rows)


def test_search_traces_of_many_runs_are_one_per_task_and_arm(rough):
    traces = [p.stem for p in rough.figures if p.stem.startswith("trace_")]
    assert len(traces) == 6
    assert all(name.endswith("seed_0") for name in traces)


def test_a_failure_count_for_every_charge_is_in_the_verdicts_table(rough):
    for row in rows_of(rough, "failures"):
        keys = list(row)
        statuses = keys[keys.index("passed") : keys.index("levels")]
        assert sum(int(row[key]) for key in statuses) == int(row["charges"])


def test_arithmetic_stands_beside_geometric_mean(rough):
    for name in ("arms", "tasks", "workloads"):
        row = rows_of(rough, name)[0]
        mean = row.get("geometric_mean") or row["speedup"]
        assert float(row["arithmetic_mean"]) >= float(mean)


def test_without_prices_there_are_no_curves_against_dollars(tmp_path):
    plan = Plan(tasks=("matmul",), arms=("ksearch",), charges=4, dollars=None)
    paths = build_report(write_comparison(tmp_path / "c", plan))
    assert not any("dollars" in path.name for path in paths.figures)
    assert "the price of a call is unknown" in text_of(paths.page)


def test_a_comparison_without_a_single_run_still_has_a_page(tmp_path):
    folder = write_comparison(tmp_path / "c", Plan(seeds=(), llm_level="live"))
    assert "No answer yet" in text_of(build_report(folder).page)


def test_a_new_report_leaves_no_file_of_the_old_one(tmp_path):
    folder = write_comparison(tmp_path / "c", Plan(tasks=("matmul",), seeds=(0,), charges=3))
    (folder / "report").mkdir()
    (folder / "report" / "stale.csv").write_text("old")
    paths = build_report(folder)
    kept = {p.name for p in paths.folder.iterdir()}
    assert kept == {p.name for p in (paths.page, *paths.tables, *paths.figures)}


SCRIPT = "import sys; from pathlib import Path; from reports.build import build_report;" + (
    " build_report(Path(sys.argv[1]))"
)


def test_the_report_is_byte_identical_elsewhere_later_and_under_another_hash_seed(tmp_path):
    arms = ("best_of_n", "ksearch", "openevolve")
    plan = Plan(tasks=("matmul", "softmax"), arms=arms, seeds=(0, 1), charges=8)
    folders = [write_comparison(tmp_path / name, plan) for name in ("a", "b/deeper")]
    for path in folders[1].glob("runs/*/*/*/events.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(e | {"t": e["t"] + 1e6}) + "\n" for e in lines))
        os.utime(path, (0, 0))
    build_report(folders[0])
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folders[1])],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
        cwd=Path(__file__).parents[1],
    )
    one, two = ({p.name: p.read_bytes() for p in (f / "report").iterdir()} for f in folders)
    assert one == two


def table(rows) -> Table:
    columns = (Column("arm", "Arm"), Column("ratio", "Ratio [95 %]", "estimate"))
    return Table("demo", "Demo", "A caption.", columns, rows, "live LLM × live evaluator")


def test_an_estimate_is_three_columns_in_csv(tmp_path):
    write(table((("a", Estimate(1.23456789, 1.1, 1.4, 3)),)), tmp_path)
    lines = (tmp_path / "demo.csv").read_text().splitlines()
    assert lines[0] == "arm,ratio,ratio_low,ratio_high,levels"
    assert lines[1] == "a,1.23457,1.1,1.4,live LLM × live evaluator"


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="1 cells, 2 columns"):
        table((("a",),))


@pytest.mark.parametrize(
    ("cell", "kind", "text"),
    [
        (None, "number", "–"),
        (float("nan"), "ratio", "–"),
        (1234567, "integer", "1,234,567"),
        (0.00123456, "number", "0.00123"),
        (-2.345, "percent", "−2.3 %"),
        (0.00001, "p", "< 0.0001"),
        (Estimate(2.0, float("nan"), float("nan"), 1), "estimate", "2.00"),
    ],
)
def test_cells_read_well(cell, kind, text):
    assert show(cell, kind) == text


def test_a_list_of_records_is_shown_in_words() -> None:
    machine = {"cores": 16, "gpus": [{"name": "NVIDIA H100", "memory_mib": 81559}]}
    assert facts(machine) == (("cores", "16"), ("gpus", "name NVIDIA H100, memory_mib 81559"))
