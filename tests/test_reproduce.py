"""The paper's page as a reader gets it: alone, with runs and with measured kernels beside it; what
`harness reproduce` prints and `make reproduce` passes on."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import LogError
from harness.remeasured import (
    Remeasured,
    RemeasuredKernel,
    RemeasuredWorkload,
    write_remeasured,
)
from harness.types import Status
from reports.page import SELF_TEST
from reports.paper import read_paper
from reports.paper_runs import read_runs, run_curves, run_scores, runs_table
from reports.reproduce import PaperPage, build_paper_page
from tests.fake_comparison import Plan, write_comparison

ROOT = Path(__file__).parents[1]
GQA = "gqa_paged_decode_h32_kv4_d128_ps1"
PREFILL = "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"
MARK = "digitised from the published figure, ±0.5"


def comparison(folder: Path, suite: str, device: str, plan: Plan) -> Path:
    """A made-up comparison of any suite and device."""
    path = write_comparison(folder, plan) / "comparison.json"
    data = json.loads(path.read_text())
    data["resolved"]["suite"] = suite
    data["evaluator"]["device"] = device
    path.write_text(json.dumps(data))
    return folder


def kernels() -> Remeasured:
    """Two kernels on GQA, of which one is right under the published gate only; one that does not
    build; one on a task that is not the paper's."""
    times = [(10.0, 5.0), (20.0, 30.0)]
    passed, wrong = Status.PASSED, Status.INCORRECT_NUMERICAL
    right = tuple(
        RemeasuredWorkload(f"w{i}", passed, passed, "", "", latency, baseline, 4.0, 40.0)
        for i, (latency, baseline) in enumerate(times)
    )
    loose = (right[0], RemeasuredWorkload("w1", wrong, passed, "lse is off", "", 15.0, 30.0))
    return Remeasured(
        "2026-11-26T19:00:00+00:00", "NVIDIA H100 80GB HBM3", "FlashInfer 0.6.4, default wrapper",
        {"ours": "elementwise and in norm", "published": "1e-2 or 1e-2"},
        {"commit": "abc"}, {"gpu": "NVIDIA H100"}, {"torch": "2.11"}, {},
        (
            RemeasuredKernel(GQA, "ksearch", "ks.json", "a" * 16, right, passed),
            RemeasuredKernel(GQA, "openevolve", "oe.json", "b" * 16, loose, wrong, "page 7 is off"),
            RemeasuredKernel(PREFILL, "ksearch", "ks_p.json", "c" * 16, failure="does not build"),
            RemeasuredKernel("matmul", "mine", "m.py", "d" * 16, right[:1]),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> PaperPage:
    return build_paper_page(tmp_path_factory.mktemp("alone"), None, None)


@pytest.fixture(scope="module")
def live_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan(
        tasks=(GQA, "softmax"),
        arms=("best_of_n", "ksearch", "openevolve"),
        llm_level="live",
        charges=10,
        workloads=("w0", "w1"),
    )
    return comparison(tmp_path_factory.mktemp("live") / "c", "flashinfer", "NVIDIA H200", plan)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, live_runs: Path) -> PaperPage:
    """Runs and kernels beside the paper."""
    return build_paper_page(tmp_path_factory.mktemp("beside"), live_runs, kernels())


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> PaperPage:
    folder = tmp_path_factory.mktemp("simulated")
    plan = Plan(tasks=(GQA,), arms=("ksearch", "openevolve"), charges=6, workloads=("w0",))
    runs = comparison(folder / "c", "flashinfer", "cpu", plan)
    return build_paper_page(folder / "out", runs, None)


def words(page: PaperPage) -> str:
    text = re.sub(r"(?s)<(style|svg).*?</\1>", " ", page.page.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def rows(page: PaperPage, name: str) -> list[dict[str, str]]:
    with (page.page.parent / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# The page alone.


def test_the_page_needs_no_network_and_no_script(alone: PaperPage) -> None:
    text = alone.page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "@import" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'href="([^#"]+)"', text):
        assert (alone.page.parent / target).is_file(), target


def test_the_first_screen_takes_the_headline_apart(alone: PaperPage) -> None:
    first = words(alone).partition("The paper's table")[0]
    for part in ("56.13 / 26.68", "5.03×", "3.04×", "27.7", "35.3", "All 12 published means"):
        assert part in first
    assert alone.sentences[0] in first.replace("&#39;", "'")


def test_the_page_says_what_is_not_known_and_where_kernels_come_from(alone: PaperPage) -> None:
    shown = words(alone)
    for part in (
        "How FlashInfer&#39;s plan was timed", "The machine:", "The seeds", "Which clock",
        "github.com/caoshiyi/K-Search", "flashinfer-ai/flashinfer-trace", "had no licence",
        f"results/gqa_paged/{GQA}",
    ):  # fmt: skip
        assert part in shown


def test_every_curve_is_marked_as_digitised(alone: PaperPage) -> None:
    assert len(alone.figures) == 4
    for path in alone.figures:
        text = path.read_text(encoding="utf-8")
        title = ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title")
        assert title is not None
        assert MARK in (title.text or "")
        assert text.count(MARK) >= 2  # in the picture, too
    assert {row["levels"] for row in rows(alone, "paper_curves")} == {MARK}
    assert words(alone).count(MARK) >= 4


def test_every_table_says_that_its_figures_are_no_run_of_ours(alone: PaperPage) -> None:
    assert len(alone.tables) == 3 * 8
    for path in alone.tables:
        if path.suffix == ".csv":
            levels = {row["levels"] for row in rows(alone, path.stem)}
            assert len(levels) == 1, path.name
            assert re.search("not measured by this run|digitised|before this tool", *levels)
    assert {"published_h100", "remeasured_h200"} <= {path.stem for path in alone.tables}


def test_the_same_input_gives_the_same_bytes(alone: PaperPage, tmp_path: Path) -> None:
    again = build_paper_page(tmp_path, None, None).page.parent
    first = alone.page.parent
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in first.iterdir()
    }


# Runs beside it.


def test_confirmed_scores_stand_beside_the_papers_by_task_and_method(
    beside: PaperPage, live_runs: Path
) -> None:
    found = {(row["task"], row["arm"]): row for row in rows(beside, "runs_beside_paper")}
    assert len(found) == 6
    row = found["GQA paged decode", "ksearch"]
    assert (row["method"], row["paper_percent"], row["paper_hardware"]) == (
        "K-Search",
        "76.0",
        "H100",
    )
    results = read_runs(live_runs).results.of("ksearch", GQA)
    arithmetic = 100 * np.mean([r.arithmetic_mean for r in results])
    geometric = 100 * np.exp(np.mean([np.log(r.score) for r in results]))
    assert float(row["arithmetic_percent"]) == pytest.approx(arithmetic, rel=1e-5)
    assert float(row["geometric_percent"]) == pytest.approx(geometric, rel=1e-5)
    assert float(row["geometric_percent_low"]) < geometric < float(row["geometric_percent_high"])
    assert row["n"] == "3"


def test_what_is_not_in_the_paper_is_listed_as_such(beside: PaperPage) -> None:
    found = {(row["task"], row["arm"]): row for row in rows(beside, "runs_beside_paper")}
    assert found["softmax", "ksearch"]["notes"] == "the task is not in the paper"
    assert found["softmax", "ksearch"]["paper_percent"] == ""
    assert found["GQA paged decode", "best_of_n"]["notes"] == "the method is not in the paper"


def test_hardware_is_named_per_column_and_the_page_is_no_self_test(beside: PaperPage) -> None:
    shown = words(beside)
    assert "Runs, arithmetic, % (NVIDIA H200)" in shown
    assert "Arithmetic, plan inside, % (NVIDIA H100 80GB HBM3)" in shown
    assert SELF_TEST not in shown
    assert {row["levels"] for row in rows(beside, "runs_claims")} == {
        "live LLM × live evaluator; NVIDIA H200"
    }


def test_a_run_with_options_of_its_own_is_marked_and_claims_nothing(tmp_path: Path) -> None:
    plan = Plan(tasks=(GQA,), arms=("ksearch", "openevolve@migrating"), llm_level="live", charges=4)
    runs = comparison(tmp_path / "c", "flashinfer", "NVIDIA H200", plan)
    page = build_paper_page(tmp_path / "out", runs, None)
    notes = {row["arm"]: row["notes"] for row in rows(page, "runs_beside_paper")}
    assert notes["openevolve@migrating"] == "with a variant or options of its own"
    claimed = {row["claim"] for row in rows(page, "runs_claims")}
    assert claimed == {"A kernel is faster than the baseline"}


def test_the_runs_curves_are_the_best_arithmetic_mean_so_far_in_per_cent(live_runs: Path) -> None:
    runs = read_runs(live_runs)
    (curve,) = [c for c in run_curves(read_paper(), runs) if c.method == "K-Search"]
    table, labels = runs.frames.evaluations, runs.frames.runs
    seeds = []
    for number in labels.index[(labels["task"] == GQA) & (labels["arm"] == "ksearch")]:
        own = table[table["run"] == number]
        seeds.append([np.nanmax(own["arithmetic_mean"][own["charge"] <= c]) for c in range(11)])
    assert curve.percent == pytest.approx(100 * np.mean(seeds, axis=0))
    assert curve.label == "ksearch, here"


def test_a_simulated_model_is_marked_in_every_row_and_claims_nothing(simulated: PaperPage) -> None:
    body = simulated.page.read_text(encoding="utf-8").partition("<body>")[2]
    assert re.sub(r"<[^>]+>", "", body).strip().startswith(SELF_TEST)
    found = rows(simulated, "runs_beside_paper")
    assert len(found) == 2
    assert all(row["model"].startswith("SIMULATED") for row in found)
    assert all("says nothing about LLMs" in row["notes"] for row in found)
    assert not (simulated.page.parent / "runs_claims.csv").exists()
    assert "here (simulated)" in simulated.figures[0].read_text(encoding="utf-8")


def test_a_task_of_the_same_name_in_another_suite_is_not_the_papers(tmp_path: Path) -> None:
    plan = Plan(tasks=(GQA,), arms=("ksearch",), seeds=(0,), charges=3)
    page = build_paper_page(tmp_path / "out", comparison(tmp_path / "c", "cpu", "cpu", plan), None)
    (row,) = rows(page, "runs_beside_paper")
    assert row["paper_percent"] == ""
    assert "the task is not in the paper" in row["notes"]


def test_variants_of_a_task_are_shown_apart_and_the_most_alike_one_is_claimed(
    tmp_path: Path,
) -> None:
    moe = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
    plan = Plan(
        tasks=(f"{moe}@spec", f"{moe}@published"), arms=("ksearch",), llm_level="live", charges=4
    )
    runs = read_runs(comparison(tmp_path / "c", "flashinfer", "NVIDIA H200", plan))
    shown = {row[0]: row[4:6] for row in runs_table(read_paper(), runs).rows}
    assert shown == {"MoE fp8 @spec": ("44.1", "B200"), "MoE fp8 @published": ("44.1", "B200")}
    results = runs.results.of("ksearch", f"{moe}@published")
    (means,) = run_scores(read_paper(), runs).values()
    assert means.arithmetic == pytest.approx(np.mean([r.arithmetic_mean for r in results]))


def test_runs_of_trimul_stand_beside_the_trimul_tables(tmp_path: Path) -> None:
    plan = Plan(tasks=("trimul@spec",), arms=("ksearch",), llm_level="live", charges=4)
    runs = comparison(tmp_path / "c", "trimul", "NVIDIA H200", plan)
    page = build_paper_page(tmp_path / "out", runs, None)
    (row,) = rows(page, "runs_trimul")
    finals = [r.finalist.final for r in read_runs(runs).results.of("ksearch") if r.finalist]
    logs = [np.mean([np.log(m.latency_us) for m in final.measurements]) for final in finals]
    assert float(row["milliseconds"]) == pytest.approx(np.exp(np.mean(logs)) / 1000, rel=1e-5)
    assert row["levels"].endswith("NVIDIA H200")
    trimul = words(page).partition("Tables of different cards")[2]
    assert "ms (NVIDIA H200)" in trimul


def test_a_folder_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="comparison"):
        build_paper_page(tmp_path / "out", tmp_path, None)
    assert not (tmp_path / "out").exists()


def test_tables_of_an_earlier_page_do_not_stay(tmp_path: Path, live_runs: Path) -> None:
    build_paper_page(tmp_path, live_runs, kernels())
    assert (tmp_path / "kernels_claims.csv").exists()
    build_paper_page(tmp_path, None, None)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(("runs_", "kernels"))]


# Kernels beside it.


def test_kernels_stand_beside_the_paper_by_gate_and_by_plan(beside: PaperPage) -> None:
    found = {
        (row["task"], row["method"], row["gate"]): row
        for row in rows(beside, "kernels_beside_paper")
    }
    row = found["GQA paged decode", "K-Search", "this project's gate"]
    assert (row["right"], row["paper_percent"], row["held_out"]) == ("2 of 2", "76.0", "PASSED")
    outside, inside = np.array([0.5, 1.5]), np.array([45 / 14, 70 / 24])
    for plan, speedups in (("outside", outside), ("inside", inside)):
        arithmetic, geometric = speedups.mean(), np.exp(np.log(speedups).mean())
        assert float(row[f"arithmetic_{plan}_percent"]) == pytest.approx(100 * arithmetic, rel=1e-5)
        assert float(row[f"geometric_{plan}_percent"]) == pytest.approx(100 * geometric, rel=1e-5)
    assert "ks.json: 2 of the task's 48 workloads" in row["notes"]


def test_a_kernel_that_fails_a_gate_has_no_mean_under_it_and_says_why(beside: PaperPage) -> None:
    found = {(row["method"], row["gate"]): row for row in rows(beside, "kernels_beside_paper")
             if row["task"] == "GQA paged decode"}  # fmt: skip
    ours = found["OpenEvolve", "this project's gate"]
    assert ours["arithmetic_outside_percent"] == ""
    assert "failed on 1 of 2 workloads, first on w1 (INCORRECT_NUMERICAL)" in ours["notes"]
    assert ours["held_out"] == "INCORRECT_NUMERICAL"
    published = found["OpenEvolve", "the published gate"]
    assert float(published["arithmetic_outside_percent"]) == pytest.approx(125.0)
    every = {(row["kernel"], row["gate"]): row for row in rows(beside, "kernels")}
    assert "held-out: page 7 is off" in every["oe.json", "the published gate"]["notes"]
    assert "no score, does not build" in every["ks_p.json", "this project's gate"]["notes"]


def test_every_workload_and_fast_p_of_every_kernel_are_shown(beside: PaperPage) -> None:
    workloads = rows(beside, "kernels_workloads")
    assert [(row["kernel"], row["workload"]) for row in workloads] == [
        ("ks.json", "w0"), ("ks.json", "w1"), ("oe.json", "w0"), ("oe.json", "w1"), ("m.py", "w0"),
    ]  # fmt: skip
    assert (workloads[3]["ours"], workloads[3]["published"]) == ("INCORRECT_NUMERICAL", "PASSED")
    assert workloads[3]["notes"] == "this project's gate: lse is off"
    fast = {(r["kernel"], r["gate"], r["plan"]): r for r in rows(beside, "kernels_fast_p")}
    assert fast["oe.json", "this project's gate", "outside"]["fast_1"] == "0"
    assert fast["oe.json", "the published gate", "outside"]["fast_1"] == "0.5"
    assert fast["ks.json", "this project's gate", "inside"]["fast_2"] == "1"


def test_kernels_claims_name_gate_plan_and_mean(beside: PaperPage) -> None:
    found = [r for r in rows(beside, "kernels_claims") if "ahead of OpenEvolve" in r["claim"]]
    assert {r["figures"].partition(": ")[2] for r in found} == {
        "right under the published gate, plan outside",
        "right under the published gate, plan inside",
    }
    assert {r["mean"] for r in found} == {"arithmetic over workloads", "geometric over workloads"}


def test_kernels_that_are_not_the_papers_are_listed_as_such(beside: PaperPage) -> None:
    found = [row for row in rows(beside, "kernels_beside_paper") if row["task"] == "matmul"]
    assert len(found) == 2
    assert all("the task is not in the paper; the method is not" in row["notes"] for row in found)


def test_the_page_says_that_the_papers_plan_is_not_known(beside: PaperPage) -> None:
    assert "neither column is known to be the paper" in words(beside)


# The command.


def test_the_command_prints_the_answer_and_ends_with_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    write_remeasured(folder, kernels())
    result = CliRunner().invoke(
        cli.app, ["reproduce", "--kernels", str(folder), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0
    assert "56.13 / 26.68" in result.output
    assert "4 published kernels; 2 are right" in result.output
    assert "Repository: https://github.com/caoshiyi/K-Search" in result.output
    assert result.output.splitlines()[-1] == f"Page: {tmp_path / 'out' / 'index.html'}"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ""),
        (["RUNS=runs/a"], "--runs 'runs/a'"),
        (["RUNS="], ""),
        (["KERNELS=k"], "--kernels 'k'"),
        (["RUNS=runs/a", "KERNELS=k"], "--runs 'runs/a' --kernels 'k'"),
    ],
)
def test_make_reproduce_takes_runs_only_where_they_are_given(
    arguments: list[str], wanted: str
) -> None:
    command = ["make", "-n", "reproduce", f"PYTHON={sys.executable}", *arguments]
    output = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout
    asked = output.replace("\\\n", " ").partition("harness reproduce")[2]
    assert asked.split() == wanted.split()
