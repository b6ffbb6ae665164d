"""models.toml, its errors, model schedules and prices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UnknownName, UsageError
from harness.llm.models import (
    ModelSettings,
    Schedule,
    Segment,
    check_dollar_budget,
    find_model,
    load_models,
    read_models,
)

ENTRY = """
[[model]]
name = "mine"
model = "some/model"
base_url = "https://example.invalid/v1/"
key_variable = "MINE_API_KEY"
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "extra.toml") -> Path:
    file = Path(name)
    file.write_text(text)
    return file


def test_the_shipped_file_holds_the_papers_models_and_both_simulated_ones():
    models = load_models()
    assert {"gemini-3-pro-preview", "gpt-5.2", "simulated", "simulated-noise"} <= set(models)
    assert models["simulated-noise"].knobs == models["simulated"].knobs | {"world_model": "noise"}


def test_no_shipped_price_is_made_up():
    assert {m.prices for m in load_models().values()} == {"unknown"}


def test_every_shipped_simulated_model_has_knobs_that_the_simulated_model_takes():
    from harness.llm.simulated_knobs import Knobs

    simulated = [m for m in load_models().values() if m.kind == "simulated"]
    assert [Knobs.from_mapping(m.knobs).skill for m in simulated] == [0.6, 0.6]


def test_a_later_file_replaces_an_entry_as_a_whole():
    write(ENTRY, "models.toml")
    extra = write('[[model]]\nname = "mine"\nmodel = "other"\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert load_models()["mine"].key_variable == "MINE_API_KEY"
    assert load_models(extra)["mine"].key_variable is None


def test_a_slash_at_the_end_of_an_address_makes_no_second_endpoint():
    assert read_models(write(ENTRY))["mine"].base_url == "https://example.invalid/v1"


def test_sampling_of_a_request_holds_what_is_set_and_the_output_limit():
    entry = ENTRY + "sampling = { temperature = 0.6 }\nmax_output_tokens = 100\n"
    sampling = read_models(write(entry))["mine"].request_sampling()
    assert sampling == {"temperature": 0.6, "max_tokens": 100}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("temprature = 1.0", "temprature"),
        ("sampling = { temperature = 9.0 }", "sampling.temperature"),
        ("concurrency = 0", "concurrency"),
        ("timeout_seconds = inf", "timeout_seconds"),
        ("knobs = { skill = 1 }", "knobs"),
        ('kind = "magic"', "kind"),
        ("prices = { input_dollars_per_million = 1.0 }", "prices"),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_entry(line, expected):
    with pytest.raises(UsageError) as caught:
        read_models(write(ENTRY + line + "\n"))
    assert "extra.toml, entry 1 (mine)" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("place", ["key", "key_variable"])
def test_a_key_written_into_the_file_is_refused_and_not_repeated(place):
    text = ENTRY.replace("key_variable =", f"{place} =").replace("MINE_API_KEY", "sk-canary-123")
    with pytest.raises(UsageError) as caught:
        read_models(write(text))
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "address", ["https://user:canary@h.invalid/v1", "https://h.invalid/v1?key=canary", "h.invalid"]
)
def test_an_address_that_could_hold_a_secret_is_refused(address):
    with pytest.raises(UsageError) as caught:
        read_models(write(f'[[model]]\nname = "x"\nmodel = "m"\nbase_url = "{address}"\n'))
    assert "base_url" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[model]\n", "not valid TOML"),
        ("models = 3\n", "unexpected models"),
        ("model = 3\n", "unexpected model"),
        ("model = [3]\n", "entry 1"),
        (ENTRY + ENTRY, "two entries"),
        ('[[model]]\nname = "x"\n', "model and base_url"),
    ],
)
def test_a_file_of_another_shape_is_a_usage_error(text, expected):
    with pytest.raises(UsageError, match=expected):
        read_models(write(text))


def test_a_missing_extra_file_is_a_usage_error():
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        load_models(Path("nowhere.toml"))


def test_an_unknown_model_comes_with_a_suggestion():
    with pytest.raises(UnknownName, match=r"Did you mean 'gpt-5\.2'"):
        find_model(load_models(), "gpt-5.3")


def test_a_schedule_changes_the_model_after_its_charges():
    schedule = Schedule.parse("gpt-x:150, gemini-y")
    assert [schedule.at(c) for c in (0, 149, 150, 10_000)] == ["gpt-x"] * 2 + ["gemini-y"] * 2
    assert schedule.models == ("gpt-x", "gemini-y")
    assert schedule.split(300) == (Segment("gpt-x", 150), Segment("gemini-y", 150))
    assert schedule.split(100) == (Segment("gpt-x", 100),)


@pytest.mark.parametrize(
    "text", ["", "a:3", "a,b", "a:0,b", "a:-1,b", "a:x,b", ":3,b", "a:3,", "a:²,b"]
)
def test_a_malformed_schedule_is_a_usage_error(text):
    with pytest.raises(UsageError, match="Model schedule"):
        Schedule.parse(text)


@given(st.lists(st.integers(1, 50), max_size=5), st.integers(0, 300))
def test_the_stretches_of_a_schedule_agree_with_its_model_at_every_charge(counts, budget):
    text = ",".join([*(f"m{i}:{n}" for i, n in enumerate(counts)), "last"])
    schedule = Schedule.parse(text)
    by_stretch = [s.model for s in schedule.split(budget) for _ in range(s.charges)]
    assert by_stretch == [schedule.at(charge) for charge in range(budget)]


PRICED = {
    "input_dollars_per_million": 2.0,
    "output_dollars_per_million": 10.0,
    "cached_input_dollars_per_million": 0.5,
    "date": "2026-01-31",
    "source": "a test",
}


def settings(**values: object) -> ModelSettings:
    return ModelSettings.model_validate(
        {"name": "x", "model": "m", "base_url": "http://127.0.0.1:1/v1"} | values
    )


def test_dollars_count_cached_input_at_its_own_price():
    assert settings(prices=PRICED).dollars(1_000_000, 100_000, 400_000) == pytest.approx(
        0.6 * 2.0 + 0.4 * 0.5 + 0.1 * 10.0
    )


def test_an_unknown_price_makes_unknown_dollars():
    assert settings().dollars(1, 1) is None


def test_a_dollar_budget_is_refused_for_an_unknown_price_only():
    check_dollar_budget(None, [settings()])
    check_dollar_budget(5.0, [settings(prices=PRICED), load_models()["simulated"]])
    with pytest.raises(UsageError, match="price of model 'x' is unknown"):
        check_dollar_budget(5.0, [settings(prices=PRICED), settings()])


def test_the_manifests_description_reads_back_as_the_same_settings():
    before = settings(prices=PRICED, sampling={"temperature": 0.5})
    assert ModelSettings.model_validate(before.describe()) == before
