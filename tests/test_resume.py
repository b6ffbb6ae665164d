"""Resume is replay: a run killed anywhere continues as if it had not been."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import toy_run
from toy_run import ToyClient, ToyEvaluator, essence, run, toy_method, toy_spec

from harness.budget import Budget
from harness.errors import EndpointError, InfraError, LogError, QuotaExhausted, ReplayMismatch
from harness.replay import replay_run
from harness.runlog import abandoned_attempts, read_events, restart
from harness.search import read_summary
from harness.types import Candidate, NoCode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    summary = run(toy_spec(folder))
    return folder, summary


def interrupted_copy(source: Path, target: Path, log: bytes) -> Path:
    if not target.exists():
        shutil.copytree(source, target)
    (target / "events.jsonl").write_bytes(log)
    return target


def test_a_log_cut_after_any_event_is_continued_to_the_same_events(undisturbed, tmp_path):
    folder, summary = undisturbed
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        copy = interrupted_copy(folder, tmp_path / "copy", b"".join(lines[:count]))
        assert run(toy_spec(copy)) == summary, count
        assert essence(copy) == essence(folder), count


def test_a_last_line_torn_at_any_byte_is_dropped_and_written_again(undisturbed, tmp_path):
    folder, summary = undisturbed
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    reply = next(n for n, line in enumerate(lines) if b'"kind":"llm"' in line)
    for number, step in ((reply, 7), (len(lines) - 1, 1)):
        whole = b"".join(lines[:number])
        for size in range(0, len(lines[number]), step):
            copy = interrupted_copy(folder, tmp_path / "copy", whole + lines[number][:size])
            assert run(toy_spec(copy)) == summary
            assert essence(copy) == essence(folder)


def test_recorded_answers_are_not_asked_for_again(undisturbed, tmp_path):
    folder, _ = undisturbed
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    copy = interrupted_copy(folder, tmp_path / "copy", b"".join(lines[:-1]))
    client, evaluator = ToyClient(), ToyEvaluator()
    run(toy_spec(copy), client, evaluator)
    assert (client.calls, evaluator.evaluated) == (0, [])


def test_a_kill_between_intent_and_reply_costs_one_call_and_no_second_intent(undisturbed, tmp_path):
    folder, _ = undisturbed
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if b'"kind":"llm_intent"' in line)
    copy = interrupted_copy(folder, tmp_path / "copy", b"".join(lines[: last + 1]))
    client = ToyClient()
    run(toy_spec(copy), client)
    assert client.calls == 1
    kinds = [e["kind"] for e in read_events(copy)]
    assert kinds.count("llm_intent") == kinds.count("llm")


def test_a_finished_run_is_left_alone(undisturbed, tmp_path):
    folder, summary = undisturbed
    before = (folder / "events.jsonl").read_bytes()
    assert run(toy_spec(folder)) == summary == read_summary(folder)
    assert (folder / "events.jsonl").read_bytes() == before


def test_kill_minus_nine_at_random_instants_loses_and_doubles_nothing(tmp_path):
    script = Path(toy_run.__file__)
    root = script.parent.parent

    def start(folder):
        return subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.DEVNULL,
        )

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    instants = random.Random(1)
    kills = 0
    while True:
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=duration * instants.uniform(0.5, 0.95) if kills < 4 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        break
    assert process.returncode == 0
    assert kills >= 1
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")


@pytest.mark.parametrize("error", [EndpointError("503"), QuotaExhausted("no quota left")])
@pytest.mark.parametrize("call", [1, 4, 7])
def test_a_failing_endpoint_pauses_the_run_which_then_continues_as_if_it_had_not(
    undisturbed, tmp_path, error, call
):
    class Failing(ToyClient):
        def complete(self, request, occurrence):
            if self.calls == call:
                raise error
            return super().complete(request, occurrence)

    paused = run(toy_spec(tmp_path), Failing())
    assert (paused.status, paused.reason) == ("paused", str(error))
    run(toy_spec(tmp_path))
    assert essence(tmp_path) == essence(undisturbed[0])


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_a_method_that_swallows_everything_does_not_hide_a_failing_endpoint(tmp_path, swallowed):
    def stubborn(problem):
        while True:
            with contextlib.suppress(swallowed):
                problem.llm.complete("x", purpose="propose")
            yield NoCode("gave up")

    class Failing(ToyClient):
        def complete(self, request, occurrence):
            raise EndpointError("503")

    summary = run(toy_spec(tmp_path, stubborn), Failing())
    assert (summary.status, summary.reason, summary.charges) == ("paused", "503", 0)


def test_a_failing_evaluator_pauses_the_run_uncharged_also_within_a_list(undisturbed, tmp_path):
    class Failing(ToyEvaluator):
        def evaluate(self, task, candidate):
            if len(self.evaluated) == 5:
                raise InfraError("device lost")
            return super().evaluate(task, candidate)

    for _ in range(3):
        summary = run(toy_spec(tmp_path), None, Failing())
        if summary.status == "finished":
            break
        assert summary.reason == "device lost"
    run(toy_spec(tmp_path))
    assert essence(tmp_path) == essence(undisturbed[0])


@pytest.mark.parametrize("count", [0, 1, 3, 8, 14])
def test_a_stop_pauses_at_a_safe_point_and_the_rest_follows_on_resume(undisturbed, tmp_path, count):
    stop = threading.Event()
    reports = []

    def watch(progress):
        reports.append(progress)
        if len(reports) > count:
            stop.set()

    summary = run(toy_spec(tmp_path), stop=stop, on_progress=watch)
    assert (summary.status, summary.reason) == ("paused", "stopped on request")
    run(toy_spec(tmp_path))
    assert essence(tmp_path) == essence(undisturbed[0])


def test_clean_up_code_of_a_paused_method_writes_nothing(tmp_path):
    def tidy(problem):
        try:
            while True:
                yield NoCode("nothing")
        finally:
            problem.record("last", {"left": problem.charges_left})

    stop = threading.Event()
    run(toy_spec(tmp_path), stop=stop)
    stop.set()
    paused = run(toy_spec(tmp_path / "paused", tidy), stop=stop)
    assert paused.status == "paused"
    run(toy_spec(tmp_path / "paused", tidy))
    run(toy_spec(tmp_path / "whole", tidy))
    assert essence(tmp_path / "paused") == essence(tmp_path / "whole")


def test_another_prompt_is_a_mismatch_that_shows_the_first_differing_line(undisturbed, tmp_path):
    folder, _ = undisturbed

    def other(problem):
        problem.llm.complete("plan 1 another text", purpose="world-model")
        yield NoCode("nothing")

    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    copy = interrupted_copy(folder, tmp_path / "copy", b"".join(lines[:-1]))
    with pytest.raises(ReplayMismatch) as caught:
        run(toy_spec(copy, other))
    message = str(caught.value)
    assert "recorded: plan 1 PASSED: score 1.0000" in message
    assert "now:      plan 1 another text" in message
    assert "--restart" in message
    assert "c0ffee" in message


@pytest.mark.parametrize(
    "search",
    [
        lambda problem: iter_of(NoCode("other reason")),
        lambda problem: iter_of(Candidate("cpp", "// score 0.9\n// other\n")),
        lambda problem: iter_of(),
        lambda problem: iter_of([Candidate("cpp", "// score 0.9\n"), NoCode("other")]),
    ],
)
def test_another_proposal_is_a_mismatch(tmp_path, search):
    def two(problem):
        yield Candidate("cpp", "// score 0.9\n")
        yield Candidate("cpp", "// score 0.9\n")

    def broken(problem):
        yield from two(problem)
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(toy_spec(tmp_path, broken))
    with pytest.raises(ReplayMismatch):
        run(toy_spec(tmp_path, search))


def iter_of(*proposals):
    for index in range(len(proposals)):
        yield proposals[index]


def test_a_method_that_raises_is_paused_and_continues_after_a_fix(tmp_path):
    broken = True

    def buggy(problem):
        yield Candidate("cpp", "// score 0.9\n")
        if broken:
            raise KeyError("a bug")
        yield Candidate("cpp", "// score 1.5\n")

    with pytest.raises(KeyError):
        run(toy_spec(tmp_path, buggy))
    assert read_summary(tmp_path).reason == "method raised KeyError: 'a bug'"
    broken = False
    summary = run(toy_spec(tmp_path, buggy))
    assert (summary.reason, summary.charges, summary.best_score) == ("method finished", 2, 1.5)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A method package that a test can change."""
    folder = tmp_path / "code" / "changing_method"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("first\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def spec_with_package(folder, search):
    return replace(
        toy_spec(folder, search), method=replace(toy_method(search), package="changing_method")
    )


def test_changed_code_of_the_method_is_refused_with_the_first_differing_line(tmp_path, package):
    stop = threading.Event()
    stop.set()
    run(spec_with_package(tmp_path / "run", toy_run.walk), stop=stop)
    (package / "__init__.py").write_text("second\n")
    with pytest.raises(ReplayMismatch) as caught:
        run(spec_with_package(tmp_path / "run", toy_run.walk))
    for words in ("changing_method/__init__.py, line 1", "first", "second", "c0ffee", "--restart"):
        assert words in str(caught.value)


def test_changed_code_is_accepted_where_the_methods_own_error_paused_the_run(tmp_path, package):
    def buggy(problem):
        yield NoCode("nothing")
        raise KeyError("a bug")

    def fixed(problem):
        yield NoCode("nothing")

    with pytest.raises(KeyError):
        run(spec_with_package(tmp_path / "run", buggy))
    (package / "__init__.py").write_text("second\n")
    assert run(spec_with_package(tmp_path / "run", fixed)).reason == "method finished"
    attempts = [e for e in read_events(tmp_path / "run") if e["kind"] == "attempt"]
    assert "code_hash" not in attempts[0]
    assert "code_hash" in attempts[1]


def test_a_folder_of_another_run_is_refused(undisturbed, tmp_path):
    lines = (undisturbed[0] / "events.jsonl").read_bytes().splitlines(keepends=True)
    copy = interrupted_copy(undisturbed[0], tmp_path / "copy", b"".join(lines[:-1]))
    with pytest.raises(LogError, match="seed 7, asked for is 8"):
        run(replace(toy_spec(copy), seed=8))
    with pytest.raises(LogError, match="budget"):
        run(toy_spec(copy, budget=Budget(charges=9)))


def test_restart_keeps_the_old_attempt_and_its_cost_and_starts_over(undisturbed, tmp_path):
    folder, summary = undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert restart(copy) == copy / "attempts" / "1"
    assert run(toy_spec(copy)) == summary
    assert restart(copy) == copy / "attempts" / "2"
    kept = abandoned_attempts(copy)
    assert [path.name for path in kept] == ["1", "2"]
    assert [read_summary(path) for path in kept] == [summary, summary]


def test_the_log_of_a_finished_run_explains_it(undisturbed):
    folder, _ = undisturbed
    before = sorted(folder.rglob("*"))
    report = replay_run(toy_spec(folder))
    assert report.explained, report.message
    assert report.code_changed is False
    assert sorted(folder.rglob("*")) == before


def test_a_finished_run_of_another_method_is_not_explained_by_the_log(undisturbed):
    folder, _ = undisturbed

    def shorter(problem):
        whole = toy_run.walk(problem)
        evaluation = yield next(whole)
        yield whole.send(evaluation)

    report = replay_run(toy_spec(folder, shorter))
    assert not report.explained


def test_a_paused_run_is_not_explained_yet(tmp_path):
    stop = threading.Event()
    stop.set()
    run(toy_spec(tmp_path), stop=stop)
    report = replay_run(toy_spec(tmp_path))
    assert not report.explained
    assert "not finished" in report.message


def test_a_replayed_method_sees_exactly_what_the_live_one_saw(tmp_path):
    seen = []

    def curious(problem):
        seen.append(problem.start_evaluation)
        while True:
            reply = problem.llm.complete("x", purpose="propose")
            seen.append(reply)
            evaluation = yield problem.candidate_from(reply)
            seen.extend([evaluation, evaluation.samples_us, evaluation.cached])

    run(toy_spec(tmp_path, curious))
    live = list(seen)
    seen.clear()
    assert replay_run(toy_spec(tmp_path, curious)).explained
    assert seen == live
