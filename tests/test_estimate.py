"""What a comparison will cost, and whether to ask first."""

from __future__ import annotations

import pytest

from harness.errors import UnknownName
from harness.llm.estimate import (
    OTHER_METHOD,
    CallProfile,
    PlannedRuns,
    confirmation_text,
    estimate,
    needs_confirmation,
)
from harness.llm.models import ModelSettings, Schedule

PRICES = {
    "input_dollars_per_million": 1.0,
    "output_dollars_per_million": 10.0,
    "date": "2026-01-31",
    "source": "a test",
}
ADDRESS = "http://127.0.0.1:1/v1"
MODELS = {
    "priced": ModelSettings.model_validate(
        {"name": "priced", "model": "m", "base_url": ADDRESS, "prices": PRICES}
    ),
    "unpriced": ModelSettings(name="unpriced", model="m", base_url=ADDRESS),
    "simulated": ModelSettings(name="simulated", kind="simulated"),
}
PROFILES = {"m": CallProfile(2.0, 1_000, 500, "a test's assumption")}


def made(model: str, *, method: str = "m", runs: int = 9, charges: int = 20):
    plan = PlannedRuns(method, Schedule.parse(model), runs, charges)
    return estimate([plan], MODELS, device_seconds_per_evaluation=10.0, profiles=PROFILES)


def test_an_estimate_is_the_product_of_its_stated_numbers():
    result = made("priced")
    calls = 9 * 20 * 2.0
    assert result.calls == result.live_calls == calls
    assert result.tokens == calls * 1_500
    assert result.dollars == pytest.approx(calls * (1_000 * 1.0 + 500 * 10.0) / 1e6)
    assert result.device_hours == pytest.approx(9 * 20 * 10 / 3600)


def test_a_schedule_is_split_over_its_models():
    result = made("priced:5,unpriced")
    assert [(line.model, line.calls) for line in result.lines] == [
        ("priced", 9 * 5 * 2.0),
        ("unpriced", 9 * 15 * 2.0),
    ]
    assert result.dollars is None


def test_a_method_without_a_profile_gets_the_stated_assumption():
    line = made("priced", method="user:method").lines[0]
    assert line.calls == 9 * 20 * OTHER_METHOD.llm_calls_per_charge
    assert line.source == OTHER_METHOD.source


def test_a_model_that_does_not_exist_is_an_error():
    with pytest.raises(UnknownName, match="priecd"):
        made("priecd")


@pytest.mark.parametrize(
    ("model", "limit", "asked"),
    [
        ("priced", 2.0, True),
        ("priced", 3.0, False),
        ("unpriced", 1e9, True),
        ("simulated", 0, False),
    ],
)
def test_confirmation_is_needed_above_the_limit_or_at_an_unknown_price(model, limit, asked):
    assert needs_confirmation(made(model), limit) is asked


def test_the_text_states_totals_sources_and_why_it_asks():
    text = confirmation_text(made("priced"), 2.0)
    assert "360 LLM calls, 0.54 M tokens, 2.16 dollars, 0.5 device hours" in text
    assert "a test's assumption" in text
    assert "above the limit of 2.00 dollars" in text
    assert "--yes" in text


def test_the_text_names_the_models_without_a_price():
    text = confirmation_text(made("priced:5,unpriced"), 100.0)
    assert "The price of unpriced is unknown" in text


def test_the_text_of_a_free_comparison_asks_nothing():
    assert "--yes" not in confirmation_text(made("simulated"), 0.0)
