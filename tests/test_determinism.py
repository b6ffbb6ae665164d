"""The same comparison twice, with the simulated model and cached evaluations: equal tables."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from real_comparison import (
    essence,
    filled_cache,
    harness,
    request,
    tables,
    undisturbed,
)

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another hash seed, thread count, number of jobs, working directory and order of folders."""
    folder = tmp_path_factory.mktemp("elsewhere")
    changes = {"PYTHONHASHSEED": "4242", **dict.fromkeys(THREADS, "1")}
    arguments = [*request(filled_cache()), "--runs", "runs", "--jobs", "1"]
    status, text = harness(*arguments, changes=changes, folder=folder)
    assert status == 0, text
    return folder / "runs"


def rows(runs: Path, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables(runs)[table].decode())))


def test_another_hash_seed_thread_count_job_count_and_folder_give_the_same_bytes(
    elsewhere: Path,
) -> None:
    assert tables(elsewhere) == tables(undisturbed())


def test_four_jobs_with_more_threads_than_cores_give_the_same_bytes(tmp_path: Path) -> None:
    changes = {"PYTHONHASHSEED": "1", **dict.fromkeys(THREADS, "5"), "TZ": "Asia/Tokyo"}
    arguments = [*request(filled_cache()), "--runs", str(tmp_path / "runs"), "--jobs", "4"]
    status, text = harness(*arguments, changes=changes, folder=tmp_path)
    assert status == 0, text
    assert tables(tmp_path / "runs") == tables(undisturbed())


def test_the_logs_are_equal_too_apart_from_the_time_of_day(elsewhere: Path) -> None:
    assert essence(elsewhere) == essence(undisturbed())


def test_a_report_that_is_built_again_has_the_same_bytes(elsewhere: Path) -> None:
    before = tables(elsewhere)
    page = (elsewhere / "report" / "index.html").read_bytes()
    assert harness("report", str(elsewhere))[0] == 0
    assert tables(elsewhere) == before
    assert (elsewhere / "report" / "index.html").read_bytes() == page


def test_a_cached_run_charges_the_seconds_that_were_measured() -> None:
    measured = rows(filled_cache().parent / "runs", "cost.csv")
    cached = rows(undisturbed(), "cost.csv")
    for name in ("llm_seconds", "build_seconds", "device_seconds", "evaluation_seconds"):
        assert [row[name] for row in cached] == [row[name] for row in measured]
        assert all(float(row[name]) > 0 for row in cached), name
    evaluated = Counter(
        folder.split("/")[2]
        for folder, events in essence(undisturbed()).items()
        for event in events
        if event["kind"] == "evaluation" and event["charge"] and event["candidate"]
    )
    assert [int(row["cached"]) for row in cached] == list(evaluated.values())


def test_a_cached_confirmation_is_the_recorded_one() -> None:
    first, second = (
        json.loads((runs / "confirm" / "matmul.json").read_text())
        for runs in (filled_cache().parent / "runs", undisturbed())
    )
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert first == second
