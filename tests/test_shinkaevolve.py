"""ShinkaEvolve behind its driver: the contract, its configuration, its summaries in the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from conformance_foreign import ForeignMethodContract, events, records, requests
from toy_run import ToyClient

import harness.foreign
from harness.errors import UsageError
from methods import shinkaevolve
from methods.shinkaevolve import method

sys.path.append(str(Path(harness.foreign.__file__).parent))  # evaluate.py finds `bridge` beside it

from methods.shinkaevolve.evaluate import metrics, without_markers


class TestShinkaEvolve(ForeignMethodContract):
    method = method
    small = {"migration_interval": "3"}

    @pytest.mark.thorough
    def test_islands_archive_migrations_and_summaries_are_in_the_log_of_60_evaluations(
        self, tmp_path
    ):
        summary = self.run(tmp_path, variant="meta", charges=60, migration_interval="10")
        assert summary.charges == 60
        last = records(tmp_path, "population")[-1]
        assert len(last["islands"]) == 2
        assert all(last["islands"])
        assert 1 < len(last["archive"]) <= 40
        assert records(tmp_path, "migration")
        assert len(records(tmp_path, "summary")) >= 3
        purposes = {event["purpose"] for event in events(tmp_path, "llm")}
        assert purposes == {"propose", "summary"}

    def test_the_novelty_judge_and_its_embeddings_are_llm_calls(self, tmp_path):
        class Alike(ToyClient):
            def complete(self, request, occurrence):
                reply = super().complete(request, occurrence)
                if request.purpose == "judge":
                    return toy_run.replace(reply, text="NOT_NOVEL: the same number.")
                return toy_run.replace(reply, text="```cpp\n// score 1.5\n```")

        self.run(tmp_path, Alike(), variant="novelty", charges=6, similarity="0.5")
        purposes = {event["purpose"] for event in events(tmp_path, "llm")}
        assert purposes == {"propose", "judge", "embedding"}
        failures = [e["failure"] for e in events(tmp_path, "evaluation")[1:] if e["failure"]]
        assert any("novelty" in failure["message"] for failure in failures)

    @pytest.mark.thorough
    def test_a_generation_asks_again_as_often_as_the_paper_has_it(self, tmp_path):
        class Mute(ToyClient):
            def complete(self, request, occurrence):
                return toy_run.replace(super().complete(request, occurrence), text="No.")

        summary = self.run(tmp_path, Mute(), charges=1)
        assert (summary.charges, summary.llm_calls) == (1, 5 * 3 * 3)

    def test_its_clients_wait_for_as_long_as_an_answer_takes(self):
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]\nimport pins, shinka.llm.client as a, "
            "shinka.embed.client as b\npins.pin(1)\nprint(a.TIMEOUT, b.TIMEOUT)"
        )
        folder = Path(shinkaevolve.__file__).parent
        shown = subprocess.run(
            [self.method.needs.python(), "-c", code, str(folder)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert shown.stdout.split() == ["1000000", "1000000"]

    def test_several_jobs_end_at_the_budget_too(self, tmp_path):
        assert self.run(tmp_path, charges=9, jobs="3").charges == 9

    def test_candidates_hold_no_markers(self, finished):
        folder, _ = finished
        sources = [path.read_text() for path in folder.glob("workspace/1/files/*")]
        assert sources  # the driver's own
        asked = requests(folder)[0].messages[1].content
        assert "// EVOLVE-BLOCK-START" in asked
        log = toy_run_log(folder)
        assert log
        assert not [source for source in log if "EVOLVE" in source]


def toy_run_log(folder):
    """Every candidate's source."""
    from harness.runlog import RunLog

    log = RunLog.read(folder)
    return [log.get_text(e["source"]) for e in log.events if e.get("source") and "charge" in e]


def test_the_lines_that_mark_the_block_are_taken_out():
    marked = "// EVOLVE-BLOCK-START\nint a;\n  # EVOLVE-BLOCK-END\nint b; // EVOLVE-BLOCK-END\n"
    assert without_markers(marked) == "int a;\nint b; // EVOLVE-BLOCK-END\n"


def test_a_failed_program_has_a_score_of_zero_and_its_verdict():
    verdict = {"score": None, "candidate_id": "c", "info": {"feedback": "TIMEOUT at smoke"}}
    assert metrics(verdict)["combined_score"] == 0.0
    assert metrics(verdict)["text_feedback"] == "TIMEOUT at smoke"
    assert metrics({**verdict, "score": 1.234})["combined_score"] == pytest.approx(123.4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"islands": "0"}, "islands must be at least 1"),
        ({"edits": "full+diff"}, "as many shares"),
        ({"edits": "patch"}, "edits must be of diff, full, cross"),
        ({"shares": "half"}, "shares must be numbers"),
        ({"parents": "best"}, "parents must be one of power_law"),
        ({"resamples": "9"}, "must be at most 45"),
        ({"meta_interval": "50"}, "meta_interval must be at most 40"),
    ],
)
def test_an_option_out_of_range_says_so(options, expected):
    with pytest.raises(UsageError, match=expected):
        method.make_options(None, options)


def test_only_serial_runs_without_summaries_are_reproduced_by_their_seed():
    assert method.replicates(method.make_options("novelty", {})) is None
    assert "3 jobs" in method.replicates(method.make_options(None, {"jobs": "3"}))
    assert "summaries" in method.replicates(method.make_options("meta", {}))
