"""What is held against a candidate's times and its process; each check raises CandidateFailure.

Covered: the two clocks, on a CPU and on a GPU; the roofline floor; loaded libraries.
Not covered: calls back to back (back_to_back.py); outputs (verification.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.evaluate.libraries import foreign_libraries, kernel_libraries
from harness.evaluate.program import CandidateFailure, Clocks, Contents, Timed
from harness.evaluate.settings import EvaluatorSettings
from harness.evaluate.side import Side
from harness.suite import Task
from harness.types import Status, Workload

if TYPE_CHECKING:
    from harness.evaluate.bench import Bench


def check_wake_clocks(
    candidate: Sequence[Clocks], baseline: Sequence[Clocks], settings: EvaluatorSettings
) -> None:
    """The two clocks on a CPU: what the judge's clock shows for a call, and what the worker's does.

    Rejects a worker that tells more than passed in some call, or little in every one of calls that
    are all longer than what the baseline shows as the resolution of this test. A delayed wake-up on
    a busy machine looks like the latter, but not in every call of an evaluation.
    """
    too_much = max(call.worker.call_ns - call.wall_ns for call in candidate) / 1e3
    resolution = statistics.median(c.wall_ns - c.worker.call_ns for c in baseline) / 1e3
    measurable = settings.clock_slack_us + 3 * max(0.0, resolution)
    share = max(call.worker.call_ns / call.wall_ns for call in candidate)
    short = min(call.wall_ns for call in candidate) / 1e3 <= measurable
    if too_much <= 1.0 and (short or share >= settings.clock_share):
        return
    if too_much > 1.0:
        what = f"tells up to {too_much:.1f} us more than passed"
    else:
        what = f"tells at most {100 * share:.1f} % of the time that passed in each call"
    raise CandidateFailure(
        Status.REJECTED,
        "two_clocks",
        f"the worker's clock {what}, by the judge's clock",
        {"more_us": too_much, "share": share, "resolution_us": resolution},
    )


def check_event_clocks(
    timed: Timed, settings: EvaluatorSettings, *, confirmed: bool = False
) -> None:
    """Raise the first of `clock_failures`, if there is one."""
    for failure in clock_failures(timed, settings, confirmed=confirmed).values():
        raise failure


def clock_failures(
    timed: Timed, settings: EvaluatorSettings, *, confirmed: bool = False
) -> dict[Workload, CandidateFailure]:
    """The two clocks on a GPU: beyond its device time a call lasts as long as a baseline's call of
    that device time does (two changes of context, the way back; more for longer calls); what lasts
    longer was left out of the events: work on other streams, work after the call, or a worker's
    lie. And nothing was computed while the judge prepared the calls.

    By the median, and by the lower quartile with less slack, so that a delayed wake-up of
    some calls does not count; of few calls by the one that was delayed least. Between the
    baseline's workloads it interpolates, by the logarithm of the device time. Where memory is
    copied instead, a call lasts longer by the size of its tensors: only the same workload's
    baseline is compared.

    confirmed: the lower quartile has the median's slack. Honest programs on several streams were
    52 and 58 us off, half of it in waiting until all of them are idle; calls back to back see less
    than that (`back_to_back.py`).
    """
    baselines = [theirs for _, theirs in timed.values()]
    failures: dict[Workload, CandidateFailure] = {}
    for workload, (candidate, baseline) in timed.items():
        copied = statistics.median(beyond_us(baseline)) > settings.gpu_contexts_us
        try:
            known = [baseline] if copied else baselines
            _check_told(candidate, known, settings, confirmed=confirmed)
            _check_idle_before(candidate, baseline, settings)
        except CandidateFailure as failure:
            failure.workload = workload.name
            failures[workload] = failure
    return failures


def _check_told(
    candidate: Sequence[Clocks],
    baselines: Sequence[Sequence[Clocks]],
    settings: EvaluatorSettings,
    *,
    confirmed: bool,
) -> None:
    told = told_us(candidate)
    tails = [c.worker.tail_ns / 1e3 for c in candidate]
    few = _few(candidate, settings)
    tail = min(tails) if few else statistics.median(tails)
    cold = settings.gpu_cold_us if few else 0.0
    late = tail > settings.gpu_tail_us + cold
    known = sorted((told_us(calls), beyond_us(calls)) for calls in baselines)
    places = [np.log(max(place, 1.0)) for place, _ in known]
    at = np.log(max(told, 1.0))
    deviation = float(np.interp(at, places, [_deviation(usual) for _, usual in known]))
    mine, share = beyond_us(candidate), settings.gpu_clock_share * told
    longer = max(0.0, told - known[-1][0])
    share += min(settings.gpu_long_us, settings.gpu_long_share * longer)
    low = 0.0 if few else 0.25
    quartile_us = settings.gpu_clock_slack_us if confirmed else settings.gpu_clock_quartile_us
    for quantile, usually, slack in (
        (2 * low, 0.5, settings.gpu_clock_slack_us + 3 * deviation),
        (low, 0.25, quartile_us + deviation),
    ):
        usual = float(
            np.interp(at, places, [float(np.quantile(calls, usually)) for _, calls in known])
        )
        beyond = float(np.quantile(mine, quantile)) - usual
        copies = settings.gpu_copies_share * max(0.0, usual - settings.gpu_contexts_us)
        resolution = slack + cold + share + copies
        if beyond <= resolution and not late:
            continue
        raise CandidateFailure(
            Status.REJECTED,
            "side_stream" if late else "two_clocks",
            f"calls last {beyond:.0f} us longer than their device time explains (resolution "
            f"{resolution:.0f} us); {tail:.0f} us the device worked on after the last event of the "
            "call",
            {"beyond_us": beyond, "tail_us": tail, "resolution_us": resolution},
        )


def _check_idle_before(
    candidate: Sequence[Clocks], baseline: Sequence[Clocks], settings: EvaluatorSettings
) -> None:
    prepared, usually = ([c.prepare_ns / 1e3 for c in calls] for calls in (candidate, baseline))
    least = min(prepared) if _few(candidate, settings) else statistics.median(prepared)
    longer = least - statistics.median(usually)
    if longer > settings.gpu_prepare_us + 3 * _deviation(usually):
        raise CandidateFailure(
            Status.REJECTED,
            "ran_while_held",
            f"preparing a call took {longer:.0f} us longer than the baseline's: the device was at "
            "work for the program before its inputs were there",
            {"longer_us": longer},
        )


def _few(calls: Sequence[Clocks], settings: EvaluatorSettings) -> bool:
    """Whether the call that was delayed least counts, for want of a median."""
    return len(calls) < settings.gpu_clock_calls


def told_us(calls: Sequence[Clocks]) -> float:
    """How long a call lasts by the worker's clock."""
    return statistics.median(call.worker.call_ns for call in calls) / 1e3


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation, by the median of the distances from the median."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def beyond_us(calls: Sequence[Clocks]) -> list[float]:
    """How much longer each call lasted by the judge's clock than by the worker's."""
    return [(call.wall_ns - call.worker.call_ns) / 1e3 for call in calls]


def hold_to_floor(
    bench: Bench,
    workload: Workload,
    contents: Sequence[Contents],
    calls: Sequence[Clocks],
    flags: list[str],
) -> float:
    """The roofline floor of these calls, in microseconds; raises CandidateFailure where they are
    faster. contents: of each call. Where the work of a call depends on its contents, the medians of
    the same calls are compared: each of them has a floor of its own."""
    looked = bench.floor_calls
    floor = statistics.median(bench.floor_us(workload, c) for c in contents[:looked])
    held = calls[:looked] if looked > 1 else calls
    latency = statistics.median(call.latency_ns for call in held) / 1e3
    check_floor(latency, floor, flags, bench.settings)
    return floor


def check_floor(
    latency_us: float, floor: float, flags: list[str], settings: EvaluatorSettings
) -> None:
    """Reject a time (microseconds) that the device cannot reach; flag one that is close to it."""
    if latency_us < settings.floor_margin * floor:
        raise CandidateFailure(
            Status.REJECTED,
            "floor",
            f"{latency_us:.1f} us is below the roofline floor of {floor:.1f} us",
            {"latency_us": latency_us, "floor_us": floor},
        )
    if latency_us < settings.floor_flag * floor:
        flags.append(f"below {settings.floor_flag:g} x floor")


def check_libraries(task: Task, side: Side, parent_pid: int) -> None:
    """Reject a candidate that loaded a library where the task forbids them; a baseline may."""
    if task.libraries == "allowed" or side.program.baseline:
        return
    look = kernel_libraries if task.device == "cuda" else foreign_libraries
    foreign = look(side.pid, parent_pid)
    if foreign:
        names = ", ".join(foreign)
        raise CandidateFailure(
            Status.REJECTED,
            "library",
            f"the task forbids libraries; loaded: {names}",
            {"libraries": names},
        )
