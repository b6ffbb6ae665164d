"""The leaderboard comparison, without a GPU: submissions of plain torch on a tiny TriMul, each told
from the others; the record, the page, and the published tables."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape
from rich.console import Console
from typer.testing import CliRunner

from harness import cli
from harness.errors import InfraError, LogError, UnknownName, UsageError
from harness.evaluate.inspected import (
    Checked,
    Inspection,
    Observed,
    Timed,
    inspection_from_json,
    inspection_to_json,
)
from harness.leaderboard import (
    RECORD,
    Board,
    Entry,
    Leaderboard,
    _inspected,
    build_page,
    named_board,
    read_leaderboard,
    run_leaderboard,
)
from harness.leaderboard_words import findings, print_leaderboard
from harness.types import Candidate, Status
from reports.leaderboard import answers, read_published
from tests import toy_trimul

pytest.importorskip("triton")

# Named like the real board, so that its published tables are beside it.
BOARD = Board(
    "trimul",
    "A toy TriMul",
    "tests.toy_trimul:suite",
    "toy@spec",
    "toy@upstream",
    "suites.gpumode.submission:wrap",
)
SUBMISSIONS = {
    "honest.py": toy_trimul.HONEST,
    "caching.py": toy_trimul.CACHING,
    "once_per_dictionary.py": toy_trimul.ONCE_PER_DICTIONARY,
    "keeping_results.py": toy_trimul.KEEPING_RESULTS,
    "no_mask.py": toy_trimul.NO_MASK,
    "mutating.py": toy_trimul.MUTATING,
    "aliasing.py": toy_trimul.ALIASING,
    "flags.py": toy_trimul.FLAGS,
    "crashing.py": toy_trimul.CRASHING,
    "other.py": "def kernel(data): ...",
    "broken.py": "def custom_kernel(data:",
}


def run(files: Sequence[Path], out: Path, board: Board = BOARD) -> Leaderboard:
    return run_leaderboard(board, files, out, device="interpreter", say=lambda text: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of all of them, of a file that is not there, and its page."""
    made = tmp_path_factory.mktemp("leaderboard")
    files = []
    for name, source in SUBMISSIONS.items():
        files.append(made / name)
        files[-1].write_text(source, encoding="utf-8")
    run([*files, made / "absent.py"], made / "out")
    build_page(made / "out")
    return made / "out"


@pytest.fixture(scope="module")
def record(folder: Path) -> Leaderboard:
    return read_leaderboard(folder)


def entry(record: Leaderboard, name: str) -> Entry:
    return next(e for e in record.entries if e.name == name)


def said(record: Leaderboard, name: str) -> str:
    return "\n".join(findings(entry(record, name)))


def inspections(record: Leaderboard, name: str) -> tuple[Inspection, Inspection]:
    found = entry(record, name)
    assert found.specified is not None
    assert found.upstream is not None
    return found.specified, found.upstream


def test_the_honest_one_is_right_everywhere_ranked_and_nothing_is_found(
    record: Leaderboard,
) -> None:
    spec, upstream = inspections(record, "honest.py")
    assert all(c.passed for c in (*spec.checked, *upstream.checked))
    assert {c.split for c in spec.checked} == {"final", "tests", "held_out"}
    assert [t.workload for t in spec.timed] == [w.name for w in toy_trimul.ToySpec.final]
    assert all(t.fresh and t.reused and t.baseline and t.problem is None for t in spec.timed)
    assert not upstream.timed
    assert entry(record, "honest.py").reason is None
    assert not [f for f in findings(entry(record, "honest.py")) if "times as long" not in f]


def test_a_cache_in_the_callers_weights_is_right_and_told(record: Leaderboard) -> None:
    assert entry(record, "caching.py").reason is None
    assert "keeps state in the caller's dictionaries: weights['packed']" in said(
        record, "caching.py"
    )
    assert "who keeps two results finds them equal" in said(record, "caching.py")


def test_work_done_once_per_dictionary_is_in_the_fresh_times_only(record: Leaderboard) -> None:
    """20 ms of it: far more than a call takes."""
    ratio = entry(record, "once_per_dictionary.py").ratio
    assert ratio is not None
    assert ratio > 3
    assert "times as long with fresh inputs as with reused" in said(
        record, "once_per_dictionary.py"
    )


def test_results_kept_in_the_module_are_wrong_with_fresh_inputs(record: Leaderboard) -> None:
    spec, upstream = inspections(record, "keeping_results.py")
    assert not any(c.passed for c in (*spec.checked, *upstream.checked))
    assert all(t.problem for t in spec.timed)
    assert "keeps tensors in global names of its module: answers" in said(
        record, "keeping_results.py"
    )


def test_an_ignored_mask_is_right_upstream_and_wrong_as_specified(record: Leaderboard) -> None:
    spec, upstream = inspections(record, "no_mask.py")
    assert upstream.checked
    assert not upstream.failures("final", "tests")
    assert {c.workload for c in spec.failures("final", "tests")} == {
        "n6_b2_d16_mask_normal",
        "n4_b1_d8_mask_normal",
    }
    assert "it ignores the mask" in said(record, "no_mask.py")
    assert (entry(record, "no_mask.py").reason or "").startswith("wrong on 2 of 3 specified cases")
    assert entry(record, "no_mask.py").fresh_us is not None


def test_changed_inputs_are_rejected_and_told(record: Leaderboard) -> None:
    for name in ("mutating.py", "aliasing.py"):
        spec, _ = inspections(record, name)
        assert {c.check for c in spec.checked} == {"inputs_changed"}
        assert said(record, name).startswith("changes its inputs (input x")
    assert "returns memory of its input: input" in said(record, "aliasing.py")
    assert "returns memory of its input" not in said(record, "mutating.py")


def test_changed_settings_and_attributes_are_told(record: Leaderboard) -> None:
    words = said(record, "flags.py")
    assert (
        "changes torch's global settings and leaves them changed: cuda.matmul.allow_tf32" in words
    )
    assert "sets attributes on the caller's tensors: input.seen" in words
    assert "replaces values in the caller's dictionaries: config['dim']" in words
    assert entry(record, "flags.py").reason is None


def test_after_a_crash_the_next_workload_is_still_looked_at(record: Leaderboard) -> None:
    spec, _ = inspections(record, "crashing.py")
    outcome = {c.workload: (c.split, c.status, c.check) for c in spec.checked}
    assert outcome == {
        "n5_b1_d16_nomask_normal": ("final", Status.PASSED, ""),
        "n6_b2_d16_mask_normal": ("final", Status.PASSED, ""),
        "n4_b1_d8_mask_normal": ("tests", Status.RUNTIME_ERROR, "run"),
        "n7_b1_d8_mask_normal": ("held_out", Status.RUNTIME_ERROR, "exit"),
    }
    assert "fails on the held-out shape n7_b1_d8_mask_normal" in said(record, "crashing.py")
    assert all(t.fresh for t in spec.timed)


def test_files_that_are_no_submissions_are_rows_with_the_reason(record: Leaderboard) -> None:
    assert "defines no custom_kernel" in (entry(record, "other.py").reason or "")
    assert "is no Python" in (entry(record, "broken.py").reason or "")
    assert "cannot be read: No such file" in (entry(record, "absent.py").reason or "")


def test_ranks_are_those_that_are_right_by_fresh_time(record: Leaderboard) -> None:
    ranked = [(rank, e) for rank, e in record.ranked() if rank is not None]
    assert [rank for rank, _ in ranked] == [1, 2, 3, 4]
    assert {e.name for _, e in ranked} == {
        "honest.py",
        "caching.py",
        "once_per_dictionary.py",
        "flags.py",
    }
    times = [e.fresh_us or 0 for _, e in ranked]
    assert times == sorted(times)
    assert len(record.ranked()) == len(record.entries) == len(SUBMISSIONS) + 1


class Failing:
    """An evaluator that fails on upstream's variant."""

    def inspect(self, task: str, candidate: Candidate, *, timed: bool = True) -> Inspection:
        if not timed:
            raise InfraError("the judge ended twice")
        return Inspection(task, "1", "torch")


def test_a_fault_of_the_harness_leaves_what_was_known_before_it() -> None:
    kept = _inspected(Failing(), BOARD, Entry("a", "0" * 16), Candidate("triton", "x"))
    assert kept.specified == Inspection("toy@spec", "1", "torch")
    assert kept.upstream is None
    assert kept.reason == "the harness failed on it: the judge ended twice"
    assert findings(kept)[-1] == kept.reason


def test_no_file_that_is_a_submission_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"None of the files.*\n  a.py: cannot be read"):
        run([tmp_path / "a.py"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    files = [tmp_path / name / "kernel.py" for name in ("a", "b", "b")]
    with pytest.raises(UsageError) as caught:
        run(files, tmp_path / "out")
    shown = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert shown == ["a/kernel.py", "b/kernel.py (1)", "b/kernel.py (2)"]


def test_an_unknown_leaderboard_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'trimul'"):
        named_board("trimull")


# The record.


def test_the_record_is_whole_and_names_no_path(folder: Path, record: Leaderboard) -> None:
    text = (folder / RECORD).read_text(encoding="utf-8")
    data = json.loads(text)
    assert data["scored"] == "fresh"
    assert {"format", "date", "hardware", "git", "machine", "packages", "evaluator"} <= set(data)
    assert str(folder.parent) not in text
    rows = {row["name"]: row for row in data["entries"]}
    assert rows["honest.py"]["rank"] in (1, 2, 3, 4)
    assert rows["honest.py"]["fresh_us"] == entry(record, "honest.py").fresh_us
    assert rows["no_mask.py"]["findings"] == findings(entry(record, "no_mask.py"))


def test_an_inspection_comes_back_from_its_json(record: Leaderboard) -> None:
    for inspection in inspections(record, "crashing.py"):
        text = json.dumps(inspection_to_json(inspection))
        assert inspection_from_json(json.loads(text)) == inspection


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no JSON"), ('{"format": 9}', "another format"), ('{"format": 1}', "not whole")],
)
def test_a_damaged_record_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / RECORD).write_text(text, encoding="utf-8")
    with pytest.raises(LogError, match=message):
        read_leaderboard(tmp_path)


def test_a_folder_without_a_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"has no leaderboard\.json"):
        read_leaderboard(tmp_path)


# The words and the page, of made-up times.


def timed(name: str, fresh: float, reused: float, problem: str | None = None) -> Timed:
    return Timed(name, 100.0, (fresh,) * 3, (reused,) * 3, (1000.0,) * 3, 5.0, problem)


def made_up(*entries: tuple[str, float, float]) -> Leaderboard:
    passed = tuple(Checked(f"w{i}", "final", Status.PASSED) for i in range(2))
    rows = [
        Entry(
            name,
            "0" * 16,
            None,
            Inspection("t", "1", "torch", passed, (timed("w0", f, r), timed("w1", f, r))),
            Inspection("u", "1", "torch", passed),
        )
        for name, f, r in entries
    ]
    evaluator = {"device": "NVIDIA H200", "clock": "CUDA events"}
    return Leaderboard(
        "trimul", "TriMul", "2026-01-02T03:04:05+00:00", False, {"commit": "c"}, {},
        {"torch": "2.11", "triton": "3.6"}, evaluator, tuple(rows),
    )  # fmt: skip


def test_a_timer_that_reuses_its_inputs_would_rank_otherwise_and_the_page_says_so() -> None:
    record = made_up(("steady", 853.0, 845.0), ("keeper", 1168.0, 959.0), ("slow", 1017.0, 1005.0))
    assert [e.name for _, e in record.ranked()] == ["steady", "slow", "keeper"]
    (sentence,) = findings(record.entries[1])
    assert sentence.startswith("takes 1.22 times as long with fresh inputs as with reused ones")
    assert not findings(record.entries[0])
    assert "would show 959 µs for keeper instead of 1,168" in "\n".join(answers(record))
    assert "853 µs with fresh inputs on NVIDIA H200" in answers(record)[0]


def test_a_time_that_counts_for_nothing_takes_the_rank() -> None:
    record = made_up(("a", 853.0, 845.0))
    (first,) = record.entries
    assert first.specified is not None
    bad = timed("w1", 1.0, 1.0, "floor: 1.0 us is below the roofline floor of 100.0 us")
    spec = replace(first.specified, timed=(first.specified.timed[0], bad))
    changed = replace(first, specified=spec)
    assert changed.reason == f"no valid time on w1: {bad.problem}"
    assert "has no valid time on w1: floor" in "\n".join(findings(changed))


def test_a_submission_that_does_not_build_is_told_by_its_first_line() -> None:
    failed = Inspection("t", "1", "torch", build_failure="line 3: no such name\nand more")
    broken = Entry("a", "0" * 16, None, failed, failed)
    assert broken.reason == "does not build: line 3: no such name"
    assert findings(broken) == ["does not build: line 3: no such name"]


def test_what_two_workers_saw_is_added_up() -> None:
    both = Observed(("a",), calls=2, reused_outputs=1).merged(Observed(("b", "a"), calls=3))
    assert both == Observed(("a", "b"), calls=5, reused_outputs=1)


def test_the_printed_table_has_every_submission_and_its_findings(record: Leaderboard) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_leaderboard(record, console)
    text = console.export_text()
    assert all(text.count(name) >= 2 for name in SUBMISSIONS)
    assert "mean nothing" in text
    assert "Scored: fresh" in text
    assert re.search(r"^-\s+no_mask.py\s+3 of 3\s+1 of 3\s+0 of 1", text, re.MULTILINE)


def test_the_page_stands_alone_and_names_hardware_date_and_what_is_scored(
    folder: Path, record: Leaderboard
) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!#|[a-z_0-9]+\.(?:csv|md|tex)\")", text)
    assert "<script" not in text
    for shown in (record.hardware, record.date[:10], "Fresh, µs (scored)", "Reused, µs"):
        assert escape(shown) in text
    assert "they mean nothing" in text
    assert all(name in text for name in SUBMISSIONS)
    assert "weights[&#39;packed&#39;]" in text
    assert str(folder.parent) not in text


def test_the_page_shows_published_times_apart_and_with_their_hardware(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    measured, _, published = text.partition('<section id="published">')
    assert "K-Search" not in measured
    assert published.index("Published times: NVIDIA H100") < published.index("NVIDIA H200")
    assert "not measured by this run; NVIDIA H100, PyTorch 2.8.0+cu128" in published


def test_every_table_is_there_in_three_formats(folder: Path) -> None:
    names = ("leaderboard", "workloads", "verdicts", "findings", "published_h100",
             "remeasured_h200")  # fmt: skip
    for name in names:
        for suffix in ("csv", "md", "tex"):
            assert (folder / f"{name}.{suffix}").stat().st_size > 100, (name, suffix)
    header = (folder / "leaderboard.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "fresh_us,reused_us,fresh_over_reused" in header


def test_building_the_page_again_gives_the_same_bytes(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    build_page(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_the_published_tables_have_hardware_software_and_sources() -> None:
    shown = read_published("trimul")
    assert [p.table.name for p in shown] == ["published_h100", "remeasured_h200"]
    for published in shown:
        facts = dict(published.facts)
        assert facts["hardware"] in published.table.title
        assert facts["software"]
        assert facts["measured by"]
        numbers = {c.key for c in published.table.columns if c.kind == "number"}
        of = {name for keys, _ in published.sources for name in keys.split(", ")}
        assert numbers - {"fresh_over_reused"} <= of
        assert all(len(what) > 20 for _, what in published.sources)
    rows = {row[0]: row for row in shown[0].table.rows}
    assert rows["shiyegao"][1:4] == ("1.074", "1.067", "0.0013")
    assert rows["K-Search"][1:3] == (None, "1.028")


def test_a_leaderboard_without_published_tables_has_none() -> None:
    assert read_published("toy") == ()


# The command.


def test_the_command_has_examples_and_its_page_is_current() -> None:
    result = CliRunner().invoke(cli.app, ["leaderboard", "--help"])
    assert result.exit_code == 0
    assert "harness leaderboard trimul" in result.output


def test_the_command_refuses_an_unknown_leaderboard(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli.app, ["leaderboard", "matmul", "a.py", "--out", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, UnknownName)
    assert not (tmp_path / "out").exists()
