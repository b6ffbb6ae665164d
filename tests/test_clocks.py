"""harness/evaluate/clocks.py: the two clocks and the floor, on given numbers."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from harness.evaluate.back_to_back import check_batch_clocks
from harness.evaluate.channel import WorkerTimes
from harness.evaluate.clocks import (
    check_event_clocks,
    check_floor,
    check_wake_clocks,
    hold_to_floor,
)
from harness.evaluate.program import Batch, Call, CandidateFailure, Clocks
from harness.evaluate.settings import EvaluatorSettings
from harness.types import Workload

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


WORKLOAD = Workload("large", {})

# On a GPU 0.3 ms of a call are two changes of context and the way back.
ON_A_GPU = [call(1_320_000 + 3_000 * n, 1_000_000) for n in range(5)]


def test_on_a_gpu_a_call_may_last_longer_than_its_events_as_the_baseline_does() -> None:
    check_event_clocks(
        {WORKLOAD: ([call(340_000 + 300_000, 300_000, 5_000)] * 5, ON_A_GPU)}, SETTINGS
    )


def test_on_a_gpu_work_that_the_events_do_not_see_is_rejected() -> None:
    with pytest.raises(CandidateFailure, match="longer than their device time") as caught:
        check_event_clocks({WORKLOAD: ([call(1_400_000, 300_000)] * 5, ON_A_GPU)}, SETTINGS)
    assert caught.value.check == "two_clocks"
    with pytest.raises(CandidateFailure) as caught:
        check_event_clocks(
            {WORKLOAD: ([call(1_400_000, 300_000, 690_000)] * 5, ON_A_GPU)}, SETTINGS
        )
    assert caught.value.check == "side_stream"


def test_on_a_gpu_a_tail_has_a_slack_of_its_own() -> None:
    within = [call(340_000 + 300_000, 300_000, 49_000)] * 8
    check_event_clocks({WORKLOAD: (within, ON_A_GPU)}, SETTINGS)
    with pytest.raises(CandidateFailure, match="51 us the device worked on"):
        check_event_clocks(
            {WORKLOAD: ([call(340_000 + 300_000, 300_000, 51_000)] * 8, ON_A_GPU)}, SETTINGS
        )


def test_on_a_gpu_a_small_lie_in_every_call_shows_in_the_lower_quartile() -> None:
    check_event_clocks(
        {WORKLOAD: ([call(320_000 + 300_000 + 40_000, 300_000)] * 10, ON_A_GPU)}, SETTINGS
    )
    with pytest.raises(CandidateFailure, match="resolution 4"):
        check_event_clocks(
            {WORKLOAD: ([call(320_000 + 300_000 + 65_000, 300_000)] * 10, ON_A_GPU)}, SETTINGS
        )


def calls(beyond_us: int) -> list[Clocks]:
    """Of 300 us; by the judge's clock so much longer than the changes of context explain."""
    return [call((320 + 300 + beyond_us) * 1000, 300_000)] * 10


def test_on_a_gpu_a_confirmation_leaves_the_smaller_lies_to_calls_back_to_back() -> None:
    with pytest.raises(CandidateFailure, match="resolution 4"):
        check_event_clocks({WORKLOAD: (calls(62), ON_A_GPU)}, SETTINGS)
    check_event_clocks({WORKLOAD: (calls(62), ON_A_GPU)}, SETTINGS, confirmed=True)
    with pytest.raises(CandidateFailure, match=r"resolution [67]"):
        check_event_clocks({WORKLOAD: (calls(90), ON_A_GPU)}, SETTINGS, confirmed=True)


def test_on_a_gpu_of_few_calls_the_one_that_was_delayed_least_counts() -> None:
    honest, delayed = call(320_000 + 300_000, 300_000), call(2_320_000 + 300_000, 300_000)
    check_event_clocks({WORKLOAD: ([honest, delayed], ON_A_GPU)}, SETTINGS)
    cold = call(770_000, 300_000, 190_000)  # it comes after other work of the judge's
    check_event_clocks({WORKLOAD: ([cold, delayed], ON_A_GPU)}, SETTINGS)
    with pytest.raises(CandidateFailure, match="resolution 19"):
        check_event_clocks({WORKLOAD: ([call(840_000, 300_000), delayed], ON_A_GPU)}, SETTINGS)
    late = [call(620_000, 300_000, 210_000)] * 2
    with pytest.raises(CandidateFailure) as caught:
        check_event_clocks({WORKLOAD: (late, ON_A_GPU)}, SETTINGS)
    assert caught.value.check == "side_stream"


def test_on_a_gpu_calls_longer_than_any_of_the_baselines_may_last_longer() -> None:
    for told_ms, beyond_us in ((3, 380), (10, 450), (40, 620), (200, 680)):
        long = [call(told_ms * 1_000_000 + beyond_us * 1000, told_ms * 1_000_000)] * 8
        check_event_clocks({WORKLOAD: (long, ON_A_GPU)}, SETTINGS)
    with pytest.raises(CandidateFailure, match="494 us longer"):
        check_event_clocks({WORKLOAD: ([call(10_820_000, 10_000_000)] * 8, ON_A_GPU)}, SETTINGS)


def test_where_memory_is_copied_a_call_is_held_to_the_same_workloads_baseline() -> None:
    small, large = Workload("small", {}), Workload("large", {})
    copied = {
        small: [call(5_500_000 + 140_000, 140_000)] * 10,
        large: [call(12_500_000 + 310_000, 310_000)] * 10,
    }

    def timed(beyond_ns: int) -> dict[Workload, tuple[list[Clocks], list[Clocks]]]:
        mine = {
            small: [call(5_400_000 + 50_000, 50_000)] * 10,
            large: [call(beyond_ns + 110_000, 110_000)] * 10,
        }
        return {w: (mine[w], theirs) for w, theirs in copied.items()}

    check_event_clocks(timed(12_400_000), SETTINGS)
    check_event_clocks(timed(13_600_000), SETTINGS)
    with pytest.raises(CandidateFailure, match="2000 us longer") as caught:
        check_event_clocks(timed(14_500_000), SETTINGS)
    assert caught.value.workload == "large"


def test_on_a_gpu_a_long_call_may_be_off_by_a_share_of_itself() -> None:
    check_event_clocks(
        {WORKLOAD: ([call(280_320_000 + 550_000, 280_000_000)] * 3, ON_A_GPU)}, SETTINGS
    )


def test_on_a_gpu_work_while_the_judge_prepares_a_call_is_rejected() -> None:
    def prepared(nanoseconds: int) -> list[Clocks]:
        return [replace(clocks, prepare_ns=nanoseconds) for clocks in ON_A_GPU]

    check_event_clocks({WORKLOAD: (prepared(450_000), prepared(250_000))}, SETTINGS)
    delayed = [*prepared(250_000)[:1], *prepared(3_250_000)[:1]]
    check_event_clocks({WORKLOAD: (delayed, prepared(250_000))}, SETTINGS)
    with pytest.raises(CandidateFailure, match="before its inputs were there") as caught:
        check_event_clocks({WORKLOAD: (prepared(3_250_000), prepared(250_000))}, SETTINGS)
    assert caught.value.check == "ran_while_held"


def test_on_a_gpu_what_a_call_adds_is_that_of_a_baselines_call_of_its_length() -> None:
    short, long = Workload("short", {}), Workload("long", {})
    baseline = {short: [call(1_320_000, 1_000_000)] * 5, long: [call(20_500_000, 20_000_000)] * 5}

    def timed(beyond_us: int) -> dict[Workload, tuple[list[Clocks], list[Clocks]]]:
        mine = [call(1_000_000 + 1000 * beyond_us, 1_000_000)] * 8
        return {w: (mine, theirs) for w, theirs in baseline.items()}

    check_event_clocks(timed(350), SETTINGS)
    with pytest.raises(CandidateFailure, match="90 us longer") as caught:
        check_event_clocks(timed(410), SETTINGS)
    assert caught.value.workload == "short"


def test_calls_back_to_back_show_a_small_lie_about_single_ones() -> None:
    def batch(each_ns: int) -> Batch:
        clocks = call(326_000 + 16 * each_ns, 0)
        return Batch([Call(None, {}, clocks)] * 16, clocks)

    honest = check_batch_clocks(batch(72_000), 70.0, ON_A_GPU, SETTINGS)
    assert honest.text == "16 calls back to back: 72.0 us each"
    assert honest.each_us == pytest.approx(72.0)
    with pytest.raises(CandidateFailure, match=r"were told to last 70\.0 us"):
        check_batch_clocks(batch(83_000), 70.0, ON_A_GPU, SETTINGS)


def test_on_a_gpu_a_few_delayed_calls_are_no_lie() -> None:
    calls = [call(620_000, 300_000)] * 5 + [call(9_000_000, 300_000)] * 4
    check_event_clocks({WORKLOAD: (calls, ON_A_GPU)}, SETTINGS)


@dataclass
class Floors:
    """A bench of which a call's floor is its contents, in microseconds."""

    floor_calls: int
    settings = SETTINGS

    def floor_us(self, workload: Workload, contents: float) -> float:
        return contents


def test_where_work_varies_the_same_calls_floors_and_latencies_are_compared() -> None:
    # Half of the calls have nearly nothing to do; the first one has much.
    contents = [26.0, 0.1, 26.0, 0.1, 0.1, 26.0, 0.1, 0.1]
    latencies = [call(1000 * us, 0) for us in (30, 8, 31, 9, 8, 30, 9, 8)]
    flags: list[str] = []
    with pytest.raises(CandidateFailure, match="below the roofline floor"):
        hold_to_floor(Floors(1), WORKLOAD, contents, latencies, flags)  # type: ignore[arg-type]
    bench: Any = Floors(8)
    floor = hold_to_floor(bench, WORKLOAD, contents, latencies, flags)
    assert floor == pytest.approx(0.1)
    too_fast = [call(1000 * us, 0) for us in (9, 8, 9, 8, 8, 9, 8, 8)]
    work = [26.0] * 5 + [0.1] * 3
    with pytest.raises(CandidateFailure, match="below the roofline floor of 26"):
        hold_to_floor(bench, WORKLOAD, work, too_fast, flags)
    # Calls after those have contents of their own.
    more = latencies + [call(1_000, 0)] * 40
    assert hold_to_floor(bench, WORKLOAD, contents, more, flags) == floor
