"""harness/evaluate/verification.py: the two clocks and the floor, on given numbers."""

import pytest

from harness.evaluate.channel import WorkerTimes
from harness.evaluate.program import Batch, CandidateFailure, Clocks
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.verification import (
    check_batch_clocks,
    check_event_clocks,
    check_floor,
    check_wake_clocks,
)

SETTINGS = EvaluatorSettings()


def call(wall_ns: int, worker_ns: int, tail_ns: int = 0) -> Clocks:
    return Clocks(wall_ns, wall_ns, WorkerTimes(worker_ns, 0, tail_ns))


BASELINE = [call(400_000, 370_000)] * 5


def test_honest_clocks_pass() -> None:
    check_wake_clocks([call(900_000, 870_000)] * 5, BASELINE, SETTINGS)


def test_a_delayed_wake_up_in_some_calls_is_no_patched_clock() -> None:
    delayed = [call(900_000, 100_000)] * 4 + [call(500_000, 300_000)]
    check_wake_clocks(delayed, BASELINE, SETTINGS)


def test_delays_of_a_very_short_kernel_are_no_patched_clock() -> None:
    check_wake_clocks([call(30_000, 5_000)] * 4 + [call(900_000, 5_000)], BASELINE, SETTINGS)


@pytest.mark.parametrize("share", [0.0, 0.12])
def test_a_clock_that_tells_little_in_every_call_is_rejected(share: float) -> None:
    with pytest.raises(CandidateFailure, match="of the time that passed"):
        check_wake_clocks([call(900_000, int(900_000 * share))] * 5, BASELINE, SETTINGS)


def test_a_clock_that_tells_more_than_passed_is_rejected() -> None:
    with pytest.raises(CandidateFailure, match="more than passed"):
        check_wake_clocks([call(900_000, 870_000), call(900_000, 902_000)], BASELINE, SETTINGS)


def test_an_impossible_time_is_rejected_and_a_close_one_is_flagged() -> None:
    flags: list[str] = []
    check_floor(130.0, 100.0, flags, SETTINGS)
    assert flags == []
    check_floor(110.0, 100.0, flags, SETTINGS)
    assert flags == ["below 1.2 x floor"]
    with pytest.raises(CandidateFailure, match="below the roofline floor"):
        check_floor(80.0, 100.0, flags, SETTINGS)


# On a GPU 1.5 ms of a call are the flush, the delay, and the way there and back.
ON_A_GPU = [call(2_500_000 + 3_000 * n, 1_000_000) for n in range(5)]


def test_on_a_gpu_a_call_may_last_longer_than_its_events_as_the_baseline_does() -> None:
    check_event_clocks([call(1_520_000 + 300_000, 300_000, 5_000)] * 5, ON_A_GPU, SETTINGS)


def test_on_a_gpu_work_that_the_events_do_not_see_is_rejected() -> None:
    with pytest.raises(CandidateFailure, match="longer than their device time") as caught:
        check_event_clocks([call(2_500_000, 300_000)] * 5, ON_A_GPU, SETTINGS)
    assert caught.value.check == "two_clocks"
    with pytest.raises(CandidateFailure) as caught:
        check_event_clocks([call(2_500_000, 300_000, 690_000)] * 5, ON_A_GPU, SETTINGS)
    assert caught.value.check == "side_stream"


def test_on_a_gpu_a_small_lie_in_every_call_shows_in_the_lower_quartile() -> None:
    told = [call(1_500_000 + 300_000 + 160_000, 300_000)] * 10
    check_event_clocks([call(1_500_000 + 300_000 + 90_000, 300_000)] * 10, ON_A_GPU, SETTINGS)
    with pytest.raises(CandidateFailure, match="resolution 10"):
        check_event_clocks(told, ON_A_GPU, SETTINGS)


def test_on_a_gpu_a_long_call_may_be_off_by_a_share_of_itself() -> None:
    check_event_clocks([call(281_500_000 + 550_000, 280_000_000)] * 3, ON_A_GPU, SETTINGS)


def test_calls_back_to_back_show_a_small_lie_about_single_ones() -> None:
    typical = Clocks(70_000, 0, WorkerTimes(70_000, 20_000))
    honest = Batch(200, 1_150_000 + 200 * 72_000, WorkerTimes(0))
    assert "200 calls back to back: 72.0 us each" in check_batch_clocks(honest, typical, SETTINGS)
    with pytest.raises(CandidateFailure, match=r"were told to last 70\.0 us"):
        check_batch_clocks(Batch(200, 1_150_000 + 200 * 137_000, WorkerTimes(0)), typical, SETTINGS)


def test_on_a_gpu_a_few_delayed_calls_are_no_lie() -> None:
    calls = [call(1_800_000, 300_000)] * 5 + [call(9_000_000, 300_000)] * 4
    check_event_clocks(calls, ON_A_GPU, SETTINGS)
