"""The run folder: one writer, whole events, and nothing lost when the disk or a process fails."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_run import run, toy_evaluation, toy_spec

from harness.errors import EnvironmentMissing, LogError
from harness.journal import cut
from harness.runlog import (
    MAX_EVENT_BYTES,
    RunLog,
    read_blob,
    read_events,
    read_manifest,
    read_samples,
    read_text,
)
from harness.types import Candidate, NoCode

ROOT = Path(__file__).parent.parent


def opened(folder):
    log = RunLog.open(folder)
    if log.manifest is None:
        log.write_manifest({"kind": "run"})
    return log


def write_log(folder, data):
    with opened(folder):
        pass
    (folder / "events.jsonl").write_bytes(data)


def test_events_are_numbered_without_gaps_over_several_openings(tmp_path):
    for _ in range(2):
        with opened(tmp_path) as log:
            log.append("record", {"a": 1})
            log.append("record", {"a": 2}, sync=True)
    assert [e["i"] for e in read_events(tmp_path)] == [0, 1, 2, 3]


def test_a_second_writer_is_told_the_process_that_writes(tmp_path):
    with opened(tmp_path), pytest.raises(LogError, match=f"process {os.getpid()}"):
        RunLog.open(tmp_path)
    RunLog.open(tmp_path).close()


def test_the_lock_of_a_killed_writer_is_free(tmp_path):
    code = (
        "import sys, os, pathlib\nfrom harness.runlog import RunLog\n"
        "log = RunLog.open(pathlib.Path(sys.argv[1]))\nos.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False)
    assert killed.returncode == -9
    RunLog.open(tmp_path).close()


def test_a_torn_last_line_is_passed_over_by_readers_and_dropped_by_the_next_writer(tmp_path):
    whole = b'{"i":0,"t":1,"kind":"attempt"}\n'
    write_log(tmp_path, whole + b'{"i":1,"t":2,"ki')
    assert len(list(read_events(tmp_path))) == 1
    assert (tmp_path / "events.jsonl").read_bytes() != whole
    with opened(tmp_path) as log:
        assert len(log.events) == 1
    assert (tmp_path / "events.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    "line", [b"garbage", b"{}", b'{"i":5,"kind":"x"}', b"[1]", b"\0\0\0", b'"i"', b"\xff"]
)
def test_a_damaged_line_inside_the_log_is_an_error_that_names_it(tmp_path, line):
    data = b'{"i":0,"kind":"a"}\n' + line + b'\n{"i":2,"kind":"c"}\n'
    write_log(tmp_path, data)
    with pytest.raises(LogError, match=r"line 2.*--restart"):
        RunLog.open(tmp_path)
    with pytest.raises(LogError, match="line 2"):
        list(read_events(tmp_path))
    assert (tmp_path / "events.jsonl").read_bytes() == data


@pytest.mark.parametrize("text", ['{"format": 2}', "{}", "[]", "not json"])
def test_a_manifest_of_another_format_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LogError, match=r"manifest\.json"):
        RunLog.open(tmp_path)


def test_events_without_a_manifest_are_refused(tmp_path):
    write_log(tmp_path, b'{"i":0,"kind":"a"}\n')
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(LogError, match=r"no manifest\.json"):
        RunLog.open(tmp_path)


def test_the_manifest_carries_the_format_and_is_replaced_atomically(tmp_path):
    with opened(tmp_path) as log:
        log.write_manifest({"kind": "run", "seed": 1})
    assert read_manifest(tmp_path) == {"format": 1, "kind": "run", "seed": 1}
    assert not (tmp_path / ".partial").exists()


@given(st.text(st.characters()) | st.binary())
@settings(max_examples=50)
def test_any_text_or_bytes_come_back_from_a_blob(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "blobs"
    with opened(folder) as log:
        name = log.put_blob(content)
    if isinstance(content, str):
        assert read_text(folder, name) == content
    else:
        assert read_blob(folder, name) == content


def test_equal_content_is_one_file_with_equal_bytes(tmp_path):
    with opened(tmp_path / "a") as one, opened(tmp_path / "b") as two:
        names = {one.put_blob("x"), one.put_blob(b"x"), two.put_blob("x")}
    files = [p for p in tmp_path.rglob("*.gz")]
    assert len(names) == 1
    assert len(files) == 2
    assert len({p.read_bytes() for p in files}) == 1


def test_a_missing_or_damaged_blob_is_a_log_error(tmp_path):
    with opened(tmp_path) as log:
        name = log.put_blob("content")
    path = next(tmp_path.rglob("*.gz"))
    for data in (b"", b"no gzip", path.read_bytes()[:-3], gzip.compress(b"other")):
        path.write_bytes(data)
        with pytest.raises(LogError, match=name):
            read_blob(tmp_path, name)
    path.unlink()
    with pytest.raises(LogError, match="missing"):
        read_blob(tmp_path, name)


def test_samples_come_back_per_workload_and_side_padded_with_nan(tmp_path):
    evaluation = toy_evaluation(Candidate("cpp", "// score 2.0"))
    with opened(tmp_path) as log:
        name = log.put_samples(4, evaluation)
    array = read_samples(tmp_path, name)
    assert (name, array.shape, array.dtype) == ("samples/4.npy", (2, 2, 3), np.float32)
    assert array[0, 0].tolist() == [5.0, 5.0, 5.0]
    assert np.isnan(array[0, 1]).tolist() == [False, False, True]


def test_an_event_over_the_limit_is_refused_and_leaves_the_log_as_it_was(tmp_path):
    with opened(tmp_path) as log:
        with pytest.raises(ValueError, match="bytes"):
            log.append("record", {"data": "x" * MAX_EVENT_BYTES})
        log.append("record", {"data": "x"})
    assert [e["i"] for e in read_events(tmp_path)] == [0]


@given(st.text(st.characters()), st.integers(1, 300))
def test_a_cut_text_fits_and_is_a_beginning(text, limit):
    short = cut(text, limit)
    assert text.startswith(short)
    assert len(json.dumps(short)) - 2 <= limit
    if len(json.dumps(text)) - 2 <= limit:
        assert short == text


@pytest.mark.parametrize("character", ["x", "\u4e2d", "\U0001f600", "\ud800", "\\", "\0"])
def test_events_stay_within_two_kilobytes_whatever_a_method_writes(tmp_path, character):
    def wordy(problem):
        note = character * 5000
        yield Candidate("cpp", "// score 1.5\n", parent=note, note=note)
        yield Candidate("cpp", "// score 0.1\n", parent=note, note=note)
        yield NoCode(note)
        problem.record("words", {"text": character * 700})

    assert run(toy_spec(tmp_path, wordy)).charges == 3
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert max(len(line) for line in lines) <= MAX_EVENT_BYTES


def test_writers_in_several_threads_keep_every_event_whole(tmp_path):
    with opened(tmp_path) as log:
        threads = [
            threading.Thread(target=lambda: [log.append("record", {}) for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [e["i"] for e in read_events(tmp_path)] == list(range(200))


FULL_DISK = """
import pathlib, resource, sys
sys.path.insert(0, "tests")
from toy_run import run, toy_spec
from harness.errors import EnvironmentMissing
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    run(toy_spec(pathlib.Path(sys.argv[1])))
except EnvironmentMissing as error:
    print(error)
"""


def test_a_disk_that_fills_in_the_middle_of_a_line_loses_nothing(tmp_path):
    run(toy_spec(tmp_path / "whole"))
    whole = (tmp_path / "whole" / "events.jsonl").read_bytes()
    limit = len(whole) // 2
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "full", str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "free some space, then continue with `harness resume`" in process.stdout
    kept = (tmp_path / "full" / "events.jsonl").read_bytes()
    assert kept.endswith(b"\n")
    assert len(kept) > limit - MAX_EVENT_BYTES
    assert run(toy_spec(tmp_path / "full")).status == "finished"


def test_a_folder_that_cannot_be_written_is_a_missing_permission():
    with pytest.raises(EnvironmentMissing, match="RUNS="):
        RunLog.open(Path("/sys/kernel-search-run"))  # closed to root too


def test_a_path_through_a_file_is_a_log_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="file"):
        RunLog.open(tmp_path / "file" / "run")


def test_reading_writes_nothing(tmp_path):
    run(toy_spec(tmp_path))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    log = RunLog.read(tmp_path)
    log.put_blob("something new")
    with pytest.raises(LogError, match="not open for writing"):
        log.append("record", {})
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(LogError, match="not a run folder"):
        RunLog.read(tmp_path)
