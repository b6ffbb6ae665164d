"""harness/baselines.py, and scores against other baselines in the report."""

import json
from pathlib import Path

import pytest

from harness.baselines import read_baselines, time_baselines
from harness.errors import LogError, UsageError
from reports.build import build_report
from tests.fake_comparison import Plan, write_comparison

OTHER = {
    "task": "matmul", "first": "torch", "name": "compiled", "version": "1", "score": 2.0,
    "low": 1.9, "high": 2.1, "problem": "",
}  # fmt: skip


def write(folder: Path, rows: list[dict[str, object]]) -> None:
    record = {"format": 1, "kind": "baselines", "date": "2026", "device": "a GPU",
              "baselines": rows}  # fmt: skip
    (folder / "baselines.json").write_text(json.dumps(record))


def test_a_report_shows_every_score_against_another_baseline(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, Plan())
    assert "Scores against other baselines" not in build_report(folder).page.read_text()
    task = json.loads((folder / "comparison.json").read_text())["resolved"]["tasks"][0]
    broken = OTHER | {"task": task, "name": "broken", "score": None, "problem": "TIMEOUT, run"}
    write(folder, [OTHER | {"task": task}, broken])
    page = build_report(folder).page.read_text()
    assert "Scores against other baselines" in page
    assert "a GPU, 2026" in page
    lines = (folder / "report" / "other_baselines.csv").read_text().splitlines()
    header, row, *_ = (line.split(",") for line in lines)
    cells = dict(zip(header, row, strict=False))
    assert float(cells["against"]) == pytest.approx(float(cells["score"]) / 2, rel=1e-3)
    assert any("TIMEOUT" in line for line in lines)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    assert read_baselines(tmp_path) == ("", [])
    (tmp_path / "baselines.json").write_text("[]")
    with pytest.raises(LogError, match="harness baselines"):
        read_baselines(tmp_path)


def test_a_comparison_that_was_judged_against_another_baseline_is_refused(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, Plan())
    data = json.loads((folder / "comparison.json").read_text())
    data["cards"] = {"trimul@spec": {"baseline": "FlashInfer"}}
    (folder / "comparison.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"judged against FlashInfer on trimul@spec, here"):
        time_baselines("trimul", ["trimul@spec"], folder, print)
    assert not (folder / "baselines.json").exists()


def test_a_suite_without_other_baselines_is_told() -> None:
    with pytest.raises(UsageError, match="one baseline only"):
        time_baselines("tests.toy_suite:suite", [], None, print)
