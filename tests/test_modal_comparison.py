"""Whole comparisons through Modal's back end, over the stand-in: with faults, and with the real
judge of the CPU suite in the containers."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fake_modal import FAULTS
from modal_service import QUICK, service
from rich.console import Console
from test_compare import essence
from toy_container import NamedToyEvaluator, RealContainer, ToyContainer
from toy_evaluator import maker

from harness.compare import FINISHED, INCOMPLETE, build_report, compare
from harness.config import ComparisonRequest, Resolved, resolve
from harness.costs import ask_about_containers
from harness.errors import UsageError
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.modal.client import ModalEvaluator
from harness.evaluate.modal.ledger import read_ledger
from harness.evaluate.modal.options import ModalOptions
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluators import MakeEvaluator, comparison_secret, evaluator_settings
from harness.folder import read_manifest
from harness.runlog import read_events, read_text
from harness.suite import load_suite
from harness.types import Candidate, Failed, JsonObject, Passed

ROOT = Path(__file__).resolve().parents[1]

REQUEST = ComparisonRequest(
    tasks="softmax matmul", methods="best_of_n ksearch[k=1]", seeds="2", budget="4",
    evaluator="modal",
)  # fmt: skip


def on_modal(resolved: Resolved, folder: Path) -> ModalEvaluator:
    """What the comparison would make, of an impatient user."""
    assert resolved.modal is not None
    return ModalEvaluator(
        resolved.suite,
        folder,
        options=resolved.modal,
        settings=evaluator_settings(resolved),
        secret=comparison_secret(folder),
        patience=QUICK,
    )


BRIEF = EvaluatorSettings(
    search_blocks=2, search_max_blocks=2, confirm_min_blocks=2, confirm_max_blocks=2,
)  # fmt: skip


def briefly_on_modal(resolved: Resolved, folder: Path) -> ModalEvaluator:
    """With few blocks: what is looked at is verdicts, not times."""
    return ModalEvaluator(
        resolved.suite,
        folder,
        options=ModalOptions(),
        settings=BRIEF,
        secret=comparison_secret(folder),
        patience=QUICK,
    )


def run(folder: Path, make: MakeEvaluator, request: ComparisonRequest = REQUEST) -> tuple[int, str]:
    shown = io.StringIO()
    status = compare(
        request,
        folder,
        jobs=4,
        make_evaluator=make,
        console=Console(file=shown, width=200),
    )
    return status, shown.getvalue()


def without_cache_marks(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Every run's events; a program that two runs proposed is called once, which its mark tells."""
    runs = {name: [json.loads(line) for line in lines] for name, lines in essence(folder).items()}
    for event in (event for events in runs.values() for event in events):
        if event["kind"] == "evaluation":
            del event["cached"], event["evaluation"]  # the blob that holds the mark
    return runs


def every_fifth(kinds: tuple[str, ...] = FAULTS) -> Callable[[int], str]:
    return lambda number: kinds[number // 5 % len(kinds)] if number % 5 == 2 else ""


def test_a_fault_in_every_fifth_call_loses_and_doubles_no_event(tmp_path: Path) -> None:
    local, remote = tmp_path / "local", tmp_path / "remote"
    assert run(local, maker(NamedToyEvaluator()))[0] == FINISHED
    container = ToyContainer()
    with service(container) as fake:
        fake.faults = every_fifth()
        assert run(remote, on_modal)[0] == FINISHED
        faults = {call.fault for call in fake.calls.values()} - {""}
    assert len(faults) > 3
    assert without_cache_marks(remote) == without_cache_marks(local)
    ledger = read_ledger(remote)
    assert {entry.ended for entry in ledger} == {"answer", "lost"}
    answered = [entry.key for entry in ledger if entry.ended == "answer"]
    assert len(answered) == len(set(answered))  # nothing was paid twice


def test_a_run_whose_calls_all_fail_pauses_uncharged_and_goes_on(tmp_path: Path) -> None:
    request = REQUEST.model_copy(update={"tasks": "softmax", "seeds": "1", "methods": "best_of_n"})
    container = ToyContainer()
    with service(container) as fake:
        fake.faults = lambda number: "timeout" if number > 4 else ""
        status, shown = run(tmp_path, on_modal, request)
        assert status == INCOMPLETE
        assert "4 calls of evaluate_cpu on Modal had no answer" in shown
        (log,) = tmp_path.glob("runs/*/*/*")
        before = [e for e in read_events(log) if e["kind"] == "evaluation"]
        assert 0 < len(before) < 5
        fake.faults = {}
        assert run(tmp_path, on_modal, request)[0] == FINISHED
        after = [e for e in read_events(log) if e["kind"] == "evaluation"]
    assert [e["charge"] for e in after] == [0, 1, 2, 3, 4]
    assert after[: len(before)] == before


def test_the_manifest_names_the_containers_machine(tmp_path: Path) -> None:
    request = REQUEST.model_copy(update={"tasks": "softmax", "seeds": "1", "budget": "1"})
    with service(ToyContainer()):
        run(tmp_path, on_modal, request)
    manifest = read_manifest(tmp_path)
    assert manifest["machine"] == {"cpu": "toy"}
    assert manifest["packages"]["torch"] == "toy"
    assert manifest["resolved"]["modal"] == {"app": "kernel-search-harness", "gpu": "H100!"}
    assert manifest["evaluator"]["modal"]["image"]["digest"] == "unpinned"


PROGRAMS = {
    "does not compile": "int run(",
    "does nothing": 'extern "C" int run(const void*, const void*, void*, void*) { return 0; }',
    "fails": 'extern "C" int run(const void*, const void*, void*, void*) { return 5; }',
    "forks": '#include <unistd.h>\nextern "C" int run(const void*, const void*, void*, void*) '
    "{ fork(); return 0; }",
}


def verdict(evaluator: LocalEvaluator | ModalEvaluator, candidate: Candidate) -> object:
    outcome = evaluator.evaluate("matmul", candidate).outcome
    if isinstance(outcome, Failed):
        return outcome.status, outcome.stage, outcome.check, outcome.workload
    return outcome.status


def test_the_cpu_suite_gets_the_verdicts_of_the_local_evaluator(tmp_path: Path) -> None:
    request = ComparisonRequest(
        tasks="matmul", methods="best_of_n", seeds="1", budget="4", evaluator="modal",
    )  # fmt: skip
    with closing(RealContainer()) as container, service(container) as fake:
        fake.faults = every_fifth(("timeout", "terminated", "expired"))
        assert run(tmp_path, briefly_on_modal, request)[0] == FINISHED
        (log,) = tmp_path.glob("runs/*/*/*")
        logged = [e for e in read_events(log) if e["kind"] == "evaluation"]
        assert any(call.fault for call in fake.calls.values())
        (local,) = container.evaluators.values()
        judged = [event for event in logged if event["source"] is not None]
        assert judged[0]["charge"] == 0
        # The simulated model now and then replies without a program: nobody judges that.
        assert all(e["status"] == "NO_CODE" for e in logged if e not in judged)
        for event in judged:
            candidate = Candidate("cpp", read_text(log, event["source"]))
            assert local.evaluate("matmul", candidate).status == event["status"]
        remote = ModalEvaluator(
            "cpu", tmp_path / "programs", options=ModalOptions(), secret=b"s" * 32,
            settings=BRIEF, patience=QUICK,
        )  # fmt: skip
        for source in PROGRAMS.values():
            candidate = Candidate("cpp", source)
            assert verdict(remote, candidate) == verdict(local, candidate)
        start = load_suite("cpu").task("matmul").starts["cpp"]
        right, wrong = Candidate("cpp", start), Candidate("cpp", PROGRAMS["forks"])
        confirmation = remote.confirm("matmul", [right, wrong])
        assert [f.candidate_id for f in confirmation.finalists] == [wrong.id]  # known at once
        assert not isinstance(confirmation.finalists[0].final, Passed)
    confirmed = json.loads((tmp_path / "confirm" / "matmul.json").read_text())
    assert confirmed["finalists"][0]["final"]["status"] == "PASSED"
    places = [entry for entry in read_ledger(tmp_path) if entry.function == "confirm_cpu"]
    assert len([entry for entry in places if entry.ended == "answer"]) == confirmed["sessions"]
    assert all(e.container["canary_us"] > 0 for e in places if e.ended == "answer")


def test_the_cost_is_shown_and_asked_for_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    resolved = resolve(REQUEST.model_copy(update={"suite": "cpu", "llm": "simulated"}))
    ask_about_containers(resolved, False, console)
    assert "35 x evaluate_cpu" in shown.getvalue()
    assert "read 2026-07-01" in shown.getvalue()
    large = resolve(REQUEST.model_copy(update={"llm": "simulated", "budget": "1000"}))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="--yes"):
        ask_about_containers(large, False, console)
    ask_about_containers(large, True, console)


def test_the_report_has_latencies_by_the_canary_beside_the_measured_ones(tmp_path: Path) -> None:
    request = REQUEST.model_copy(update={"tasks": "softmax", "seeds": "1", "budget": "1"})
    with service(ToyContainer()):
        run(tmp_path, on_modal, request)
    manifest = tmp_path / "comparison.json"
    data = json.loads(manifest.read_text())
    data["evaluator"]["modal"]["canary_reference_us"] = 80.0  # the confirming container: 100
    manifest.write_text(json.dumps(data))
    report = build_report(tmp_path).parent
    rows = list(csv.DictReader((report / "workloads.csv").open()))
    assert rows
    for row in rows:
        slower = float(row["latency_us"]) * 0.8
        assert float(row["latency_by_canary_us"]) == pytest.approx(slower, rel=1e-4)


def test_a_killed_comparison_goes_on_without_paying_a_call_twice(tmp_path: Path) -> None:
    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    container = ToyContainer()
    with service(container) as fake:
        asked = ["--tasks", "softmax", "--methods", "best_of_n", "--seeds", "1", "--budget", "4"]
        evaluated = container.evaluate

        def third_waits(body: JsonObject) -> JsonObject:
            if len(fake.calls) == 3:
                container.gate.clear()
                assert container.gate.wait(60)
            return evaluated(body)

        container.evaluate = third_waits  # type: ignore[method-assign]
        first = start("compare", "--evaluator", "modal", "--runs", str(tmp_path), *asked)
        deadline = time.monotonic() + 60
        while container.gate.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
        while not read_ledger(tmp_path)[-1].call_id and time.monotonic() < deadline:
            time.sleep(0.05)
        first.kill()
        first.wait()
        container.gate.set()
        assert start("resume", str(tmp_path)).wait(120) == FINISHED
        ledger = read_ledger(tmp_path)
        assert [entry.call_id for entry in ledger] == list(fake.calls)
    assert {entry.ended for entry in ledger} == {"answer"}
    assert len({entry.key for entry in ledger}) == len(ledger) > 3
    (log,) = tmp_path.glob("runs/*/*/*")
    charges = [e["charge"] for e in read_events(log) if e["kind"] == "evaluation"]
    assert charges == [0, 1, 2, 3, 4]
