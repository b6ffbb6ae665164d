"""What the user asks for, and what it resolves to: texts, defaults, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.arms import Arm, parse_arm, parse_arms, parse_budget, parse_seeds
from harness.budget import Budget
from harness.config import ComparisonRequest, parse_evaluator, request_from_json, resolve
from harness.errors import UnknownName, UsageError
from harness.grid import model_schedule
from harness.manifest import llm_to_json
from harness.types import JsonObject

names = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
values = st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True)


def test_an_arm_has_all_its_parts() -> None:
    arm = parse_arm("ksearch@uct[k=5,uct_c=0.5]+simulated-noise")
    expected = {"k": "5", "uct_c": "0.5"}
    assert (arm.method, arm.variant, dict(arm.options), arm.model) == (
        "ksearch",
        "uct",
        expected,
        "simulated-noise",
    )


def test_an_arm_may_be_a_module_attribute_with_a_model_schedule() -> None:
    arm = parse_arm("my.package:method[k=1]+gpt-x:150,gemini-y")
    assert (arm.method, arm.model) == ("my.package:method", "gpt-x:150,gemini-y")


@given(names, st.none() | names, st.dictionaries(names, values, max_size=3), st.none() | names)
def test_what_is_written_as_an_arm_is_read_back(
    method: str, variant: str | None, options: dict[str, str], model: str | None
) -> None:
    text = method + (f"@{variant}" if variant else "")
    text += f"[{','.join(f'{k}={v}' for k, v in options.items())}]" if options else ""
    text += f"+{model}" if model else ""
    assert parse_arm(text) == Arm(text, method, variant, options, model)


@given(st.text(max_size=30))
def test_any_text_is_an_arm_or_a_usage_error(text: str) -> None:
    try:
        arm = parse_arm(text)
    except UsageError:
        return
    assert arm.text == text
    assert arm.method
    assert arm.folder not in ("", ".", "..")


@pytest.mark.parametrize("text", ["", "@uct", "ksearch[k=3", "ksearch[k=3]x", "a++b", "ksearch@"])
def test_an_unreadable_arm_shows_the_form_expected(text: str) -> None:
    with pytest.raises(UsageError, match=r"Expected METHOD\[@VARIANT\]"):
        parse_arm(text)


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="Cannot read the option 'k' of the arm"):
        parse_arm("ksearch[k]")


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="sets 'k' twice"):
        parse_arm("ksearch[k=1,k=2]")


def test_the_same_arm_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="The arm 'best_of_n' is given twice"):
        parse_arms("best_of_n ksearch best_of_n")


def test_an_arms_folder_has_no_special_characters() -> None:
    assert parse_arm("ksearch@uct[k=5]+m").folder == "ksearch@uct_k=5_+m"


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("0,1,5", (0, 1, 5)), ("7,", (7,)), ("1", (0,))]
)
def test_seeds_are_a_count_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", ",", "1,b", "1001", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


def test_a_seed_given_twice_is_refused_however_it_is_written() -> None:
    with pytest.raises(UsageError, match="The seed '1' is given twice"):
        parse_seeds("1,01")


def test_a_budget_is_charges_or_limits_by_name() -> None:
    assert parse_budget("20") == Budget(20)
    named = parse_budget("charges=20, llm_calls=100,dollars=5")
    assert named == Budget(20, llm_calls=100, dollars=5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("many", "charges takes a whole number"),
        ("charges=2.5", "charges takes a whole number"),
        ("0", "at least 1"),
        ("dollars=5", "lacks charges"),
        ("charges=1,charges=2", "gives charges twice"),
        ("charges=1,dollars=nan", "above 0"),
    ],
)
def test_a_wrong_budget_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_budget(text)


def test_an_unknown_limit_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'dollars'"):
        parse_budget("charges=1,dolars=5")


def test_the_evaluator_is_local_with_or_without_a_shared_cache(tmp_path: Path) -> None:
    assert parse_evaluator("") is None
    assert parse_evaluator("local") is None
    assert parse_evaluator(f"local:{tmp_path}") == tmp_path
    with pytest.raises(UsageError, match="Cannot read the evaluator 'nowhere'"):
        parse_evaluator("nowhere")


def test_modals_caps_do_not_tell_comparisons_apart_but_its_device_does() -> None:
    def resolved(evaluator: str) -> JsonObject:
        return resolve(ComparisonRequest(evaluator=evaluator), environment={}).to_json()

    assert "modal" not in resolved("local")
    assert resolved("modal:dollars=5") == resolved("modal:containers=64,dollars=50")
    assert resolved("modal") != resolved("modal:gpu=H200,dollars=none")


def test_only_the_cpu_suite_defaults_to_the_simulated_model() -> None:
    resolved = resolve(ComparisonRequest(), environment={})
    assert str(resolved.llm_level) == "simulated"
    assert llm_to_json(resolved)["level"] == "simulated"
    with pytest.raises(UsageError, match="type --llm simulated"):
        resolve(ComparisonRequest(suite="toy_suite:suite", methods="best_of_n"), environment={})


def test_another_suite_runs_simulated_when_that_is_typed() -> None:
    request = ComparisonRequest(suite="trimul", methods="best_of_n", llm="simulated")
    assert resolve(request, environment={}).arms[0].model == "simulated"


def test_a_simulated_model_is_refused_where_a_task_has_no_design_space() -> None:
    moe = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048@spec"
    tasks = f"gqa_paged_decode_h32_kv4_d128_ps1 {moe}"
    for llm, model in (("simulated", ""), ("record:there", "simulated")):
        request = ComparisonRequest(suite="flashinfer", tasks=tasks, llm=llm, model=model)
        with pytest.raises(UsageError, match=f"space for {moe}, .*TASKS=.*: gqa_paged_decode"):
            resolve(request, environment={})


def test_a_live_model_without_its_key_stops_and_says_how_to_go_on() -> None:
    request = ComparisonRequest(methods="best_of_n", model="gpt-5.2")
    with pytest.raises(UsageError, match=r"OPENAI_API_KEY, which is not set.*--llm simulated"):
        resolve(request, environment={})
    resolved = resolve(request, environment={"OPENAI_API_KEY": "x"})
    assert llm_to_json(resolved)["level"] == "live"


def test_a_live_model_at_the_simulated_level_is_refused() -> None:
    with pytest.raises(UsageError, match="is a live model"):
        resolve(ComparisonRequest(methods="best_of_n", model="gpt-5.2", llm="simulated"))


def test_a_replayed_simulation_still_says_that_it_is_simulated(tmp_path: Path) -> None:
    resolved = resolve(ComparisonRequest(llm=f"replay:{tmp_path}"), environment={})
    assert llm_to_json(resolved)["level"] == "simulated"


def test_a_dollar_budget_with_an_unknown_price_is_refused() -> None:
    request = ComparisonRequest(methods="best_of_n", model="gpt-5.2", budget="charges=1,dollars=1")
    with pytest.raises(UsageError, match="price"):
        resolve(request, environment={"OPENAI_API_KEY": "x"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("suite", "cpus", "Did you mean 'cpu'"),
        ("tasks", "matmull", "Did you mean 'matmul'"),
        ("tasks", "matmul matmul", "given twice"),
        ("methods", "ksaerch", "Did you mean 'ksearch'"),
        ("methods", "ksearch@utc", "Did you mean 'uct'"),
        ("methods", "ksearch[kk=3]", "Unknown option"),
        ("methods", "ksearch[k=x]", "takes a whole number"),
        ("model", "simulatd", "Did you mean 'simulated'"),
        ("llm", "simulatedd", "Did you mean 'simulated'"),
        ("language", "cp", "Did you mean 'cpp'"),
        ("language", "cuda", "Unknown language"),
    ],
)
def test_a_wrong_name_is_refused_with_help(field: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(request_from_json({field: value}), environment={})


def test_an_unknown_field_of_a_request_is_refused() -> None:
    with pytest.raises(UsageError, match="colour"):
        request_from_json({"colour": "red"})


def test_a_resolved_comparison_is_plain_json() -> None:
    resolved = resolve(ComparisonRequest(tasks="all"), environment={}).to_json()
    assert json.loads(json.dumps(resolved)) == resolved


def test_the_seed_reaches_a_simulated_model_and_no_live_one() -> None:
    resolved = resolve(ComparisonRequest(methods="best_of_n"), environment={})
    models = model_schedule(resolved.arms[0], resolved, 5)
    assert models(0)[1]["seed"] == 5
    live = resolve(
        ComparisonRequest(methods="best_of_n", model="gpt-5.2"),
        environment={"OPENAI_API_KEY": "x"},
    )
    assert "seed" not in model_schedule(live.arms[0], live, 5)(0)[1]
