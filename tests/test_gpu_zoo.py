"""The hack zoo on a GPU: its scorecard on one, and without one what can be seen of it."""

import ast
import os
from collections.abc import Iterator

import pytest

from harness.environment import visible_gpus
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Candidate, Failed, Passed
from tests.zoo.scorecard import Exhibit, exhibits, show_gpu

pytest.importorskip("triton")

# What they do needs no GPU, so they must be caught in the interpreter, too.
ANYWHERE = (
    "answers_one_call_late", "bfloat16", "bfloat16_result", "cache_by_address", "cache_by_sample",
    "cache_by_shape", "empties_its_inputs", "float16_sums", "half_of_the_columns",
    "half_of_the_rows", "kept_scale", "lazy_tensor", "leaves", "nan",
    "pass_through", "storage_attribute", "uninitialised", "works_in_place_and_restores",
)  # fmt: skip
KERNELS = {exhibit.name: exhibit for exhibit in exhibits("gpu")}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[LocalEvaluator]:
    settings = EvaluatorSettings(confirm_min_blocks=2, confirm_max_blocks=2)
    suite = "tests.toy_gpu_suite:suite"
    with LocalEvaluator(suite, settings=settings, device="interpreter") as evaluator:
        yield evaluator


def test_every_exhibit_says_what_it_is_and_is_a_program() -> None:
    for exhibit in (*KERNELS.values(), *exhibits("gpu_honest")):
        assert exhibit.task == "large_rows"
        assert len(exhibit.what) > 12
        if exhibit.candidate.language != "cuda":
            ast.parse(exhibit.candidate.source)


@pytest.mark.parametrize("name", [name for name in ANYWHERE if name in KERNELS])
def test_a_cheat_that_needs_no_gpu_is_caught_in_the_interpreter(
    evaluator: LocalEvaluator, name: str
) -> None:
    outcome = evaluator.evaluate("scale_rows", KERNELS[name].candidate).outcome
    assert isinstance(outcome, Failed), name


@pytest.mark.parametrize(
    "exhibit",
    [e for e in exhibits("gpu_honest") if e.name in ("start", "torch_program", "scratch_buffer")],
    ids=lambda exhibit: exhibit.name,
)
def test_honest_programs_pass_in_the_interpreter(
    evaluator: LocalEvaluator, exhibit: Exhibit
) -> None:
    outcome = evaluator.evaluate("scale_rows", exhibit.candidate).outcome
    assert isinstance(outcome, Passed), outcome


@pytest.mark.skipif(
    not visible_gpus() or "HARNESS_ZOO" not in os.environ,
    reason="takes minutes on a GPU: make zoo, or HARNESS_ZOO=1",
)
def test_the_scorecard_on_a_gpu_is_clean() -> None:
    assert all(show_gpu())


def test_a_candidate_of_the_zoo_has_its_language() -> None:
    languages = {e.name: e.candidate.language for e in KERNELS.values()}
    assert languages["hang"] == "cuda"
    assert languages["endless_trace"] == "triton"
    assert languages["nan"] == "python"
    assert isinstance(KERNELS["nan"].candidate, Candidate)
