"""The simulated model: that it is a pure function of its arguments, that it makes its mistakes at
the stated rates, and its knobs.

Not covered: which design it wants (test_simulated_design.py), other forms than a complete program
(test_simulated_forms.py), the world model (test_simulated_world_model.py), judgements and summaries
(test_simulated_review.py), and the search loop around it.
"""

import ast
import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from toy_design_space import (
    CAREFUL,
    SPACE,
    START,
    answer,
    passed,
    program,
    prompt,
    request,
    source_in,
)

from harness.design_space import configurations_in
from harness.errors import UnknownName, UsageError
from harness.llm import simulated_faults_python as python_faults
from harness.llm.simulated import Knobs, SimulatedModel
from harness.llm.simulated_design import neighbours
from harness.llm.simulated_faults import (
    COMPILE_FAULTS,
    WRONG_RESULT_FAULTS,
    with_compile_error,
    with_wrong_result,
)
from harness.suite import load_suite

COUNTED = 2_000


def compile_and_run(source, folder):
    """(compiled, printed output) of a C++ program."""
    binary = folder / "program"
    compiler = ["g++", "-x", "c++", "-", "-o", str(binary)]
    built = subprocess.run(compiler, input=source.encode(), capture_output=True, check=False)
    if built.returncode != 0:
        return False, ""
    ran = subprocess.run([str(binary)], capture_output=True, timeout=5, check=True)
    return True, ran.stdout.decode()


# --- a pure function ------------------------------------------------------------------------------

MANY = [
    prompt(program(START)),
    prompt(program(START, passed(0.1)), program({**START, "tile": "4"}, passed(0.2))),
    prompt(program(START, passed(0.1)), intent="use vector registers"),
]


def transcript():
    model = SimulatedModel(replace(CAREFUL, skill=0.5, neighbours=3), {"toy": SPACE})
    calls = [(text, n) for text in MANY for n in range(5)]
    return {f"{text[-40:]}{n}": model.complete(request(text), n).text for text, n in calls}


def test_the_same_request_and_occurrence_give_the_same_reply_in_any_order_of_calls():
    model = SimulatedModel(Knobs(), {"toy": SPACE})
    calls = [(text, n) for text in MANY for n in range(10)]
    first = [model.complete(request(text), n) for text, n in calls]
    again = [model.complete(request(text), n) for text, n in reversed(calls)]
    assert first == again[::-1]


def test_another_process_with_another_hash_seed_gives_the_same_bytes():
    script = (
        "import json, sys; sys.path[:0] = sys.argv[1:]; import test_simulated as t; "
        "print(json.dumps(t.transcript()))"
    )
    here = Path(__file__).resolve().parent
    output = subprocess.run(
        [sys.executable, "-c", script, str(here), str(here.parent)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        check=True,
    ).stdout
    assert json.loads(output) == transcript()


def test_another_occurrence_or_seed_usually_gives_another_answer():
    knobs = replace(CAREFUL, skill=0.0)
    texts = [answer(MANY[0], replace(knobs, seed=s), n).text for s in range(4) for n in range(10)]
    assert len(set(texts)) > 5


def test_runs_with_different_seeds_get_different_samples_of_the_same_prompt():
    asked = request(MANY[0])
    texts = [
        [
            SimulatedModel(Knobs(), {"t": SPACE}, run_seed=s).complete(asked, n).text
            for n in range(9)
        ]
        for s in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_no_file_of_the_model_imports_the_evaluator_a_suite_or_a_method():
    files = sorted((Path(__file__).parent.parent / "harness" / "llm").glob("simulated*.py"))
    imported = {
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert len(files) >= 3
    assert not [n for n in imported if n.startswith(("harness.evaluate", "suites", "methods"))]
    assert "harness.design_space" in imported


# --- mistakes -------------------------------------------------------------------------------------


def within_bounds(count, rate):
    """Would a binomial with this rate be this far off at least once in 100,000 tries?"""
    return binomtest(count, COUNTED, rate).pvalue > 1e-5


def kind_of(reply):
    blocks = re.findall(r"```cpp\n(.*?)^```$", reply.text, re.DOTALL | re.MULTILINE)
    if len(blocks) != 1 or reply.finish_reason != "stop":
        return "format"
    design = configurations_in(blocks[0])[0][2]
    if blocks[0].rstrip() != SPACE.render(design).rstrip():
        return "fault"
    return "slower" if SPACE.prior(design) < SPACE.prior(START) else "clean"


def test_mistakes_happen_at_their_stated_rates():
    knobs = replace(CAREFUL, format_error=0.05, compile_error=0.10, wrong_result=0.15, slower=0.20)
    model = SimulatedModel(knobs, {"toy": SPACE})
    asked = request(prompt(program(START)))
    kinds = Counter(kind_of(model.complete(asked, n)) for n in range(COUNTED))
    assert within_bounds(kinds["format"], 0.05)
    assert within_bounds(kinds["fault"], 0.25)
    assert within_bounds(kinds["slower"], 0.20)
    assert within_bounds(kinds["clean"], 0.50)


def test_skill_is_the_rate_of_best_answers():
    knobs = replace(CAREFUL, skill=0.3)
    model = SimulatedModel(knobs, {"toy": SPACE})
    asked = request(prompt(program(START)))
    texts = [model.complete(asked, n).text for n in range(COUNTED)]
    best = sum('"order": "ikj"' in text for text in texts)
    others = len(neighbours(SPACE, START, distance=1, limit=100, rng=random.Random(0)))
    assert within_bounds(best, 0.3 + 0.7 / others)


def test_edit_distances_follow_their_distribution():
    knobs = replace(CAREFUL, skill=0.0, edit_distance=(0.5, 0.3, 0.2))
    model = SimulatedModel(knobs, {"toy": SPACE})
    asked = request(prompt(program(START)))
    distances = Counter()
    for n in range(COUNTED):
        design = configurations_in(source_in(model.complete(asked, n)))[0][2]
        distances[sum(design[name] != START[name] for name in START)] += 1
    assert all(within_bounds(distances[d], p) for d, p in ((1, 0.5), (2, 0.3), (3, 0.2)))


@pytest.mark.parametrize("kind", COMPILE_FAULTS)
def test_every_compile_fault_fails_to_compile_and_keeps_the_marker(kind, tmp_path):
    broken = COMPILE_FAULTS[kind](SPACE.render(START), random.Random(1))
    assert broken is not None
    assert configurations_in(broken)[0][2] == START
    assert compile_and_run(broken, tmp_path)[0] is False


@pytest.mark.parametrize("kind", WRONG_RESULT_FAULTS)
def test_every_wrong_result_fault_compiles_and_changes_the_output(kind, tmp_path):
    right = compile_and_run(SPACE.render(START), tmp_path)
    broken = WRONG_RESULT_FAULTS[kind](SPACE.render(START), random.Random(2))
    assert broken is not None
    compiled, output = compile_and_run(broken, tmp_path)
    assert right[0]
    assert compiled
    assert output != right[1]


def test_a_fault_that_does_not_fit_a_program_gives_way_to_another():
    without_loops = "int run(float* out) {\n  out[0] = out[1] * 2.0f;\n  return 0;\n}\n"
    for seed in range(20):
        assert "1.0625f" in (with_wrong_result(without_loops, random.Random(seed)) or "")
        assert with_compile_error(without_loops, random.Random(seed)) != without_loops
    assert with_wrong_result("// nothing here\n", random.Random(0)) is None
    assert with_compile_error("// nothing here\n", random.Random(0)).endswith("}\n")


def test_a_loop_over_pointer_members_is_a_site_and_a_loop_over_threads_is_not():
    skip = WRONG_RESULT_FAULTS["skips the last element"]
    loop = "for (int64_t i = 0; i < in->rows; ++i) f(i);"
    assert "i < (in->rows) - 1;" in skip(loop, random.Random(0))
    assert skip("for (int t = 0; t < num_threads; ++t) join(t);", random.Random(0)) is None
    assert skip("// for (int i = 0; i < n; ++i)", random.Random(0)) is None


TRITON_PROGRAMS = [
    load_suite("gpumode").task("trimul@spec").start("triton"),
    load_suite("gpumode").task("trimul@spec").start("python"),
]


@pytest.mark.parametrize("kind", python_faults.COMPILE_FAULTS)
def test_every_compile_fault_of_a_triton_program_is_found_by_its_compiler(kind):
    broken = python_faults.COMPILE_FAULTS[kind](TRITON_PROGRAMS[0], random.Random(3))
    assert broken is not None
    if kind.startswith("missing"):
        with pytest.raises(SyntaxError):
            ast.parse(broken)
    else:  # tests/test_triton_build.py compiles a program with a name that is not there
        ast.parse(broken)
        assert "remaining_rows" in broken or "tl.fast_" in broken


@pytest.mark.parametrize("kind", python_faults.WRONG_RESULT_FAULTS)
def test_every_wrong_result_fault_of_a_triton_program_leaves_it_a_program(kind):
    for seed in range(10):
        broken = python_faults.WRONG_RESULT_FAULTS[kind](TRITON_PROGRAMS[0], random.Random(seed))
        assert broken is not None
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(TRITON_PROGRAMS[0]))


def test_faults_of_python_programs_are_in_their_code_and_not_in_comments():
    for text in TRITON_PROGRAMS:
        for seed in range(20):
            for fault in (with_compile_error, with_wrong_result):
                broken = fault(text, random.Random(seed), "triton")
                assert broken is not None
                assert broken.splitlines()[0] == text.splitlines()[0]
    assert with_wrong_result("# return x[0]\n", random.Random(0), "python") is None


# --- prompts that it cannot read, and what an answer costs ----------------------------------------


def test_a_prompt_without_a_known_program_gets_prose_without_code():
    for text in (prompt(), prompt('// design: {"space": "toy/other"}'), prompt("// design: {")):
        for purpose in ("propose", "world-model"):
            assert "```" not in answer(text, purpose=purpose).text


def test_an_unknown_purpose_gets_a_short_text():
    reply = answer(prompt(program(START)), purpose="meta-summary")
    assert 20 < len(reply.text) < 500
    assert "```" not in reply.text


def test_tokens_are_counted_from_bytes_and_latency_is_modelled_from_tokens():
    knobs = replace(CAREFUL, latency_fixed_seconds=3.0, latency_seconds_per_token=0.5)
    text = prompt(program(START), "é" * 100)
    reply = answer(text, knobs)
    whole = "You write kernels.\n\n" + text
    assert reply.usage.prompt_tokens == math.ceil(len(whole.encode()) / 4)
    assert reply.usage.completion_tokens == math.ceil(len(reply.text.encode()) / 4)
    assert reply.seconds == 3.0 + 0.5 * reply.usage.completion_tokens
    assert reply.usage.estimated
    assert reply.usage.dollars == 0.0


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["propose", "world-model", "judge", "summary"]))
def test_no_text_in_a_prompt_makes_the_model_raise(noise, purpose):
    text = noise.encode(errors="replace").decode()
    answer(text + "\n" + program(START, text) + "\n```json\n" + text, Knobs(), purpose=purpose)


# --- knobs ----------------------------------------------------------------------------------------


def test_knobs_survive_a_round_trip_through_the_manifest():
    knobs = Knobs(seed=7, skill=0.25, edit_distance=(0.5, 0.5, 0.0), world_model="noise")
    assert Knobs.from_mapping(json.loads(json.dumps(knobs.to_json()))) == knobs
    assert Knobs.from_mapping({"edit_distance": "0.5, 0.5, 0", "seed": 7}).edit_distance[1] == 0.5
    described = SimulatedModel(knobs, {"toy": SPACE}).describe()
    assert described["knobs"] == knobs.to_json()
    assert described["spaces"]["toy/matmul"]["configurations"] == SPACE.size()


def test_a_misspelt_knob_gets_a_hint():
    with pytest.raises(UnknownName, match="Did you mean 'skill'"):
        Knobs.from_mapping({"skil": 0.5})


@pytest.mark.parametrize(
    "bad",
    [
        {"skill": 1.5},
        {"skill": "high"},
        {"skill": float("nan")},
        {"seed": 1.5},
        {"seed": True},
        {"neighbours": 0},
        {"edit_distance": [0.5, 0.4, 0.0]},
        {"edit_distance": [1.0]},
        {"edit_distance": 3},
        {"world_model": "clever"},
        {"insight_from_feedback": "yes"},
        {"bytes_per_token": 0},
        {"latency_fixed_seconds": -1},
        {"compile_error": 0.6, "wrong_result": 0.6},
    ],
)
def test_a_knob_out_of_range_is_refused_by_name(bad):
    with pytest.raises(UsageError) as refused:
        Knobs.from_mapping(bad)
    assert next(iter(bad)) in str(refused.value)
