"""An evaluation in every way of isolation that this machine offers: OpenMP's baseline included."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.evaluate.confinement import can_change_user
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.sandbox import Way, probe
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed
from tests.toy_suite import START

SETTINGS = EvaluatorSettings(search_blocks=2, search_max_blocks=2)

# Returns 77 if the environment of some other process can be read.
LOOKS_AROUND = """
#include "task.h"
#include <fstream>
#include <string>
extern "C" int run(const Inputs*, const Outputs*, void*, void*) {
    for (int i = 2; i < 100000; i++) {
        std::ifstream file("/proc/" + std::to_string(i) + "/environ");
        char first;
        if (file.get(first)) return 77;
    }
    return 3;
}
"""


def way_or_skip(way: Way) -> None:
    if probe(way).way != way:
        pytest.skip(f"this machine does not offer the way {way}: {probe(way).details}")


@pytest.mark.parametrize("way", ["landlock", "container"])
def test_a_program_is_evaluated_beside_a_threaded_baseline(way: Way, tmp_path: Path) -> None:
    way_or_skip(way)
    with LocalEvaluator(
        "tests.toy_suite:suite", cache_folder=tmp_path, settings=SETTINGS, isolation=probe(way)
    ) as evaluator:
        assert evaluator.evaluate("toy", Candidate("cpp", START)).passed
        outcome = evaluator.evaluate("toy", Candidate("cpp", LOOKS_AROUND)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.message == "run returned 3"


def test_only_root_can_use_the_way_of_a_container() -> None:
    assert (probe("container").way == "container") == can_change_user()
