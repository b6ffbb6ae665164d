"""OpenEvolve behind its driver: the contract, its configuration, its islands in the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_foreign import ForeignMethodContract, events, records, requests

from harness.errors import ForeignError, UsageError
from harness.foreign.environments import files
from methods import openevolve
from methods.openevolve import method


class TestOpenEvolve(ForeignMethodContract):
    method = method
    small = {"migration_interval": "2"}

    def test_islands_archive_and_migrations_are_in_the_log_of_60_evaluations(self, tmp_path):
        self.run(tmp_path, charges=60, migration_interval="8")
        populations = records(tmp_path, "population")
        assert all(len(population["islands"]) == 3 for population in populations)
        assert all(populations[-1]["islands"])
        assert 1 < len(populations[-1]["archive"]) <= 12
        moved = records(tmp_path, "migration")
        assert moved
        assert all(move["from"] != move["to"] for move in moved)
        assert {entry["island"] for entry in records(tmp_path, "lineage")} == {0, 1, 2}

    def test_one_island_is_one_island(self, tmp_path):
        self.run(tmp_path, variant="one-island", charges=4)
        assert {entry["island"] for entry in records(tmp_path, "lineage")} == {0}

    def test_a_prompt_shows_the_papers_number_of_programs(self, tmp_path):
        self.run(tmp_path, charges=20)
        last = requests(tmp_path)[-1].messages[1].content
        assert last.count("### Program ") <= 3 + 2
        assert "Provide the complete new program code" in last

    def test_the_packages_defaults_ask_for_diffs_and_an_answer_without_one_is_no_code(
        self, tmp_path
    ):
        self.run(tmp_path, variant="defaults", charges=3)
        assert "<<<<<<< SEARCH" in requests(tmp_path)[0].messages[1].content
        charged = events(tmp_path, "evaluation")[1:]
        assert {event["status"] for event in charged} == {"NO_CODE"}
        assert "No valid diffs found" in charged[0]["failure"]["message"]

    def test_a_worker_that_dies_fails_the_run(self, tmp_path, monkeypatch):
        driver = Path(openevolve.__file__).with_name("driver.py").read_text()
        dying = driver.replace(
            "        number, snapshot, parent_id, inspirations = arguments\n",
            "        number, snapshot, parent_id, inspirations = arguments\n"
            "        if number == 3: os._exit(1)\n",
        )
        assert dying != driver
        texts = {**files(openevolve.__file__), "driver.py": dying}
        monkeypatch.setattr(openevolve, "files", lambda *names: texts)
        with pytest.raises(ForeignError, match="did its worker die"):
            self.run(tmp_path, charges=8)

    def test_several_workers_end_at_the_budget_too(self, tmp_path):
        assert self.run(tmp_path, charges=10, workers="4").charges == 10


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"islands": "0"}, "islands must be at least 1"),
        ({"exploration_ratio": "0.9"}, "must not exceed 1 together"),
        ({"edits": "patch"}, "edits must be full or diff"),
        ({"migration_rate": "2"}, "from 0 to 1"),
    ],
)
def test_an_option_out_of_range_says_so(options, expected):
    with pytest.raises(UsageError, match=expected):
        method.make_options(None, options)


def test_only_serial_runs_are_reproduced_by_their_seed():
    assert method.replicates(method.make_options(None, {})) is None
    assert "2 workers" in method.replicates(method.make_options(None, {"workers": "2"}))
