"""Where the two clocks of a search on a GPU are off by little, calls back to back decide: on given
numbers."""

from collections.abc import Mapping

import numpy as np
import pytest

from harness.evaluate import gpu_bench
from harness.evaluate.back_to_back import BackToBack
from harness.evaluate.gpu_bench import GpuBench
from harness.evaluate.program import CandidateFailure, Program, Timed
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Status, Workload
from tests.test_clocks import calls
from tests.test_gpu_bench import FakeDriver, bench_of
from tests.toy_gpu_suite import ScaleRows

PROGRAM = Program("python", b"")
RNG = np.random.default_rng(0)
SMALL, LARGE = ScaleRows.search[:2]


def timed(small_us: int, large_us: int = 0) -> Timed:
    usual = calls(0)
    return {SMALL: (calls(small_us), usual), LARGE: (calls(large_us), usual)}


class Batches:
    """What calls back to back show, and which were made."""

    def __init__(self, shown: Mapping[Workload, BackToBack] | CandidateFailure) -> None:
        self.shown = shown
        self.asked: list[tuple[Workload, ...]] = []

    def __call__(
        self,
        bench: object,
        program: Program,
        timed: Timed,
        rng: object,
        *,
        most: int,
        memory_bytes: int,
    ) -> Mapping[Workload, BackToBack]:
        assert program is PROGRAM
        assert most == len(timed)  # none is left out by a draw
        assert memory_bytes > 0
        self.asked.append(tuple(timed))
        if isinstance(self.shown, CandidateFailure):
            raise self.shown
        return self.shown


@pytest.fixture
def bench() -> GpuBench:
    return bench_of(ScaleRows(), EvaluatorSettings(), FakeDriver())


def settle(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch, given: Timed, batches: Batches
) -> Mapping[Workload, str]:
    monkeypatch.setattr(gpu_bench, "check_back_to_back", batches)
    return bench.settle_clocks(PROGRAM, given, RNG)


TIMED = BackToBack("16 calls back to back: 301.0 us each", 301.0)


def test_clocks_that_agree_need_no_more_calls(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches({})
    assert settle(bench, monkeypatch, timed(30), batches) == {}
    assert batches.asked == []


def test_a_program_that_is_off_by_little_passes_by_its_calls_back_to_back(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches({SMALL: TIMED})
    assert settle(bench, monkeypatch, timed(58), batches) == {SMALL: TIMED.text}
    assert batches.asked == [(SMALL,)]
    batches = Batches({SMALL: TIMED, LARGE: TIMED})
    assert settle(bench, monkeypatch, timed(58, 55), batches).keys() == {SMALL, LARGE}


def test_it_is_rejected_where_they_speak_against_it(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Batches(CandidateFailure(Status.REJECTED, "two_clocks", "back to back 350 us"))
    with pytest.raises(CandidateFailure, match="back to back 350 us"):
        settle(bench, monkeypatch, timed(58), batches)


@pytest.mark.parametrize("shown", [{}, {SMALL: BackToBack("not timed back to back: has a plan")}])
def test_it_is_rejected_as_before_where_there_are_none(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch, shown: Mapping[Workload, BackToBack]
) -> None:
    batches = Batches(shown)
    with pytest.raises(CandidateFailure, match="58 us longer than their device time") as caught:
        settle(bench, monkeypatch, timed(58), batches)
    assert (caught.value.check, caught.value.workload) == ("two_clocks", SMALL.name)
    assert batches.asked == [(SMALL,)]


@pytest.mark.parametrize("given", [timed(90), timed(58, 90)])
def test_what_is_off_by_more_has_no_such_chance(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch, given: Timed
) -> None:
    batches = Batches({SMALL: TIMED, LARGE: TIMED})
    with pytest.raises(CandidateFailure, match="90 us longer than their device time"):
        settle(bench, monkeypatch, given, batches)
    assert batches.asked == []
