"""suites/gpumode: the suite contract, floors, masks, tolerances, and that designs do what they say.

Covered: everything on the CPU; where triton is installed, rendered programs in its interpreter on a
tiny workload, and compiled for sm_90 without a GPU.
Not covered: speed; large workloads; bfloat16 dots in the interpreter (numpy has none).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import setuptools  # noqa: F401 - before anybody imports distutils, as torch.compile wants it
import torch

from harness.errors import UsageError
from harness.suite import TorchTask, load_suite
from harness.types import Workload
from suites.gpumode import suite
from tests.conformance_torch_suite import (
    Tensors,
    TorchSuiteContract,
    accepted,
    filled,
    outputs_of,
)

SPEC, UPSTREAM = suite.task("trimul@spec"), suite.task("trimul@upstream")
assert isinstance(SPEC, TorchTask)
assert isinstance(UPSTREAM, TorchTask)
SPACE = SPEC.design_space
assert SPACE is not None
START = SPACE.start()
BEST = {
    "projections": "fused",
    "layout": "first",
    "product": "bmm",
    "precision": "fp16",
    "storage": "half",
    "tile": "128",
    "rows": "128",
    "stages": "3",
    "warps": "8",
    "output": "fused",
    "mask": "both",
    "edges": "exact",
}
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def workload(n: int, batch: int, dim: int, hidden: int, contents: str) -> Workload:
    axes = {"batch": batch, "n": n, "dim": dim, "hidden": hidden}
    return Workload(f"n{n}_b{batch}_d{dim}_{contents}", axes)


class TestGpuModeSuite(TorchSuiteContract):
    suite = suite


def test_both_names_give_the_same_suite_and_the_real_masks_are_the_default() -> None:
    assert load_suite("gpumode") is load_suite("trimul") is suite
    assert suite.default_tasks == ("trimul@spec",)
    assert suite.language == "triton"


def test_the_splits_are_the_benchmarks_the_tests_and_other_sizes() -> None:
    for task in suite.tasks:
        assert task.search == task.final
        assert len(task.final) == 7
        assert len(task.tests) == 18
        assert len(task.workloads) == 7 + 18 + len(task.held_out)
        timed = {w.axes["n"] for w in (*task.final, *task.tests)}
        assert {w.axes["n"] for w in task.held_out} == {96, 100, 257, 320, 1000}
        assert not timed & {w.axes["n"] for w in task.held_out}
        assert {w.axes["batch"] for w in task.held_out} == {1, 2, 3}
        assert {w.axes["dim"] for w in task.held_out} == {128, 384}


def test_work_gives_the_published_floors_of_an_h100() -> None:
    floors = []
    for sized in SPEC.final:
        n, batch = sized.axes["n"], sized.axes["batch"]
        mask = torch.ones(batch, n, n)
        if SPEC.has_mask(sized):
            mask.random_(0, 2, generator=torch.Generator().manual_seed(0))
        work = SPEC.work(sized, {"mask": mask})
        floors.append(1e6 * max(work.flops / 989e12, work.bytes / 3.35e12))
    assert floors == pytest.approx([40, 235, 120, 87, 486, 541, 962], rel=0.02)
    assert math.prod(floors) ** (1 / 7) == pytest.approx(220, rel=0.02)


def test_work_leaves_out_what_a_mask_makes_zero() -> None:
    sized = workload(4, 1, 8, 2, "mask_normal")
    mask = torch.zeros(1, 4, 4)
    assert SPEC.work(sized, {"mask": mask}).flops == 2 * 16 * 2 * 8 * 2
    mask[0, 1, 2] = mask[0, 3, 2] = 1  # 2 visible pairs; 4 products with k = 2
    assert SPEC.work(sized, {"mask": mask}).flops == 2 * 2 * 8 * (2 * 16 + 4 * 2) + 2 * 2 * 4


def by_loops(inputs: Tensors, n: int, hidden: int) -> torch.Tensor:
    """The operator as the prose states it, one pair after the other, batch 1."""
    data = {name: tensor.double() for name, tensor in inputs.items()}

    def norm(row: torch.Tensor, name: str) -> torch.Tensor:
        centred = row - row.mean()
        scaled = centred / torch.sqrt((centred**2).mean() + 1e-5)
        return scaled * data[f"{name}_weight"] + data[f"{name}_bias"]

    def factor(i: int, k: int, side: str) -> torch.Tensor:
        y = norm(data["x"][0, i, k], "norm")
        gate = 1 / (1 + torch.exp(-(data[f"{side}_gate"] @ y)))
        return (data[f"{side}_proj"] @ y) * data["mask"][0, i, k] * gate

    out = torch.empty_like(data["x"])
    for i in range(n):
        for j in range(n):
            total = torch.zeros(hidden, dtype=torch.float64)
            for k in range(n):
                total += factor(i, k, "left") * factor(j, k, "right")
            gate = 1 / (1 + torch.exp(-(data["out_gate"] @ norm(data["x"][0, i, j], "norm"))))
            out[0, i, j] = data["to_out"] @ (norm(total, "to_out_norm") * gate)
    return out


@pytest.mark.parametrize("contents", ["mask_normal", "nomask_cauchy"])
def test_the_reference_agrees_with_plain_loops(contents: str) -> None:
    sized = workload(5, 1, 6, 4, contents)
    inputs = filled(SPEC, sized, 0)
    expected = by_loops(inputs, 5, 4)
    assert torch.allclose(SPEC.reference(sized, inputs)["out"], expected, rtol=1e-10, atol=1e-12)


def test_the_reference_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sized = workload(9, 2, 16, 8, "mask_normal")
    inputs = filled(SPEC, sized, 0)
    whole = SPEC.reference(sized, inputs)["out"]
    monkeypatch.setattr("suites.gpumode.trimul_task._PAIRS_AT_ONCE", 20)
    assert torch.allclose(SPEC.reference(sized, inputs)["out"], whole, rtol=1e-12)


def test_masks_are_drawn_on_spec_where_the_name_says_so_and_never_on_upstream() -> None:
    for sized in SPEC.workloads.values():
        if sized.axes["n"] > 128 or sized.axes["dim"] > 384:
            continue
        mask = filled(SPEC, sized, 1)["mask"]
        assert bool(((mask == 0) | (mask == 1)).all())
        share = mask.mean().item()
        assert share == pytest.approx(0.5 if "_mask_" in sized.name else 1.0, abs=0.1)
        assert filled(UPSTREAM, sized, 1)["mask"].mean() == 1
    masked = [w.name for w in (*SPEC.final, *SPEC.tests) if SPEC.has_mask(w)]
    assert len(masked) == 9
    assert not any(UPSTREAM.has_mask(w) for w in UPSTREAM.workloads.values())


def test_one_mask_entry_changes_the_result() -> None:
    sized = workload(32, 1, 128, 128, "mask_normal")
    inputs = filled(SPEC, sized, 2)
    flipped = inputs["mask"].clone()
    flipped[0, 3, 5] = 1 - flipped[0, 3, 5]
    results = SPEC.reference(sized, inputs | {"mask": flipped})
    expected = SPEC.reference(sized, inputs)
    assert not accepted(SPEC, results, expected)
    changed = (results["out"] != expected["out"]).any(-1)[0]
    assert set(map(tuple, changed.nonzero().tolist())) <= {
        pair for a in range(32) for pair in ((3, a), (a, 3))
    }


def test_cauchy_values_are_finite_and_large() -> None:
    x = filled(SPEC, workload(64, 1, 128, 128, "nomask_cauchy"), 0)["x"]
    assert bool(x.isfinite().all())
    assert x.abs().max() > 65504
    assert x.abs().median() == pytest.approx(1, rel=0.05)


def test_a_name_that_says_nothing_of_its_contents_is_refused() -> None:
    with pytest.raises(UsageError, match="says nothing"):
        SPEC.has_mask(Workload("n32", {}))


def rounded(
    inputs: Tensors, operand: torch.dtype, factor: torch.dtype | None = None, **changed: object
) -> torch.Tensor:
    """The operator with every operand and intermediate result rounded to a type, sums in float32;
    left and right to `factor`. changed: what a cheat does."""

    def cut(tensor: torch.Tensor, dtype: torch.dtype = operand) -> torch.Tensor:
        return tensor.to(dtype).float()

    def norm(tensor: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = inputs[f"{name}_weight"], inputs[f"{name}_bias"]
        return torch.nn.functional.layer_norm(tensor, tensor.shape[-1:], weight, bias, 1e-5)

    y = cut(norm(inputs["x"], "norm"))
    sides = []
    for side in ("left", "right"):
        gate = torch.sigmoid(y @ cut(inputs[f"{side}_gate"]).T)
        if changed.get("dropped") == side:
            gate = torch.full_like(gate, 0.5)
        values = (y @ cut(inputs[f"{side}_proj"]).T) * gate
        if side not in str(changed.get("unmasked", "")):
            values = values * inputs["mask"][..., None]
        if changed.get("half_k"):
            values[:, :, values.shape[2] // 2 :] = 0
        if changed.get("last_k"):
            values[:, :, -1] = 0
        sides.append(cut(values, factor or operand))
    gate = torch.sigmoid(cut(y @ cut(inputs["out_gate"]).T))
    if changed.get("dropped") == "out":
        gate = torch.full_like(gate, 0.5)
    z = norm(cut(torch.einsum("bikh,bjkh->bijh", *sides)), "to_out_norm")
    return cut(z * gate) @ cut(inputs["to_out"]).T


CALIBRATION = [(100, 128, "mask_normal"), (96, 384, "mask_cauchy"), (64, 768, "mask_normal")]


@pytest.mark.parametrize(("n", "dim", "contents"), CALIBRATION)
def test_the_tolerance_accepts_16_bit_operands_and_rejects_cheats(
    n: int, dim: int, contents: str
) -> None:
    sized = workload(n, 1, dim, 128, contents)
    inputs = filled(SPEC, sized, 0)
    expected = SPEC.reference(sized, inputs)

    def passes(result: torch.Tensor) -> bool:
        return accepted(SPEC, {"out": result}, expected)

    assert passes(rounded(inputs, torch.float16))
    assert passes(rounded(inputs, torch.bfloat16))
    cheats = {
        "fp8 factors": rounded(inputs, torch.float16, torch.float8_e4m3fn),
        "fp8 factors, range": rounded(inputs, torch.float16, torch.float8_e5m2),
        "fp8": rounded(inputs, torch.float8_e4m3fn),
        "no mask": rounded(inputs, torch.float32, unmasked="left, right"),
        "mask on left only": rounded(inputs, torch.float32, unmasked="right"),
        "no left gate": rounded(inputs, torch.float32, dropped="left"),
        "no out gate": rounded(inputs, torch.float32, dropped="out"),
        "half of k": rounded(inputs, torch.float32, half_k=True),
        "last k dropped": rounded(inputs, torch.float32, last_k=True),
        "zeros": torch.zeros_like(inputs["x"]),
    }
    assert [name for name, result in cheats.items() if passes(result)] == []
    # The norm alone tells them apart, so no lucky draw of elements is needed.
    size = expected["out"].norm()
    for name, result in cheats.items():
        error = (result.double() - expected["out"]).norm() / size
        assert error > 2 * SPEC.tolerances["out"].norm, name


def test_the_python_start_is_correct() -> None:
    for task in suite.tasks:
        for sized in (task.tests[0], task.tests[1], workload(20, 2, 128, 128, "mask_cauchy")):
            inputs = filled(task, sized, 3)
            results = outputs_of(task.start("python"), task, sized, inputs)
            assert accepted(task, results, task.reference(sized, inputs))


def single_steps(base: dict[str, str]) -> list[dict[str, str]]:
    """The base and every design that differs from it in one parameter."""
    steps = [base | {p.name: c.value} for p in SPACE.parameters for c in p.choices]
    return [base, *(step for step in steps if step != base)]


def test_every_single_step_renders_plain_short_python() -> None:
    for design in (*single_steps(START), *single_steps(BEST)):
        source = SPACE.render(design)
        tree = ast.parse(source)
        assert "$" not in source
        assert len(source.splitlines()) <= 250
        assert max(map(len, source.splitlines()[1:])) <= 100
        assert "run" in {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}
        assert not re.search(r"autotune|get_device_properties|\.item\(|\.cpu\(", source)
        assert (" mask=valid" in source) == (design["edges"] == "exact")


def test_the_space_has_honest_designs_and_traps() -> None:
    assert SPACE.honest(START)
    assert SPACE.honest(BEST)
    wrong = [d for d in single_steps(BEST | {"product": "own"}) if not SPACE.honest(d)]
    assert len(wrong) == 5  # fp8, 256 x 256 tiles, two masks, edges
    assert max(SPACE.prior(d) for d in single_steps(BEST)) > 3
    gains = [c.gain for p in SPACE.parameters for c in p.choices]
    assert max(gains) < SPACE.prior(BEST) - 2  # no single step goes most of the way


_INTERPRET = """
import importlib.util, json, pathlib, sys
from types import SimpleNamespace
import torch
torch.set_num_threads(1)
from harness.types import Workload
from suites.gpumode import suite
from tests.conformance_torch_suite import accepted, filled
task = suite.task("trimul@spec")
folder, (axes, designs) = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
workload = Workload("tiny_mask_cauchy", axes)
inputs = filled(task, workload, 1)
expected = task.reference(workload, inputs)
verdicts = []
for number, design in enumerate(designs):
    path = folder / f"program_{number}.py"
    path.write_text(task.design_space.render(design))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    out = torch.full_like(inputs["x"], float("nan"))
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    module.run(SimpleNamespace(**axes, **inputs), SimpleNamespace(out=out))
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)
    verdicts.append(accepted(task, {"out": out}, expected))
print(json.dumps(verdicts))
"""

_COMPILE = """
import importlib.util, json, pathlib, sys
from types import SimpleNamespace
import torch
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from suites.gpumode import suite
space = suite.task("trimul@spec").design_space
signature = suite.task("trimul@spec").signature
folder, (axes, designs) = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
types = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
types[torch.float8_e4m3fn] = "*fp8e4nv"


class Recorder:
    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        return lambda *args, **more: self.launches.append((self.kernel, args, more))


def shared(kernel, args, more):
    options = {name: more.pop(name) for name in ("num_warps", "num_stages") if name in more}
    values = dict(zip(kernel.arg_names, args)) | more
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = types[value.dtype]
        elif parameter.is_constexpr or value == 1:
            signature[parameter.name] = "constexpr"
            constants[index,] = value
            continue
        else:
            signature[parameter.name] = "i32"
        if isinstance(value, torch.Tensor) or value % 16 == 0:
            attributes[index,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.asm["cubin"]
    return made.metadata.shared


largest = []
for number, design in enumerate(designs):
    path = folder / f"compiled_{number}.py"
    path.write_text(space.render(design))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    launches, kernels = [], {n: v for n, v in vars(module).items() if isinstance(v, JITFunction)}
    vars(module).update({name: Recorder(kernel, launches) for name, kernel in kernels.items()})
    with torch.device("meta"):
        inputs = {t.name: torch.empty(t.sizes(axes)) for t in signature.inputs}
    outputs = SimpleNamespace(out=torch.empty_like(inputs["x"]))
    module.run(SimpleNamespace(**axes, **inputs), outputs)
    vars(module).update(kernels)
    largest.append(max(shared(*launch) for launch in launches))
print(json.dumps(largest))
"""


def ran(program: str, folder: Path, axes: dict[str, int], designs: list[dict[str, str]]) -> list:
    """What one of the two programs above prints."""
    interpreted = {"TRITON_INTERPRET": "1"} if program is _INTERPRET else {}
    root = str(Path(__file__).parents[1])
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": root, "TRITON_CACHE_DIR": str(folder / "cache")} | interpreted
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(folder)],
        input=json.dumps([axes, designs]),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.thorough
@needs_triton
def test_designs_are_right_or_wrong_in_the_interpreter_as_their_space_says(tmp_path: Path) -> None:
    designs, seen = [], set()
    # The optimum's steps and some of the start's: all of both take a minute and say little more.
    for design in (*list(single_steps(START))[::4], *single_steps(BEST), BEST | {"product": "own"}):
        # Warps and stages mean nothing here, 256 x 256 tiles only time.
        source = re.sub(r"num_\w+=\d", "", SPACE.render(design).partition("\n")[2])
        if source not in seen and design["tile"] != "256" and design["precision"] != "bf16":
            seen.add(source)
            designs.append(design)
    axes = {"batch": 1, "n": 12, "dim": 64, "hidden": 64}
    tiles = {"batch": 2, "n": 35, "dim": 64, "hidden": 64}
    several = [BEST | {"product": "own", "tile": "32", "rows": "64", "layout": "last"}]
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(ran, _INTERPRET, tmp_path / "even", axes, designs[::2]),
            pool.submit(ran, _INTERPRET, tmp_path / "odd", axes, designs[1::2]),
        ]
        even, odd = (half.result() for half in halves)
    verdicts = list(zip(designs[::2], even, strict=True))
    verdicts += list(zip(designs[1::2], odd, strict=True))
    verdicts += list(zip(several, ran(_INTERPRET, tmp_path / "tiles", tiles, several), strict=True))
    assert [design for design, passed in verdicts if passed != SPACE.honest(design)] == []


@pytest.mark.thorough
@needs_triton
def test_designs_compile_for_an_h100_and_only_large_pipelined_tiles_do_not_fit(
    tmp_path: Path,
) -> None:
    limit = 227 * 1024  # bytes of shared memory per program on sm_90
    own = BEST | {"product": "own"}
    largest_honest = own | {"storage": "float32", "stages": "4"}
    designs = [START, own, largest_honest, own | {"tile": "256", "stages": "4"}]
    axes = {"batch": 1, "n": 512, "dim": 384, "hidden": 128}
    sizes = ran(_COMPILE, tmp_path / "compile", axes, designs)
    assert [size <= limit for size in sizes] == [SPACE.honest(design) for design in designs]
