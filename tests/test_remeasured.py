"""The record of published kernels measured here: what it refuses, its means by gate and plan, its
JSON, and the command on a folder without one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import LogError, UsageError
from harness.remeasured import (
    GATES,
    PLANS,
    Remeasured,
    RemeasuredKernel,
    RemeasuredWorkload,
    read_remeasured,
    write_remeasured,
)
from harness.types import Status

PASSED, WRONG = Status.PASSED, Status.INCORRECT_NUMERICAL
FAST = RemeasuredWorkload("w0", PASSED, PASSED, latency_us=10.0, baseline_us=20.0)
SLOW = RemeasuredWorkload("w1", PASSED, PASSED, latency_us=40.0, baseline_us=20.0)
ONLY_PUBLISHED = RemeasuredWorkload(
    "w2", WRONG, PASSED, "a tail token is dropped", latency_us=5.0, baseline_us=20.0
)
PLANNED = RemeasuredWorkload(
    "w3", PASSED, PASSED, latency_us=10.0, baseline_us=20.0, plan_us=10.0, baseline_plan_us=60.0
)


def kernel(*workloads: RemeasuredWorkload) -> RemeasuredKernel:
    return RemeasuredKernel("task", "ksearch", "best.json", "0" * 16, workloads, PASSED)


def record(*kernels: RemeasuredKernel) -> Remeasured:
    gates = {"ours": "fresh inputs, elementwise and in norm", "published": "1e-2 or 1e-2"}
    return Remeasured(
        "2026-11-26T19:00:00+00:00", "NVIDIA H100", "FlashInfer 0.6.4", gates,
        {"commit": "abc"}, {"gpu": "NVIDIA H100"}, {"torch": "2.11"}, {"clock": "events"}, kernels,
    )  # fmt: skip


def test_means_are_over_all_workloads_arithmetic_and_geometric() -> None:
    means = kernel(FAST, SLOW).means("ours", "outside")
    assert means is not None
    assert means.arithmetic == pytest.approx((2.0 + 0.5) / 2)
    assert means.geometric == pytest.approx(1.0)


def test_plan_inside_adds_to_each_side_its_own_plan() -> None:
    assert PLANNED.speedup("outside") == pytest.approx(2.0)
    assert PLANNED.speedup("inside") == pytest.approx((20 + 60) / (10 + 10))
    assert FAST.speedup("inside") == FAST.speedup("outside")  # no side has a plan


def test_a_workload_that_fails_a_gate_voids_the_mean_under_that_gate_alone() -> None:
    found = kernel(FAST, ONLY_PUBLISHED)
    assert found.means("ours", "outside") is None
    published = found.means("published", "outside")
    assert published is not None
    assert published.geometric == pytest.approx(math.sqrt(2.0 * 4.0))
    assert (found.right("ours"), found.right("published")) == (1, 2)


def test_a_workload_without_a_valid_time_voids_every_mean() -> None:
    untimed = RemeasuredWorkload("w4", PASSED, PASSED, problem="below the roofline floor")
    assert {kernel(FAST, untimed).means(g, p) for g in GATES for p in PLANS} == {None}


def test_fast_p_counts_a_failed_workload_as_slower() -> None:
    found = kernel(FAST, SLOW, ONLY_PUBLISHED)
    assert found.fast("ours", "outside", 1.0) == pytest.approx(1 / 3)
    assert found.fast("published", "outside", 1.0) == pytest.approx(2 / 3)
    assert found.fast("ours", "outside", 0.5) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latency_us": 1.0}, "together"),
        ({"latency_us": 1.0, "baseline_us": 0.0}, "finite and > 0"),
        ({"latency_us": math.inf, "baseline_us": 1.0}, "finite and > 0"),
        ({"latency_us": 1.0, "baseline_us": 1.0, "plan_us": -1.0}, "finite and > 0"),
        ({}, "needs a time, or a problem"),
        ({"latency_us": 1.0, "baseline_us": 1.0, "problem": "slow"}, "needs a time, or a problem"),
    ],
)
def test_a_workload_that_makes_no_sense_cannot_be_built(fields: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        RemeasuredWorkload("w", PASSED, PASSED, **fields)


def test_a_workload_that_passes_no_gate_has_no_time() -> None:
    with pytest.raises(ValueError, match="passes no gate"):
        RemeasuredWorkload("w", WRONG, WRONG, latency_us=1.0, baseline_us=1.0)


def test_a_kernel_has_workloads_or_says_why_it_has_none() -> None:
    with pytest.raises(ValueError, match="needs workloads, or a failure"):
        kernel()
    with pytest.raises(ValueError, match="needs workloads, or a failure"):
        replace(kernel(FAST), failure="does not build")
    with pytest.raises(ValueError, match="twice"):
        kernel(FAST, FAST)
    failed = RemeasuredKernel("task", "ksearch", "b.json", "0" * 16, failure="does not build")
    assert failed.fast("ours", "outside", 1.0) is None
    assert failed.means("ours", "outside") is None


def test_the_record_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    failed = RemeasuredKernel("task", "openevolve", "oe.json", "1" * 16, failure="does not build")
    crashed = replace(
        kernel(FAST, ONLY_PUBLISHED, PLANNED),
        held_out=Status.RUNTIME_ERROR,
        held_out_message="illegal address",
    )
    written = record(crashed, failed)
    path = write_remeasured(tmp_path, written)
    assert read_remeasured(tmp_path) == written
    shown = json.loads(path.read_text())["kernels"][0]["means"]
    assert shown["ours, plan outside"] is None
    assert shown["published, plan inside"]["geometric"] == pytest.approx((2 * 4 * 4) ** (1 / 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("gates"), "not whole"),
        (lambda data: data["gates"].pop("ours"), "not whole"),
        (lambda data: data["kernels"][0]["workloads"][0].update(ours="GOOD"), "not whole"),
        (lambda data: data["kernels"][0]["workloads"][0].update(latency_us=-1), "not whole"),
        (lambda data: data.update(format=2), "no record of kernels of format 1"),
        (lambda data: data.update(kind="leaderboard"), "no record of kernels of format 1"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, change, message: str) -> None:
    path = write_remeasured(tmp_path, record(kernel(FAST)))
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(LogError, match=message):
        read_remeasured(tmp_path)


def test_a_folder_without_kernels_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "kernel.json").write_text("{}")
    arguments = ["reproduce", "--kernels", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, UsageError)
    for word in ("No kernel", "flashinfer", "kernel.json"):
        assert word in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--kernels", "--runs"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, option: str) -> None:
    arguments = ["reproduce", option, str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, UsageError)
    assert "There is no folder" in str(result.exception)
    assert option in str(result.exception)
