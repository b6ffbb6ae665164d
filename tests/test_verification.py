"""harness/evaluate/verification.py: the two clocks and the floor, on given numbers."""

import pytest

from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import CandidateFailure
from harness.evaluate.verification import Clocks, check_clocks, check_floor

SETTINGS = EvaluatorSettings()
BASELINE = [Clocks(400_000, 370_000)] * 5


def test_honest_clocks_pass() -> None:
    check_clocks([Clocks(900_000, 870_000)] * 5, BASELINE, SETTINGS)


def test_a_delayed_wake_up_in_some_calls_is_no_patched_clock() -> None:
    delayed = [Clocks(900_000, 100_000)] * 4 + [Clocks(500_000, 300_000)]
    check_clocks(delayed, BASELINE, SETTINGS)


def test_delays_of_a_very_short_kernel_are_no_patched_clock() -> None:
    check_clocks([Clocks(30_000, 5_000)] * 4 + [Clocks(900_000, 5_000)], BASELINE, SETTINGS)


@pytest.mark.parametrize("share", [0.0, 0.12])
def test_a_clock_that_tells_little_in_every_call_is_rejected(share: float) -> None:
    with pytest.raises(CandidateFailure, match="of the time that passed"):
        check_clocks([Clocks(900_000, int(900_000 * share))] * 5, BASELINE, SETTINGS)


def test_a_clock_that_tells_more_than_passed_is_rejected() -> None:
    with pytest.raises(CandidateFailure, match="more than passed"):
        check_clocks([Clocks(900_000, 870_000), Clocks(900_000, 902_000)], BASELINE, SETTINGS)


def test_an_impossible_time_is_rejected_and_a_close_one_is_flagged() -> None:
    flags: list[str] = []
    check_floor(130.0, 100.0, flags, SETTINGS)
    assert flags == []
    check_floor(110.0, 100.0, flags, SETTINGS)
    assert flags == ["below 1.2 x floor"]
    with pytest.raises(CandidateFailure, match="below the roofline floor"):
        check_floor(80.0, 100.0, flags, SETTINGS)
