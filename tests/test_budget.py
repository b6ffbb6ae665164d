"""Budgets: which values are allowed, and which limit is named when."""

from __future__ import annotations

import pytest

from harness.budget import Budget, Meter
from harness.errors import UsageError
from harness.llm.client import Reply
from harness.types import Evaluation, Failed, Phase, Stage, Status, Usage

FAILED = Failed(Status.TIMEOUT, Stage.SMOKE, "time", "too slow")


def reply(tokens=10, dollars=0.1, seconds=2.0):
    return Reply("x", Usage(tokens, 0, 0, dollars), seconds)


@pytest.mark.parametrize(
    "wrong",
    [
        {"charges": 0},
        {"charges": -1},
        {"charges": 1.5},
        {"charges": True},
        {"charges": None},
        {"charges": 1, "llm_calls": 0},
        {"charges": 1, "tokens": 2.5},
        {"charges": 1, "dollars": 0},
        {"charges": 1, "dollars": float("nan")},
        {"charges": 1, "seconds": float("inf")},
        {"charges": 1, "seconds": "10"},
    ],
)
def test_a_limit_that_is_no_positive_number_is_refused(wrong):
    with pytest.raises(UsageError, match="Budget: "):
        Budget(**wrong)


def test_an_unlimited_meter_names_no_limit():
    meter = Meter(Budget(charges=1))
    meter.add_reply(reply(10**9, 10**6, 10**6))
    assert meter.exceeded() is None


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"tokens": 20}, "tokens"),
        ({"dollars": 0.2}, "dollars"),
        ({"seconds": 4.0}, "seconds"),
        ({"tokens": 20, "dollars": 0.2, "seconds": 4.0}, "tokens"),
    ],
)
def test_a_limit_is_reached_when_it_is_met_and_not_before(limits, name):
    meter = Meter(Budget(charges=9, **limits))
    meter.add_reply(reply())
    assert meter.exceeded() is None
    meter.add_reply(reply())
    assert meter.exceeded() == name


def test_charges_and_evaluation_seconds_count_evaluations():
    meter = Meter(Budget(charges=2, seconds=7.0))
    for _ in range(2):
        assert meter.evaluation_exceeded() is None
        meter.add_evaluation(Evaluation(None, Phase.SEARCH, FAILED, "", 1.0, 2.0))
    assert (meter.charges, meter.charges_left, meter.seconds) == (2, 0, 6.0)
    assert meter.evaluation_exceeded() == "charges"


def test_limits_on_the_model_do_not_forbid_an_evaluation():
    meter = Meter(Budget(charges=2, tokens=1))
    meter.add_reply(reply())
    assert (meter.exceeded(), meter.evaluation_exceeded()) == ("tokens", None)


def test_a_dollar_budget_needs_the_price_of_every_model():
    with pytest.raises(UsageError, match=r"a-model, b-model has none"):
        Budget(charges=1, dollars=1.0).require_prices(["b-model", "a-model"])
    Budget(charges=1).require_prices(["b-model"])


def test_a_reply_of_unknown_cost_is_refused_only_under_a_dollar_budget():
    Meter(Budget(charges=1)).add_reply(reply(dollars=None))
    with pytest.raises(UsageError, match="known prices"):
        Meter(Budget(charges=1, dollars=1.0)).add_reply(reply(dollars=None))
