"""What every upstream package must do behind its driver, as a test class to inherit.

    class TestMyPackage(ForeignMethodContract):
        method = methods.my_package.method
        small = {"option": "value"}     # so that a short run shows everything

Each test runs the real package in its own environment, in the toy world, where a program is a
number and the model a function of the prompt. Skipped where the environment was not made (`harness
prepare`; `make test` makes it).

Covered: what tests/conformance_method.py holds of other methods, in fewer runs, since each starts a
process that imports for seconds. Not covered: what the package decides.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import toy_run
from scripted_endpoint import completion, connect, endpoints, error
from toy_run import ToyClient, ToyEvaluator, essence, toy_spec

from harness.attempt import RunSpec
from harness.budget import Budget
from harness.llm.client import Reply, Request, request_from_json
from harness.method import Method
from harness.replay import replay_run
from harness.runlog import RunLog, read_events
from harness.summary import RunSummary

CHARGES = 12


@dataclass
class SeededClient(ToyClient):
    """A toy model that answers otherwise for another seed."""

    seed: int = 0

    def complete(self, request: Request, occurrence: int) -> Reply:
        return super().complete(request, occurrence + 1000 * self.seed)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["kind"] == kind]


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    log = RunLog.read(folder)
    found = [e for e in log.events if e["kind"] == "record" and e["record"] == kind]
    return [e["data"] or json.loads(log.get_text(e["blob"])) for e in found]


def requests(folder: Path) -> list[Request]:
    log = RunLog.read(folder)
    calls = [event for event in log.events if event["kind"] == "llm"]
    return [request_from_json(json.loads(log.get_text(event["request"]))) for event in calls]


def sequence(folder: Path) -> list[tuple[str, str | None]]:
    """Every request's hash and every candidate, in the order of the log."""
    found = []
    for event in read_events(folder):
        if event["kind"] == "llm":
            found.append(("asked", event["key"]))
        elif event["kind"] == "evaluation":
            found.append(("proposed", event["candidate"]))
    return found


class ForeignMethodContract:
    """Inherit it and set `method`. small: options for a short run that shows everything."""

    method: Method
    small: Mapping[str, str] = {}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _environment(cls) -> None:
        assert cls.method.needs is not None
        if not cls.method.needs.ready:
            pytest.skip(f"{cls.method.needs.name} was not made: harness prepare")

    @pytest.fixture(scope="class")
    @classmethod
    def finished(
        cls, _environment: None, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Path, RunSummary]:
        """The folder and the summary of a run that several tests look at, and none changes."""
        folder = tmp_path_factory.mktemp("finished") / "run"
        return folder, cls().run(folder)

    def spec(
        self,
        folder: Path,
        charges: int = CHARGES,
        seed: int = 7,
        variant: str | None = None,
        **options: str,
    ) -> RunSpec:
        made = toy_spec(folder, budget=Budget(charges=charges))
        chosen = self.method.make_options(variant, {**self.small, **options})
        return replace(made, method=self.method, options=chosen, arm=self.method.name, seed=seed)

    def run(
        self,
        folder: Path,
        client: object | None = None,
        evaluator: object | None = None,
        **arguments: Any,
    ) -> RunSummary:
        return toy_run.run(self.spec(folder, **arguments), client, evaluator)

    def side_by_side(self, tmp_path: Path, **seeds: int) -> dict[str, Path]:
        """Runs at once, each in a folder of its own."""
        folders = {name: tmp_path / name for name in seeds}
        threads = [
            threading.Thread(
                target=self.run,
                args=(folders[name], SeededClient(seed=seed)),
                kwargs={"seed": seed},
            )
            for name, seed in seeds.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return folders

    def test_a_seed_fixes_every_request_and_candidate_and_another_one_changes_them(
        self, tmp_path: Path
    ) -> None:
        folders = self.side_by_side(tmp_path, one=7, same=7, other=8)
        assert essence(folders["one"]) == essence(folders["same"])
        assert sequence(folders["one"]) != sequence(folders["other"])
        assert replay_run(self.spec(folders["one"])).explained

    def test_it_ends_at_its_last_charge_with_everything_in_the_log(
        self, finished: tuple[Path, RunSummary]
    ) -> None:
        folder, summary = finished
        assert (summary.status, summary.reason) == ("finished", "budget: charges")
        assert summary.charges == CHARGES
        assert summary.llm_calls >= CHARGES
        lineage = records(folder, "lineage")
        assert [entry["charge"] for entry in lineage] == list(range(1, CHARGES + 1))
        candidates = [event["candidate"] for event in events(folder, "evaluation")]
        assert [entry["candidate"] for entry in lineage] == candidates[1:]
        known = set(candidates)
        assert all(entry["parent"] in known for entry in lineage)
        last = records(folder, "population")[-1]
        members = {candidate for island in last["islands"] for candidate in island}
        assert members <= known
        assert {last["best"], *last["archive"]} <= known
        best = max(events(folder, "evaluation"), key=lambda e: e["score"] or 0.0)
        assert last["best"] == best["candidate"]

    def test_failing_programs_and_unusable_replies_cost_a_charge_each(self, tmp_path: Path) -> None:
        class Hopeless(ToyClient):
            def complete(self, request: Request, occurrence: int) -> Reply:
                reply = super().complete(request, occurrence)
                kinds = ["```cpp\n// score 0.1\n```", "I would rather not.", "", "```cpp\n// sc"]
                return replace(reply, text=kinds[self.calls % 4] + str(self.calls))

        summary = self.run(tmp_path, Hopeless(), charges=6)
        assert (summary.reason, summary.charges) == ("budget: charges", 6)
        assert summary.failures == 6

    def test_429_and_500_of_the_endpoint_cost_nothing(self, tmp_path: Path) -> None:
        good = [completion(f"```cpp\n// score 1.{i}\n```") for i in range(1, 5)]
        script = [
            error(429),
            good[0],
            error(500),
            error(503),
            good[1],
            good[2],
            error(429),
            good[3],
        ]
        with endpoints() as start:
            client = connect(start(*script).base_url).client
            summary = self.run(tmp_path, client, charges=4)
        assert (summary.reason, summary.charges) == ("budget: charges", 4)
        scores = [event["score"] for event in events(tmp_path, "evaluation")[1:]]
        assert all(score in (1.1, 1.2, 1.3, 1.4, None) for score in scores)

    def test_a_run_that_was_cut_off_goes_on_to_the_same_end(
        self, tmp_path: Path, finished: tuple[Path, RunSummary]
    ) -> None:
        whole, _ = finished
        lines = (whole / "events.jsonl").read_bytes().splitlines(keepends=True)
        cut = tmp_path / "cut"
        shutil.copytree(whole, cut)
        (cut / "events.jsonl").write_bytes(b"".join(lines[: len(lines) * 3 // 5]))
        client, evaluator = ToyClient(), ToyEvaluator()
        assert self.run(cut, client, evaluator).charges == CHARGES
        assert essence(cut) == essence(whole)
        assert client.calls < len(events(whole, "llm"))
        assert len(evaluator.evaluated) < CHARGES

    def test_prompts_hold_the_task_the_start_and_its_verdict_and_name_no_method(
        self, finished: tuple[Path, RunSummary]
    ) -> None:
        folder, _ = finished
        asked = requests(folder)
        first = "\n".join(message.content for message in asked[0].messages)
        assert toy_run.START.source.strip() in first
        assert "PASSED: score 1.0000" in first
        for request in asked:
            assert request.messages[0].role == "system"
            assert toy_run.CARD.prose in request.messages[0].content
            text = "\n".join(message.content for message in request.messages).casefold()
            assert self.method.name not in text
            assert str(folder.parent) not in text

    def test_it_writes_nothing_outside_its_run_folder(
        self, finished: tuple[Path, RunSummary]
    ) -> None:
        run, _ = finished
        assert {path.name for path in run.parent.iterdir()} == {"run"}
        kept = {path.relative_to(run / "workspace" / "1").parts[0]
                for path in (run / "workspace" / "1").rglob("*")}  # fmt: skip
        assert kept <= {"files", "home", "tmp", "output.txt"}
