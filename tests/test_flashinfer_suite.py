"""suites/flashinfer: the contract at small sizes, records, page tables, the dataset, tolerances,
and that programs and designs do what they say.

Covered: everything on the CPU; where triton is installed, programs in its interpreter on a tiny
workload. Not covered: GPUs, FlashInfer, CUDA programs, the real sizes.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import EnvironmentMissing
from harness.evaluate.gpu_check import compare_tensors
from harness.suite import TorchTask, load_suite
from suites.flashinfer import gqa_decode, mla, moe, moe_inputs, page_tables, suite
from suites.flashinfer.attention_programs import MLA_DECODE_FLASHINFER, gqa_flashinfer
from suites.flashinfer.dataset import VARIABLE
from suites.flashinfer.decode_space import DecodeSpace
from suites.flashinfer.flashinfer_package import HEAD
from suites.flashinfer.gqa_decode import GqaPagedDecodeKv4
from suites.flashinfer.moe_grouped import GROUPED
from suites.flashinfer.records import our_decode, our_prefill, read_records, record_of
from tests import toy_flashinfer
from tests.conformance_torch_suite import Tensors, TorchSuiteContract, filled, outputs_of

TOYS = toy_flashinfer.suite
ATTENTION = TOYS.tasks[:4]
BEST = {
    "heads": "group", "splits": "auto", "block": "32", "precision": "bf16",
    "exponential": "exp2", "warps": "4", "stages": "2",
}  # fmt: skip
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


class TestFlashInferSuite(TorchSuiteContract):
    suite = TOYS


def test_the_suite_has_every_record_and_the_papers_feedback_workloads() -> None:
    assert load_suite("flashinfer") is suite
    counts = [len(task.final) for task in suite.tasks]
    assert counts == [48, 48, 47, 38, 19, 19]
    assert [len(task.search) for task in suite.tasks] == [5, 5, 5, 8, 5, 5]
    for task in suite.tasks:
        names = {w.name for w in task.final}
        assert all(record_of(w) for w in task.final)
        assert {w.name for w in task.search} <= names
        assert not any(record_of(w) for w in task.held_out)
        assert len(task.held_out) >= 4
    assert [record_of(w) for w in suite.tasks[2].search] == (
        ["bd2dae14", "84221f45", "d0da33e2", "e417264f", "939f995a"]
    )


def test_the_prose_states_the_constants_that_all_records_have() -> None:
    scalars = [read_records(task.name.partition("@")[0]).scalars for task in suite.tasks]
    for gqa in scalars[:2]:
        assert {np.float32(v) for v in gqa["sm_scale"]} == {np.float32(gqa_decode.SM_SCALE)}
        assert np.float32(gqa_decode.SM_SCALE) == np.float32(128**-0.5)
    assert scalars[2]["sm_scale"] == scalars[3]["sm_scale"] == (mla.SM_SCALE,)
    assert scalars[4]["routed_scaling_factor"] == (moe.ROUTED_SCALING_FACTOR,)
    values = [gqa_decode.SM_SCALE] * 2 + [mla.SM_SCALE] * 2 + [2.5] * 2
    for task, value in zip(suite.tasks, values, strict=True):
        assert repr(value) in task.prose
        assert all(repr(value) in source for source in task.starts.values())
    pages = {w.axes["num_pages"] for task in suite.tasks[2:4] for w in task.final}
    assert pages == {mla.NUM_PAGES}


def table(kind: str, batch: int, tokens: int, pages: int, seed: int) -> tuple[list[int], Tensors]:
    task = GqaPagedDecodeKv4()
    inputs = filled(task, our_decode(kind, batch, tokens, pages), seed)
    return inputs["kv_indptr"].diff().tolist(), inputs


@pytest.mark.parametrize("kind", page_tables.KINDS[1:])
def test_page_tables_are_what_their_names_say(kind: str) -> None:
    tokens = 9 if kind == "single" else 400
    lengths, inputs = table(kind, 9, tokens, 500, 0)
    pages, bounds = inputs["kv_indices"], inputs["kv_indptr"].tolist()
    assert sum(lengths) == bounds[-1] == tokens
    assert int(pages.min()) >= 0
    assert int(pages.max()) < 500
    assert (min(lengths) == 0) == (kind == "empty")
    own = [pages[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    assert all(len(set(p)) == len(p) for p in own)
    repeated = tokens - len(set(pages.tolist()))
    assert repeated == {"single": 8, "odd": 8, "shared": 8 * ((min(lengths) + 1) // 2)}.get(kind, 0)
    if kind == "odd":  # a run of its own, then steps a batch apart
        steps = np.diff(own[0]) % 500
        assert {1, 9} <= set(steps.tolist())
    _, other = table(kind, 9, tokens, 500, 1)
    assert not torch.equal(other["kv_indices"], pages)


def test_a_prefill_has_as_many_tokens_as_queries_or_more() -> None:
    task = TOYS.tasks[3]
    assert isinstance(task, TorchTask)
    inputs = filled(task, our_prefill("odd", 7, 100, 130, 200), 0)
    queries, keys = inputs["qo_indptr"].diff(), inputs["kv_indptr"].diff()
    assert int(queries.sum()) == 100
    assert int(keys.sum()) == 130
    assert bool((keys >= queries).all())
    assert int(queries.min()) >= 1


def by_loops(task: TorchTask, inputs: Tensors) -> Tensors:
    """Attention as the prose states it, one query head after the other."""
    decoding = "qo_indptr" not in inputs
    latent = "ckv_cache" in inputs
    q = mla.joined(inputs) if latent else inputs["q"]
    rows, heads, _ = q.shape
    starts = list(range(rows + 1)) if decoding else inputs["qo_indptr"].tolist()
    bounds, pages = inputs["kv_indptr"].tolist(), inputs["kv_indices"].long()
    output = torch.zeros(task_output(task, rows), dtype=torch.float64)
    lse = torch.full((rows, heads), -torch.inf, dtype=torch.float64)
    for b in range(len(bounds) - 1):
        for row in range(starts[b], starts[b + 1]):
            seen = pages[bounds[b] : bounds[b + 1] - (starts[b + 1] - row - 1)]
            for head in range(heads):
                if latent:
                    k, v = mla.gathered(inputs, seen)
                    scale = mla.SM_SCALE
                else:
                    part = head // (heads // inputs["k_cache"].shape[2])
                    k, v = (inputs[f"{c}_cache"][seen, 0, part].double() for c in "kv")
                    scale = gqa_decode.SM_SCALE
                logits = k @ q[row, head].double() * scale
                if len(seen):
                    lse[row, head] = torch.log2(torch.exp(logits).sum())
                    output[row, head] = torch.softmax(logits, 0) @ v
    return {"output": output, "lse": lse}


def task_output(task: TorchTask, rows: int) -> tuple[int, ...]:
    heads, width = task.signature.outputs[0].shape[1:]
    return rows, int(heads), int(width)


@pytest.mark.parametrize("task", ATTENTION, ids=lambda t: t.name[:16])
def test_references_agree_with_plain_loops(
    task: TorchTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in (task.final[1], task.held_out[0]):
        inputs = filled(task, workload, 3)
        expected = by_loops(task, inputs)
        for elements in (1 << 26, 1 << 10):  # whole, and in many chunks
            monkeypatch.setattr("suites.flashinfer.attention._AT_ONCE", elements)
            found = task.reference(workload, inputs)
            assert all(torch.allclose(found[n], expected[n], rtol=1e-10) for n in expected)


def without_last_tokens(inputs: Tensors) -> Tensors:
    """Each sequence without its last token: under a causal mask, every query sees one fewer."""
    bounds = inputs["kv_indptr"].long()
    keep = torch.ones(inputs["kv_indices"].numel(), dtype=torch.bool)
    keep[bounds[1:][bounds.diff() > 0] - 1] = False
    lengths = (bounds.diff() - 1).clamp(min=0)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    return inputs | {"kv_indptr": indptr.int(), "kv_indices": inputs["kv_indices"][keep]}


def with_wrong_pages(inputs: Tensors, pages: int) -> Tensors:
    """Each sequence's last token on its neighbour's page."""
    last = inputs["kv_indptr"][1:].long() - 1
    indices = inputs["kv_indices"].clone()
    indices[last] = (indices[last] + 1) % pages
    return inputs | {"kv_indices": indices}


@pytest.mark.parametrize("task", ATTENTION, ids=lambda t: t.name[:16])
def test_attention_tolerances_accept_16_bits_with_room_and_reject_wrong_programs(
    task: TorchTask,
) -> None:
    if "qo_indptr" in {t.name for t in task.signature.inputs}:
        workload, query = our_prefill("odd", 3, 40, 700, 1100), "q_nope"
    else:
        workload = our_decode("odd", 3, 1500, 1600)
        query = "q" if "gqa" in task.name else "q_nope"
    inputs = filled(task, workload, 1)
    expected = task.reference(workload, inputs)
    honest = outputs_of(task.baselines[-1].source, task, workload, inputs)
    for name, tolerance in task.tolerances.items():
        error = (honest[name].double() - expected[name]).abs()
        allowed = tolerance.absolute + tolerance.relative * expected[name].abs()
        assert float((error / allowed).max()) < 0.7, name
        assert float(error.norm() / expected[name].norm()) < tolerance.norm / 2, name

    scale = gqa_decode.SM_SCALE if query == "q" else mla.SM_SCALE
    wrong = {
        "last token dropped": without_last_tokens(inputs),
        "wrong page": with_wrong_pages(inputs, workload.axes["num_pages"]),
        "no sm_scale": inputs | {query: (inputs[query].float() / scale).bfloat16()},
    }
    for name, changed in wrong.items():
        found = task.reference(workload, changed)
        passing = [
            n
            for n, tolerance in task.tolerances.items()
            if compare_tensors(n, found[n], expected[n], tolerance) is None
        ]
        assert passing == [], name
    natural = expected["lse"] * np.log(2)
    assert compare_tensors("lse", natural, expected["lse"], task.tolerances["lse"]) is not None


def rounded_to_8_bits(values: torch.Tensor) -> torch.Tensor:
    """With a scale for each block of 128, as kernels quantise activations."""
    blocks = values.view(values.shape[0], values.shape[1] // 128, 128)
    scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 448
    return ((blocks / scale).to(torch.float8_e4m3fn).double() * scale).view(values.shape)


def experts(task: TorchTask, inputs: Tensors, **how: object) -> torch.Tensor:
    """The MoE with float64 sums, changed as `how` says."""
    workload = MOE
    chosen, weights = moe.route(inputs)
    local = chosen - workload.axes["local_expert_offset"]
    output = torch.zeros(inputs["hidden_states"].shape, dtype=torch.float64)
    for expert in range(workload.axes["num_local_experts"]):
        tokens, slots = (local == expert).nonzero(as_tuple=True)
        if how.get("dropped"):
            tokens, slots = tokens[slots != 7], slots[slots != 7]
        first, second = (
            moe._scaled(inputs[f"gemm{n}_weights"], inputs[f"gemm{n}_weights_scale"], expert)
            for n in (1, 2)
        )
        scale = inputs["hidden_states_scale"][:, tokens].double().T.repeat_interleave(128, 1)
        x = inputs["hidden_states"][tokens].double() * scale
        if how.get("last_block"):
            x[:, -128:] = 0
        up, gate = (x @ first.T).split(workload.axes["intermediate_size"], 1)
        if how.get("swapped"):
            up, gate = gate, up
        hidden = (gate * torch.sigmoid(gate) * up).bfloat16().double()
        if how.get("quantised"):
            hidden = rounded_to_8_bits(hidden)
        output.index_add_(0, tokens, hidden @ second.T * weights[tokens, slots][:, None])
    return (output * float(how.get("factor", 1.0))).bfloat16()  # type: ignore[arg-type]


MOE = toy_flashinfer.moe_workload("odd", 33, 16, experts=64, local=16, hidden=512, between=256)


@pytest.mark.parametrize("task", TOYS.tasks[4:], ids=lambda t: t.name[-10:])
def test_moe_tolerances_accept_8_bits_between_and_reject_wrong_programs(task: TorchTask) -> None:
    inputs = filled(task, MOE, 1)
    expected = task.reference(MOE, inputs)["output"]
    tolerance = task.tolerances["output"]

    def passes(result: torch.Tensor) -> bool:
        return compare_tensors("output", result, expected, tolerance) is None

    assert passes(experts(task, inputs))
    assert passes(experts(task, inputs, quantised=True))
    wrong: dict[str, torch.Tensor] = {
        "dropped slot": experts(task, inputs, dropped=True),
        "last block of features dropped": experts(task, inputs, last_block=True),
        "up and gate swapped": experts(task, inputs, swapped=True),
        "no factor": experts(task, inputs, factor=0.4),
        "zeros": torch.zeros_like(expected).bfloat16(),
    }
    assert [name for name, result in wrong.items() if passes(result)] == []


def test_rows_without_a_local_expert_are_exactly_zero_in_spec() -> None:
    task = TOYS.tasks[4]
    assert isinstance(task, TorchTask)
    inputs = filled(task, toy_flashinfer.moe_workload("odd", 40, 0, local=8), 2)
    workload = toy_flashinfer.moe_workload("odd", 40, 0, local=8)
    expected = task.reference(workload, inputs)["output"]
    empty = (expected == 0).all(1)
    assert 0 < int(empty.sum()) < 40
    result = expected.clone()
    result[empty, 0] = 1e-6
    tolerance = task.tolerances["output"]
    assert compare_tensors("output", expected.clone(), expected, tolerance) is None
    assert compare_tensors("output", result, expected, tolerance) is not None


def test_routing_has_no_close_choices_and_8_bit_inputs_no_nan() -> None:
    for task in TOYS.tasks[4:]:
        assert isinstance(task, TorchTask)
        inputs = filled(task, toy_flashinfer.moe_workload("odd", 2000, 0), 0)
        margins = moe_inputs.margins(inputs["routing_logits"], inputs["routing_bias"], (8, 4, 8))
        assert float(margins.min()) >= moe_inputs.MARGIN
        for tensor in inputs.values():
            assert bool(tensor.float().isfinite().all())


def write_dataset(root: Path, pages: torch.Tensor, *, broken: str = "") -> None:
    """A folder as flashinfer-trace lays it out, with blobs for one record of kv4."""
    safetensors = pytest.importorskip("safetensors.torch")
    name = GqaPagedDecodeKv4.name
    records = root / "workloads" / "gqa_paged" / f"{name}.jsonl"
    records.parent.mkdir(parents=True)
    lines = []
    for row in read_records(name).rows:
        path = f"./blob/{row.prefix}.safetensors"
        entry = {"type": "safetensors", "path": path}
        inputs = {n: entry | {"tensor_key": n} for n in ("kv_indptr", "kv_indices")}
        workload = {"uuid": row.uuid, "axes": row.axes, "inputs": inputs}
        lines.append(json.dumps({"definition": name, "workload": workload}))
        indptr = np.linspace(0, row.axes["num_kv_indices"], row.axes["len_indptr"])
        tensors = {
            "kv_indptr": torch.from_numpy(indptr.astype(np.int32)),
            "kv_indices": pages[: row.axes["num_kv_indices"]].clone(),
        }
        blob = root / path
        blob.parent.mkdir(exist_ok=True)
        if broken == "lfs":
            blob.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        elif broken != "missing":
            safetensors.save_file(tensors, str(blob))
    records.write_text("\n".join(lines) + "\n")


def test_a_datasets_page_table_is_used_moved_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = GqaPagedDecodeKv4()
    write_dataset(tmp_path, torch.arange(61519, dtype=torch.int32))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = GqaPagedDecodeKv4()
    assert task.version != drawn.version
    assert "synthesised" in drawn.notes["inputs"]
    assert "of the dataset's 48 records" in task.notes["inputs"]
    assert str(tmp_path) not in json.dumps(dict(task.notes))
    workload = task.final[1]  # 362 tokens, 412 pages
    first, second = (filled(task, workload, seed)["kv_indices"] for seed in (0, 1))
    assert first.diff().unique().tolist() == [1]
    assert int(first[0]) != int(second[0])
    ours = task.held_out[0]
    assert torch.equal(filled(task, ours, 0)["kv_indices"], filled(drawn, ours, 0)["kv_indices"])


def test_pages_outside_the_cache_are_drawn_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = torch.arange(61519, dtype=torch.int32)
    pages[3] = 1 << 30
    write_dataset(tmp_path, pages)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = GqaPagedDecodeKv4()
    assert "drawn instead" in task.notes["inputs"]
    inputs = filled(task, task.final[1], 0)
    assert int(inputs["kv_indices"].max()) < 412


@pytest.mark.parametrize(("broken", "words"), [("missing", "cannot be read"), ("lfs", "git lfs")])
def test_missing_blobs_and_lfs_pointers_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, words: str
) -> None:
    write_dataset(tmp_path, torch.arange(61519, dtype=torch.int32), broken=broken)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(EnvironmentMissing, match=words):
        _ = GqaPagedDecodeKv4().notes


def test_a_folder_without_records_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(EnvironmentMissing, match="unset it"):
        GqaPagedDecodeKv4()


def test_work_counts_only_pages_that_are_referenced() -> None:
    task = GqaPagedDecodeKv4()
    workload = our_decode("single", 5, 5, 9)
    work = task.work(workload, filled(task, workload, 0))
    assert work.flops == 4 * 5 * 32 * 128
    assert work.bytes == 2 * 2 * 4 * 128 + 5 * 32 * (2 * 2 * 128 + 4) + 4 * (6 + 5)


def test_flashinfers_programs_are_python_and_keep_their_wrapper() -> None:
    from suites.flashinfer import attention_programs as programs

    for source in (
        programs.gqa_flashinfer(4, tensor_cores=True),
        programs.MLA_DECODE_FLASHINFER,
        programs.MLA_PREFILL_FLASHINFER,
    ):
        functions = {f.name for f in ast.parse(source).body if isinstance(f, ast.FunctionDef)}
        assert functions == {"wrapper", "plan", "run"}
        assert source.startswith(HEAD)
        assert "$" not in source


def single_steps(space: DecodeSpace, base: dict[str, str]) -> list[dict[str, str]]:
    return [base | {p.name: c.value} for p in space.parameters for c in p.choices]


def test_every_single_step_renders_plain_short_python() -> None:
    for task in suite.tasks[:3]:
        space = task.design_space
        assert isinstance(space, DecodeSpace)
        for design in single_steps(space, space.start()) + single_steps(
            space, space.start() | BEST
        ):
            source = space.render(design)
            ast.parse(source)
            assert "$" not in source
            assert max(map(len, source.splitlines()[1:])) <= 100
            assert not re.search(r"\.item\(|\.cpu\(|\n\n\n\n", source)
        assert space.prior(space.start() | BEST) > 1.5
        wrong = [d for d in single_steps(space, space.start()) if not space.honest(d)]
        assert len(wrong) == 5


def interpreted(folder: Path, jobs: list[tuple[str, str, str]]) -> list[bool]:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.flashinfer_interpreter", str(folder)],
        input=json.dumps(jobs), capture_output=True, text=True, env=environment, check=False,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return verdicts


@needs_triton
def test_starts_the_moes_baseline_and_designs_are_right_or_wrong_as_they_say(
    tmp_path: Path,
) -> None:
    """In the interpreter. A trap that only some page tables show has one that does."""
    jobs, right = [], []
    for task in TOYS.tasks[2:5]:
        jobs.append((task.name, task.held_out[0].name, task.starts["triton"]))
        right.append(True)
    jobs.append((TOYS.tasks[5].name, TOYS.tasks[5].final[1].name, GROUPED))
    right.append(True)
    kv8 = TOYS.tasks[1]
    for task, base in ((kv8, BEST), (TOYS.tasks[2], BEST)):
        space = task.design_space
        assert isinstance(space, DecodeSpace)
        designs = [space.start() | base]
        if task is kv8:
            steps = single_steps(space, designs[0])  # all traps, and some of the others
            designs += [d for n, d in enumerate(steps) if n % 3 == 0 or not space.honest(d)]
        for design in {space.render(d): d for d in designs}.values():
            # Warps mean nothing here, and blocks beyond a sequence little.
            if design["warps"] == "4" and design["block"] in ("16", "32"):
                contiguous = design["pages"] == "contiguous"  # which those of "empty" are
                name = "permuted_b3_kv50" if contiguous else "empty_b3_kv20"
                jobs.append((task.name, name, space.render(design)))
                right.append(space.honest(design))
    with ThreadPoolExecutor(2) as pool:
        even = pool.submit(interpreted, tmp_path / "even", jobs[::2])
        odd = interpreted(tmp_path / "odd", jobs[1::2])
        pairs = list(zip(jobs[::2], even.result(), right[::2], strict=True))
    pairs += list(zip(jobs[1::2], odd, right[1::2], strict=True))
    assert [(n, w, s[:400]) for (n, w, s), seen, wanted in pairs if seen != wanted] == []


class StandIn:
    """For FlashInfer's wrappers: writes 7 everywhere, as if every sequence had tokens."""

    def __init__(self, *_: object, **__: object) -> None:
        self.planned = 0

    def plan(self, *_: object, **__: object) -> None:
        self.planned += 1

    def run(self, *_: object, out: torch.Tensor, lse: torch.Tensor, return_lse: bool) -> None:
        assert self.planned == 1
        assert return_lse
        out.fill_(7)
        lse.fill_(7)


@pytest.mark.parametrize(
    "source",
    [gqa_flashinfer(4, tensor_cores=False), MLA_DECODE_FLASHINFER],
    ids=["grouped queries", "latent"],
)
def test_flashinfers_programs_write_sequences_without_tokens_themselves(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleType("flashinfer")
    package.BatchDecodeWithPagedKVCacheWrapper = StandIn  # type: ignore[attr-defined]
    package.mla = SimpleNamespace(BatchMLAPagedAttentionWrapper=StandIn)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flashinfer", package)
    for indptr, expected in (([0, 2, 2, 5], [7, 0, 7]), ([0, 2, 3, 5], [7, 7, 7])):
        program: dict[str, Any] = {}
        exec(source, program)
        tensors = dict.fromkeys(("q", "k_cache", "v_cache", "q_nope", "q_pe"), torch.zeros(1))
        inputs = SimpleNamespace(
            **tensors, ckv_cache=None, kpe_cache=None, batch_size=3, len_indptr=4,
            kv_indptr=torch.tensor(indptr, dtype=torch.int32),
            kv_indices=torch.arange(5, dtype=torch.int32),
        )  # fmt: skip
        outputs = SimpleNamespace(output=torch.zeros(3, 2, 4), lse=torch.zeros(3, 2))
        program["plan"](inputs)
        program["run"](inputs, outputs)
        assert outputs.output[:, 0, 0].tolist() == expected
        assert [float(v) for v in outputs.lse[:, 0]] == [v or -math.inf for v in expected]
