"""Logs into frames, frames and confirmations into results, results into claims."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import LogError
from reports.analysis import compare_pairs, seed_notes
from reports.frames import Frames, read_frames
from reports.manifest import Comparison, read_comparison
from reports.results import Results, read_results, workload_rows
from reports.tables_search import flags_table
from tests.fake_comparison import Plan, write_comparison

ONE = {"tasks": ("matmul",), "arms": ("ksearch",), "seeds": (0,), "charges": 6}
RUN = Path("runs/matmul/ksearch/seed-0")


def read(folder: Path) -> tuple[Comparison, Frames, Results]:
    comparison = read_comparison(folder)
    frames = read_frames(folder, comparison.tasks, comparison.arm_names)
    return comparison, frames, read_results(folder, frames, comparison.tasks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_comparison(tmp_path / "runs-of-one", Plan(**ONE))


def edit_line(folder: Path, number: int, **fields: object) -> None:
    path = folder / RUN / "events.jsonl"
    lines = path.read_text().splitlines()
    event = json.loads(lines[number])
    for name, value in fields.items():
        event.pop(name) if value is None else event.update({name: value})
    lines[number] = json.dumps(event)
    path.write_text("\n".join(lines) + "\n")


def line_of(folder: Path, kind: str) -> int:
    lines = (folder / RUN / "events.jsonl").read_text().splitlines()
    return next(i for i, line in enumerate(lines) if json.loads(line)["kind"] == kind)


def test_a_run_row_sums_its_events(folder):
    _, frames, _ = read(folder)
    run = frames.runs.iloc[0]
    assert (run["charges"], run["state"], run["attempts"]) == (6, "finished", 1)
    assert run["llm_seconds"] == pytest.approx(1.5 * run["llm_calls"])
    assert frames.evaluations["charge"].tolist() == list(range(7))


def test_a_gap_in_the_numbers_names_file_and_line(folder):
    edit_line(folder, 3, i=7)
    with pytest.raises(LogError, match=r"events\.jsonl, line 4: event 7, expected 3"):
        read(folder)


def test_a_missing_field_is_named(folder):
    edit_line(folder, line_of(folder, "evaluation"), build_seconds=None, charge=1)
    with pytest.raises(LogError, match="lacks the field 'build_seconds'"):
        read(folder)


def test_an_unknown_kind_of_event_is_refused(folder):
    edit_line(folder, 2, kind="guess")
    with pytest.raises(LogError, match="unknown kind of event 'guess'"):
        read(folder)


def test_an_unknown_status_is_refused(folder):
    edit_line(folder, line_of(folder, "evaluation"), status="SPLENDID")
    with pytest.raises(LogError, match="SPLENDID"):
        read(folder)


def test_a_broken_line_inside_the_log_is_refused(folder):
    path = folder / RUN / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], "not json\n", *lines[4:]]))
    with pytest.raises(LogError, match="Only the last line"):
        read(folder)


def test_another_format_is_refused_with_what_to_do(folder):
    path = folder / "comparison.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(LogError, match=r"format 2, this version reads format 1\. Use"):
        read(folder)


def test_a_folder_that_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(LogError, match=r"no comparison\.json"):
        read_comparison(tmp_path)


def test_a_run_of_an_unlisted_arm_is_refused(folder):
    path = folder / RUN / "manifest.json"
    path.write_text(path.read_text().replace('"arm": "ksearch"', '"arm": "other"'))
    with pytest.raises(LogError, match="does not list"):
        read(folder)


def test_a_confirmation_of_another_form_is_refused(folder):
    (folder / "confirm" / "matmul.json").write_text('{"task": "matmul"}')
    with pytest.raises(LogError, match="no confirmation of this format"):
        read(folder)


def test_a_torn_last_line_is_dropped_and_noted(tmp_path):
    plan = Plan(**ONE, ends={("matmul", "ksearch", 0): "killed"})
    _, frames, _ = read(write_comparison(tmp_path / "c", plan))
    assert frames.runs["torn"].tolist() == [True]
    assert frames.runs["state"].tolist() == ["interrupted"]


@pytest.mark.parametrize(
    ("end", "reason", "state"),
    [
        ("paused", "429", "paused"),
        ("failed", "bad edit", "failed"),
        ("raised", "method raised ForeignError: the program ended with 1", "failed"),
    ],
)
def test_a_run_that_stopped_early_keeps_its_reason(tmp_path, end, reason, state):
    plan = Plan(**ONE, ends={("matmul", "ksearch", 0): end})
    _, frames, _ = read(write_comparison(tmp_path / "c", plan))
    assert frames.runs["state"].tolist() == [state]
    assert reason in frames.runs["reason"][0]


def test_an_unknown_price_makes_the_sum_unknown(tmp_path):
    _, frames, _ = read(write_comparison(tmp_path / "c", Plan(**ONE, dollars=None)))
    assert math.isnan(frames.runs["dollars"][0])


def test_the_result_is_the_confirmed_score_and_not_the_search_score(folder):
    _, _, results = read(folder)
    run = results.runs[0]
    assert run.kind == "confirmed"
    assert run.score == run.finalist.final.score != run.search_score


def test_a_best_candidate_that_failed_gives_way_to_the_next_best(tmp_path):
    key = ("matmul", "ksearch", 0)
    usual = read(write_comparison(tmp_path / "a", Plan(**ONE)))[2].runs[0]
    plan = Plan(**ONE, rejected_best=frozenset({key}))
    other = read(write_comparison(tmp_path / "b", plan))[2].runs[0]
    assert (other.kind, other.failed_finalists) == ("confirmed", 1)
    assert other.candidate != usual.candidate
    assert other.search_score <= usual.search_score


def test_a_run_without_a_pass_gets_the_confirmed_score_of_the_start(tmp_path):
    plan = Plan(**ONE, hopeless=frozenset({("matmul", "ksearch", 0)}))
    run = read(write_comparison(tmp_path / "c", plan))[2].runs[0]
    assert (run.kind, run.first_pass) == ("start", None)
    assert run.score == run.finalist.final.score


def test_without_a_confirmation_there_is_no_result(tmp_path):
    plan = Plan(**ONE, unconfirmed=frozenset({"matmul"}))
    run = read(write_comparison(tmp_path / "c", plan))[2].runs[0]
    assert (run.kind, run.known) == ("missing", False)
    assert math.isnan(run.score)


def test_a_best_candidate_absent_from_the_confirmation_is_no_result(folder):
    path = folder / "confirm" / "matmul.json"
    data = json.loads(path.read_text())
    data["finalists"] = data["finalists"][:1]  # the starting program alone
    path.write_text(json.dumps(data))
    assert read(folder)[2].runs[0].kind == "missing"


def test_every_final_workload_of_a_confirmed_program_is_a_row(folder):
    rows = workload_rows(read(folder)[2])
    assert rows["workload"].tolist() == list(Plan().workloads)


def pair_of(folder: Path):
    comparison, _, results = read(folder)
    return compare_pairs(comparison, results)[0]


LIVE = {"arms": ("best_of_n", "ksearch"), "llm_level": "live", "charges": 12}
FAR_APART = {"gain": {"best_of_n": 0.02, "ksearch": 0.5}}


def test_a_clear_difference_over_three_tasks_is_claimed(tmp_path):
    pair = pair_of(write_comparison(tmp_path / "c", Plan(**LIVE, **FAR_APART)))
    assert pair.claimed
    assert pair.ratio.high < 1


def test_three_seeds_on_one_task_can_claim_nothing(tmp_path):
    plan = Plan(**LIVE, **FAR_APART, tasks=("matmul",))
    pair = pair_of(write_comparison(tmp_path / "c", plan))
    assert not pair.claimed
    assert "too few seeds (smallest p possible 0.1)" in pair.verdict


def test_equal_arms_differ_by_nothing_that_can_be_claimed(tmp_path):
    plan = Plan(**LIVE, gain={"best_of_n": 0.2, "ksearch": 0.2})
    pair = pair_of(write_comparison(tmp_path / "c", plan))
    assert pair.verdict.startswith("no difference can be claimed")


def test_a_simulated_comparison_is_never_judged(tmp_path):
    plan = Plan(**(LIVE | {"llm_level": "simulated"}), **FAR_APART)
    pair = pair_of(write_comparison(tmp_path / "c", plan))
    assert not pair.claimed
    assert pair.verdict == "not judged: simulated model"


def test_the_notes_carry_the_numbers_of_this_design(tmp_path):
    comparison, _, results = read(write_comparison(tmp_path / "c", Plan(**LIVE)))
    notes = " ".join(seed_notes(results, comparison))
    assert "3 against 3 seeds cannot reach p = 0.05" in notes
    assert "probability 0.75" in notes
    assert "0.00025" in notes


def test_flags_that_differ_in_numbers_only_are_one_row(folder: Path) -> None:
    comparison = read(folder)[0]
    rows = [
        ("t", "w1", "a", 0, "16 calls back to back: 5.5 us each\nbelow 1.2 x floor"),
        ("t", "w2", "a", 0, "16 calls back to back: 300 us each"),
        ("t", "w1", "a", 1, "8 calls back to back: 6.0 us each"),
        ("t", "w3", "b", 1, "evaluated anew: 78 us longer (resolution 69 us); 16 us after"),
        ("t", "w4", "b", 2, ""),
    ]
    frame = pd.DataFrame(rows, columns=["task", "workload", "arm", "seed", "flags"])
    assert flags_table(comparison, frame).rows == (
        ("t", "a", "8 to 16 calls back to back: 5.5 to 300 us each", "w1, w2", 2),
        ("t", "a", "below 1.2 x floor", "w1", 1),
        ("t", "b", "evaluated anew: 78 us longer (resolution 69 us); 16 us after", "w3", 1),
    )
