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

# Returns 77 if the folder of some other program can be read, 3 if none can, 5 if there is none.
LOOKS_FOR_RIVALS = """
#include "task.h"
#include <climits>
#include <cstdlib>
#include <dirent.h>
#include <string>
extern "C" int run(const Inputs*, const Outputs*, void*, void*) {
    char here[PATH_MAX];
    if (!realpath(".", here)) return 4;
    DIR* all = opendir("..");
    if (!all) return 3;
    int seen = 0;
    while (dirent* entry = readdir(all)) {
        std::string path = std::string("../") + entry->d_name;
        char full[PATH_MAX];
        if (path.find("harness-job-") == std::string::npos) continue;
        if (realpath(path.c_str(), full) && std::string(full) == here) continue;
        seen++;
        if (opendir(path.c_str())) return 77;
    }
    return seen ? 3 : 5;
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
        nosy = evaluator.evaluate("toy", Candidate("cpp", LOOKS_FOR_RIVALS)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.message == "run returned 3"
    assert isinstance(nosy, Failed)  # the baseline's worker is still there
    assert nosy.message == "run returned 3"


def test_only_root_can_use_the_way_of_a_container() -> None:
    assert (probe("container").way == "container") == can_change_user()
