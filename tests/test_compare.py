"""A comparison from request to report, with the simulated model and a toy evaluator."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import toy_methods
from rich.console import Console
from toy_evaluator import ToyEvaluator, maker, score_of

from harness import compare as comparing
from harness.compare import FINISHED, INCOMPLETE, INTERRUPTED, compare, resume
from harness.config import ComparisonRequest
from harness.confirm import Contender, RunContenders, confirm_task, contenders
from harness.errors import EnvironmentMissing, InfraError, LogError, UsageError
from harness.folder import locked, read_unstarted
from harness.live import LiveView, RunView
from harness.manifest import write_device_lock
from harness.replays import replay_runs
from harness.types import Candidate, Confirmation, Failed, JsonObject, Passed

SMALL = ComparisonRequest(tasks="softmax", methods="best_of_n ksearch[k=1]", seeds="2", budget="3")


def run(
    folder: Path, request: ComparisonRequest = SMALL, evaluator: ToyEvaluator | None = None
) -> tuple[int, str]:
    """(exit status, what was shown)."""
    shown = io.StringIO()
    status = compare(
        request,
        folder,
        jobs=3,
        make_evaluator=maker(evaluator or ToyEvaluator()),
        console=Console(file=shown, width=200),
    )
    return status, shown.getvalue()


def essence(folder: Path) -> dict[str, list[str]]:
    """Every run's events without what an interruption may change."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("runs/*/*/*/events.jsonl")):
        lines = []
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["kind"] not in ("attempt", "paused"):
                del event["i"], event["t"]
                lines.append(json.dumps(event))
        found[path.parent.relative_to(folder).as_posix()] = lines
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed small comparison."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(folder)[0] == FINISHED
    return folder


def test_a_comparison_ends_with_runs_a_confirmation_and_a_report(finished: Path) -> None:
    assert len(list(finished.glob("runs/softmax/*/seed-*/events.jsonl"))) == 4
    assert (finished / "confirm" / "softmax.json").exists()
    assert (finished / "report" / "index.html").exists()


def test_comparison_json_keeps_what_was_asked_apart_from_what_was_resolved(finished: Path) -> None:
    data = json.loads((finished / "comparison.json").read_text())
    assert (data["format"], data["kind"]) == (1, "comparison")
    assert data["asked"]["seeds"] == "2"
    assert data["resolved"]["seeds"] == [0, 1]
    assert data["llm"]["level"] == "simulated"
    assert data["machine"]["cores"] > 0
    assert not any("host" in key for key in data["machine"])


def test_a_runs_manifest_holds_its_own_share(finished: Path) -> None:
    path = finished / "runs/softmax/ksearch_k=1_/seed-1/manifest.json"
    data = json.loads(path.read_text())
    assert [arm["name"] for arm in data["resolved"]["arms"]] == ["ksearch[k=1]"]
    assert (data["task"], data["seed"], data["baseline"]) == ("softmax", 1, "torch")


def test_two_seeds_of_one_arm_get_different_replies(finished: Path) -> None:
    runs = essence(finished)
    assert runs["runs/softmax/best_of_n/seed-0"] != runs["runs/softmax/best_of_n/seed-1"]


def test_the_logs_explain_the_runs(finished: Path) -> None:
    assert replay_runs(finished)


def test_the_number_of_jobs_changes_nothing(finished: Path, tmp_path: Path) -> None:
    evaluator = ToyEvaluator()
    status = compare(SMALL, tmp_path, jobs=1, make_evaluator=maker(evaluator))
    assert status == FINISHED
    assert essence(tmp_path) == essence(finished)
    tables = sorted((finished / "report").glob("*.csv"))
    assert tables
    for table in tables:
        assert (tmp_path / "report" / table.name).read_bytes() == table.read_bytes(), table.name


def test_a_finished_comparison_only_builds_its_report_again(finished: Path) -> None:
    evaluator = ToyEvaluator()
    status, _ = run(finished, evaluator=evaluator)
    assert (status, evaluator.evaluated, evaluator.sessions) == (FINISHED, [], [])


def test_another_comparison_in_the_same_folder_is_refused_by_what_differs(finished: Path) -> None:
    with pytest.raises(UsageError, match=r"budget: .*\"charges\": 3.*; seeds: \[0, 1\] there"):
        run(finished, SMALL.model_copy(update={"seeds": "1", "budget": "4"}))


def test_a_second_process_is_told_that_the_folder_is_taken(finished: Path) -> None:
    with locked(finished), pytest.raises(LogError, match="Another process works in"):
        run(finished)


def test_resume_without_a_comparison_says_so(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"it has no comparison\.json"):
        resume(tmp_path)


def test_the_start_is_evaluated_once_per_task(tmp_path: Path) -> None:
    evaluator = ToyEvaluator()
    run(tmp_path, evaluator=evaluator)
    card = json.loads((tmp_path / "comparison.json").read_text())["cards"]["softmax"]
    assert evaluator.evaluated.count(Candidate("cpp", card["start_source"]).id) == 1
    assert evaluator.closed


def test_a_method_that_raises_does_not_end_the_others(tmp_path: Path) -> None:
    request = SMALL.model_copy(update={"methods": "toy_methods:raising best_of_n", "seeds": "1"})
    status, shown = run(tmp_path, request)
    assert status == INCOMPLETE
    assert "ZeroDivisionError: the method has a defect" in shown
    assert "1 of 2 runs finished, 0 paused, 1 failed" in shown
    (error,) = tmp_path.glob("runs/softmax/toy_methods*/seed-0/error.txt")
    assert "raising_search" in error.read_text()
    assert (tmp_path / "report" / "index.html").exists()


def test_a_method_that_exits_does_not_end_the_process(tmp_path: Path) -> None:
    request = SMALL.model_copy(update={"methods": "toy_methods:exiting best_of_n", "seeds": "1"})
    status, _ = run(tmp_path, request)
    assert status == INCOMPLETE


def test_a_broken_evaluator_pauses_the_runs_and_resume_finishes_them(
    finished: Path, tmp_path: Path
) -> None:
    evaluator = ToyEvaluator()

    def break_later() -> None:
        evaluator.broken = len(evaluator.evaluated) >= 5

    evaluator.on_evaluate = break_later
    status, shown = run(tmp_path, evaluator=evaluator)
    assert status == INCOMPLETE
    assert f"harness resume {tmp_path}" in shown
    again = Console(file=io.StringIO())
    assert resume(tmp_path, make_evaluator=maker(ToyEvaluator()), console=again) == FINISHED
    assert essence(tmp_path) == essence(finished)


def test_ctrl_c_stops_at_a_safe_point_and_resume_finishes(finished: Path, tmp_path: Path) -> None:
    once = threading.Event()
    evaluator = ToyEvaluator()

    def interrupt() -> None:
        if len(evaluator.evaluated) >= 4 and not once.is_set():
            once.set()
            os.kill(os.getpid(), signal.SIGINT)

    evaluator.on_evaluate = interrupt
    status, shown = run(tmp_path, evaluator=evaluator)
    assert status == INTERRUPTED
    assert "Stopping at the next safe point" in shown
    assert not (tmp_path / "confirm").exists()
    again = Console(file=io.StringIO())
    assert resume(tmp_path, make_evaluator=maker(ToyEvaluator()), console=again) == FINISHED
    assert essence(tmp_path) == essence(finished)


def test_a_start_that_does_not_pass_stops_its_task_with_advice(tmp_path: Path) -> None:
    class NothingPasses(ToyEvaluator):
        pass

    evaluator = NothingPasses()
    run(tmp_path / "first", evaluator=ToyEvaluator())
    card = json.loads((tmp_path / "first/comparison.json").read_text())["cards"]["softmax"]
    evaluator.fails = {Candidate("cpp", card["start_source"]).id}
    status, shown = run(tmp_path / "second", evaluator=evaluator)
    assert status == INCOMPLETE
    assert "The starting program of task softmax does not pass on this machine" in shown


def test_runs_that_never_began_are_in_the_report_with_the_reason(tmp_path: Path) -> None:
    methods = "best_of_n toy_methods:unprepared"
    request = SMALL.model_copy(update={"methods": methods})
    status, shown = run(tmp_path, request)
    assert status == INCOMPLETE
    assert "Unprepared cannot run here: The environment of absent-1.0 could not be made." in shown
    assert "done, 2/4 runs, 6/12 charges" in shown
    assert "2 runs stopped" in shown
    assert "left" not in shown.rpartition("done, 2/4 runs")[2].splitlines()[0]
    page = (tmp_path / "report" / "index.html").read_text()
    never = "Run never started: toy_methods:unprepared on softmax, seed 0; "
    assert f"{never}toy_methods:unprepared on softmax, seed 1." in page
    assert "The environment of absent-1.0 could not be made." in page


def test_a_stop_while_methods_are_prepared_begins_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: object, say: Callable[[str], None], stop: threading.Event) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # ends no wait of the main one
        assert stop.wait(10)

    monkeypatch.setattr(type(toy_methods.unprepared.needs), "make", interrupted)
    evaluator = ToyEvaluator()
    request = SMALL.model_copy(update={"methods": "best_of_n toy_methods:unprepared"})
    status, _ = run(tmp_path, request, evaluator)
    assert (status, evaluator.evaluated) == (INTERRUPTED, [])
    assert set(read_unstarted(tmp_path).values()) == {"stopped on request, before it began"}
    monkeypatch.undo()
    monkeypatch.setattr(type(toy_methods.unprepared.needs), "make", lambda *_: None)
    assert resume(tmp_path, make_evaluator=maker(evaluator)) == FINISHED
    assert read_unstarted(tmp_path) == {}


def test_runs_whose_seeds_label_replicates_are_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "best_of_n toy_methods:replicated[steps=2]"
    run(tmp_path, SMALL.model_copy(update={"methods": methods}))
    assert replay_runs(tmp_path)
    shown = capsys.readouterr().out
    assert shown.count("not replayed, its seed labels a replicate: its threads race.") == 2
    assert "2 of 2 runs are explained by their logs." in shown
    assert replay_runs(tmp_path / "runs/softmax/toy_methods_replicated_steps=2_/seed-0")
    assert "are explained" not in capsys.readouterr().out


def test_a_run_whose_method_changed_needs_restart_which_keeps_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "method_under_change.py"
    text = Path(__file__).with_name("toy_methods.py").read_text()
    code.write_text(text.replace('"toy_methods"', '"method_under_change"'))
    monkeypatch.syspath_prepend(str(tmp_path))
    methods = "method_under_change:raising[steps=3]"
    request = SMALL.model_copy(update={"methods": methods, "seeds": "1", "budget": "2"})
    folder = tmp_path / "runs"
    evaluator = ToyEvaluator()

    def break_later() -> None:
        evaluator.broken = len(evaluator.evaluated) >= 2

    evaluator.on_evaluate = break_later
    assert run(folder, request, evaluator)[0] == INCOMPLETE
    code.write_text(code.read_text().replace("// program {step}", "// other {step}"))
    silent = Console(file=io.StringIO())
    kept = maker(ToyEvaluator())
    assert resume(folder, make_evaluator=kept, console=silent) == INCOMPLETE
    assert resume(folder, make_evaluator=kept, console=silent, restart=True) == FINISHED
    assert len(list(folder.glob("runs/*/*/*/attempts/1/events.jsonl"))) == 1


# --- confirmation ---------------------------------------------------------------------------------

START = Candidate("cpp", "// start")
PROGRAMS = sorted((Candidate("cpp", f"// {n}") for n in range(6)), key=score_of, reverse=True)


def contender(number: int) -> Contender:
    return Contender(PROGRAMS[number], number, score_of(PROGRAMS[number]))


def test_the_best_of_every_run_is_confirmed_once_in_one_session() -> None:
    runs = [
        RunContenders("a", 0, (contender(0), contender(1))),
        RunContenders("b", 0, (contender(0),)),
        RunContenders("b", 1, (contender(2),)),
    ]
    evaluator = ToyEvaluator()
    result = confirm_task(evaluator, "softmax", START, runs)
    assert evaluator.sessions == [[PROGRAMS[0].id, PROGRAMS[2].id]]
    assert [place.rank for place in result.places] == [1, 1, 1]


def test_a_best_that_fails_is_replaced_and_everybody_is_timed_again_together() -> None:
    runs = [
        RunContenders("a", 0, (contender(0), contender(1))),
        RunContenders("b", 0, (contender(2),)),
    ]
    evaluator = ToyEvaluator(fails_in_confirmation={PROGRAMS[0].id})
    result = confirm_task(evaluator, "softmax", START, runs)
    assert evaluator.sessions[1] == [PROGRAMS[1].id, PROGRAMS[2].id]
    shown = {f.candidate_id: type(f.final) for f in result.confirmation.finalists}
    assert shown == {
        PROGRAMS[1].id: Passed,
        PROGRAMS[2].id: Passed,
        PROGRAMS[0].id: Failed,
    }
    assert [place.rank for place in result.places] == [2, 1]


def test_a_run_whose_candidates_all_fail_gets_the_start() -> None:
    runs = [RunContenders("a", 0, (contender(0), contender(1), contender(2)))]
    evaluator = ToyEvaluator(fails_in_confirmation={p.id for p in PROGRAMS[:3]})
    result = confirm_task(evaluator, "softmax", START, runs)
    assert (result.places[0].rank, result.places[0].candidate_id) == (0, START.id)
    assert len(result.confirmation.finalists) == 4
    assert result.sessions == 4


def test_a_run_without_a_pass_gets_the_start_even_if_that_fails() -> None:
    evaluator = ToyEvaluator(fails_in_confirmation={START.id})
    result = confirm_task(evaluator, "softmax", START, [RunContenders("a", 0, ())])
    assert (result.places[0].rank, result.sessions) == (0, 1)


class EndsAtOnce(ToyEvaluator):
    """Where some fail, it answers those alone, as the evaluator does before anything is timed."""

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        whole = super().confirm(task, candidates)
        broken = tuple(f for f in whole.finalists if not isinstance(f.final, Passed))
        return replace(whole, finalists=broken, blocks=0) if broken else whole


def test_a_session_that_ended_before_anything_was_timed_is_asked_again_without_the_failed() -> None:
    runs = [
        RunContenders("a", 0, (contender(0), contender(1))),
        RunContenders("b", 0, (contender(2),)),
        RunContenders("c", 0, ()),
    ]
    evaluator = EndsAtOnce(fails_in_confirmation={PROGRAMS[0].id, START.id})
    result = confirm_task(evaluator, "softmax", START, runs)
    assert evaluator.sessions == [
        [PROGRAMS[0].id, PROGRAMS[2].id, START.id],
        [PROGRAMS[1].id, PROGRAMS[2].id],
    ]
    shown = {f.candidate_id: type(f.final) for f in result.confirmation.finalists}
    assert shown == {
        PROGRAMS[1].id: Passed,
        PROGRAMS[2].id: Passed,
        PROGRAMS[0].id: Failed,
        START.id: Failed,
    }
    assert [(place.rank, place.candidate_id) for place in result.places] == [
        (2, PROGRAMS[1].id),
        (1, PROGRAMS[2].id),
        (0, START.id),
    ]


def test_when_everything_fails_the_failures_are_what_is_known() -> None:
    runs = [RunContenders("a", 0, (contender(0),))]
    evaluator = EndsAtOnce(fails_in_confirmation={PROGRAMS[0].id, START.id})
    result = confirm_task(evaluator, "softmax", START, runs)
    assert result.sessions == 2
    assert {f.candidate_id for f in result.confirmation.finalists} == {PROGRAMS[0].id, START.id}
    assert result.places[0].rank == 0


def test_contenders_are_the_three_best_distinct_programs_without_the_start() -> None:
    def event(charge: int, number: int, score: float | None) -> dict[str, object]:
        status = "REJECTED" if score is None else "PASSED"
        return {
            "kind": "evaluation", "charge": charge, "status": status, "score": score,
            "candidate": PROGRAMS[number].id, "source": str(number), "language": "cpp",
        }  # fmt: skip

    events = [
        {"kind": "llm"},
        event(0, 5, 9.0),
        event(1, 0, 1.0),
        event(2, 1, 2.0),
        event(3, 1, 2.0),
        event(4, 2, None),
        event(5, 3, 0.5),
        event(6, 4, 0.1),
    ]
    best = contenders(events, lambda name: PROGRAMS[int(name)].source)
    found = [(c.candidate.id, c.charge) for c in best]
    assert found == [(PROGRAMS[1].id, 2), (PROGRAMS[0].id, 1), (PROGRAMS[3].id, 5)]


# --- the live display -----------------------------------------------------------------------------


def display(terminal: bool, moments: list[float]) -> tuple[LiveView, io.StringIO]:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=160)
    runs = [RunView("softmax", "a", seed) for seed in (0, 1)]
    return LiveView(runs, 10, console=console, clock=lambda: moments[0]), shown


def test_off_a_terminal_a_line_appears_only_when_something_changed_and_not_too_often() -> None:
    moments = [0.0]
    view, shown = display(False, moments)
    view.tick()
    view.tick()
    view.update(RunView("softmax", "a", 0, charges=2, best=1.5, state="running"))
    view.tick()
    assert len(shown.getvalue().splitlines()) == 1
    moments[0] = 10.0
    view.tick()
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2
    assert "2/20 charges, best 1.50x (softmax, a)" in lines[1]
    assert "about 01:30 of search left" in lines[1]


def test_on_a_terminal_the_table_shows_arms_scores_and_states() -> None:
    view, shown = display(True, [0.0])
    with view:
        view.update(RunView("softmax", "a", 0, 3, 2.25, 1, 5000, 0.5, "running", "evaluating"))
    text = shown.getvalue()
    assert "2.25x" in text
    assert "1 running (evaluating), 1 waiting" in text
    assert "$0.50" in text


def test_a_live_comparison_is_not_started_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    request = ComparisonRequest(tasks="softmax", methods="best_of_n", model="gpt-5.2")
    with pytest.raises(UsageError, match="Say --yes"):
        run(tmp_path, request)
    assert not (tmp_path / "comparison.json").exists()


def test_a_live_comparison_waits_for_endpoints_with_more_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    request = ComparisonRequest(methods="best_of_n", seeds="40", model="gpt-5.2")
    assert comparing.default_jobs(comparing.resolve(request)) == comparing.LIVE_JOBS


def test_an_evaluator_that_cannot_start_while_methods_are_prepared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(resolved: object, folder: Path) -> ToyEvaluator:
        raise EnvironmentMissing("no GPU here")

    prepared: list[str] = []
    monkeypatch.setattr(
        type(toy_methods.unprepared.needs), "make", lambda *_: prepared.append("made")
    )
    request = SMALL.model_copy(update={"methods": "best_of_n toy_methods:unprepared"})
    with pytest.raises(EnvironmentMissing, match="no GPU here"):
        compare(request, tmp_path, make_evaluator=missing, console=Console(file=io.StringIO()))
    assert prepared == ["made"]
    assert not (tmp_path / "comparison.json").exists()


class Otherwise(ToyEvaluator):
    """An evaluator of another version."""

    def describe(self) -> JsonObject:
        return super().describe() | {"settings": {"ring_slots": 7}, "protocol": 99}


def test_a_comparison_is_not_resumed_by_an_evaluator_that_measures_otherwise(
    finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "runs"))
    manifest = json.loads((folder / "comparison.json").read_text())
    manifest["evaluator"] |= {"settings": {"ring_slots": 5}, "protocol": 2}
    (folder / "comparison.json").write_text(json.dumps(manifest))
    events = next(folder.glob("runs/*/*/seed-*/events.jsonl"))
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(lines[:3]))  # one run is not finished
    with pytest.raises(UsageError, match=r"protocol, settings differ.*another folder"):
        resume(folder, make_evaluator=maker(Otherwise()))
    assert events.read_text() == "".join(lines[:3])


@dataclass
class SeveralGpus(ToyEvaluator):
    """A machine with so many GPUs; most: confirmations that it had at once."""

    gpus: int = 1
    most: int = 0
    now: int = 0

    def describe(self) -> JsonObject:
        return super().describe() | {"gpus": [{"name": "toy"}] * self.gpus}

    def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.5)  # long enough for another to begin, where it may
        with self.lock:
            self.now -= 1
        return super().confirm(task, candidates)


@pytest.mark.parametrize("gpus", [1, 2])
def test_as_many_tasks_are_confirmed_at_once_as_there_are_gpus(tmp_path: Path, gpus: int) -> None:
    request = SMALL.model_copy(
        update={"tasks": "softmax matmul gqa_paged_decode", "methods": "best_of_n", "seeds": "1"}
    )
    evaluator = SeveralGpus(gpus=gpus)
    status, shown = run(tmp_path, request, evaluator)
    assert status == FINISHED
    assert evaluator.most == gpus
    two = re.search("confirming [a-z_]+, [a-z_]+,", shown)  # whichever began first
    assert (two is not None) == (gpus == 2)
    assert len(list(tmp_path.glob("confirm/*.json"))) == 3


def test_a_confirmation_that_is_put_off_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    class Fails(SeveralGpus):
        def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
            if task == "softmax":
                raise InfraError("the toy is broken")
            return super().confirm(task, candidates)

    request = SMALL.model_copy(
        update={"tasks": "softmax matmul", "methods": "best_of_n", "seeds": "1"}
    )
    status, shown = run(tmp_path, request, Fails(gpus=2))
    assert status == INCOMPLETE
    assert "The confirmation of softmax is put off: the toy is broken" in shown
    assert [path.stem for path in tmp_path.glob("confirm/*.json")] == ["matmul"]
    status, _ = run(tmp_path, request)
    assert status == FINISHED
    assert len(list(tmp_path.glob("confirm/*.json"))) == 2


def test_an_error_of_one_confirmation_is_not_hidden_by_another_that_is_put_off(
    tmp_path: Path,
) -> None:
    class Fails(ToyEvaluator):
        def confirm(self, task: str, candidates: Sequence[Candidate]) -> Confirmation:
            if task == "softmax":
                raise InfraError("the toy is broken")
            raise EnvironmentMissing("no space left")

    request = SMALL.model_copy(
        update={"tasks": "softmax matmul", "methods": "best_of_n", "seeds": "1"}
    )
    with pytest.raises(EnvironmentMissing, match="no space left"):
        run(tmp_path, request, Fails())


class HeldDevice:
    """An evaluator that held a GPU for a while."""

    def __init__(self, seconds: float, clocks_mhz: list[int]) -> None:
        self._lock = {"held_seconds": seconds, "compiling_seconds": 1.0, "clocks_mhz": clocks_mhz}

    def describe(self) -> dict[str, object]:
        return {"lock": self._lock}


def test_what_was_held_of_a_device_adds_up_over_the_processes_of_a_comparison(
    tmp_path: Path,
) -> None:
    first = write_device_lock(tmp_path, HeldDevice(40.0, [1980, 1980]))  # type: ignore[arg-type]
    assert first == (
        "The device was held for 40 s, 2.5% of it compiling; its multiprocessors ran at 1980 to "
        "1980 MHz."
    )
    second = write_device_lock(tmp_path, HeldDevice(10.0, [1755, 1900]))  # type: ignore[arg-type]
    assert second is not None
    assert "50 s, 4.0% of it compiling; its multiprocessors ran at 1755 to 1980 MHz" in second
    third = write_device_lock(tmp_path, HeldDevice(1.0, []))  # type: ignore[arg-type]
    assert third is not None
    assert "51 s" in third
    assert "1755 to 1980" in third
