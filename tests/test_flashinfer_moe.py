"""FlashInfer's CUTLASS MoE as a baseline: when it takes part, what is said of it, and preparing it.

Covered: the order of baselines by a folder that looks like FlashInfer's package; notes; arguments,
refusals, stale files and interrupted work of `suites.flashinfer.prepare`; ninja with a toy build.
Not covered: nvcc, GPUs, FlashInfer itself (tests/test_gpu_flashinfer.py runs it where it is ready).
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import EnvironmentMissing
from harness.suite import Baseline, TorchTask
from harness.types import Workload
from suites.flashinfer import moe_cutlass, prepare, prepare_moe, prepared
from suites.flashinfer.flashinfer_package import PINNED, moe_is_ready
from suites.flashinfer.gqa_decode import GqaPagedDecodeKv4
from suites.flashinfer.moe import MoePublished, MoeSpec, ordered_baselines
from suites.flashinfer.moe_cutlass import CUTLASS, NAME, SOURCES
from tests import toy_flashinfer

HOPPER = (PINNED, "13.0", "(9, 0)", "132 multiprocessors")
OURS = ["Triton, ours", "torch"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FlashInfer's data/aot, in a package that Python finds and that holds nothing."""
    (tmp_path / "flashinfer").mkdir()
    (tmp_path / "flashinfer" / "__init__.py").write_text("")
    facts = tmp_path / f"flashinfer_python-{PINNED}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Name: flashinfer-python\nVersion: {PINNED}\n")
    monkeypatch.delitem(sys.modules, "flashinfer", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "flashinfer" / "data" / "aot"


def write_cubin(folder: Path, name: str) -> Path:
    cubin = folder / "deep_gemm" / "cache" / name / "nvcc_kernel.cubin"
    cubin.parent.mkdir(parents=True)
    cubin.write_bytes(b"")
    return cubin


def write_library(folder: Path, name: str) -> Path:
    library = prepared.library(folder, name)
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    return library


def make_ready(folder: Path) -> tuple[Path, Path, Path]:
    """The library, a kernel and the marker, as after `prepare --moe`."""
    library, cubin = write_library(folder, prepared.MOE), write_cubin(folder, "gemm_1")
    prepared.write(folder, prepared.Prepared(HOPPER, (prepared.MOE,), ("gemm_1",)))
    return library, cubin, folder / prepared.MARKER


def names(baselines: tuple[Baseline, ...]) -> list[str]:
    return [baseline.name for baseline in baselines]


def test_only_where_it_is_ready_the_library_is_specs_yardstick_and_published_has_it_second(
    package: Path,
) -> None:
    assert names(ordered_baselines(library_first=True)) == OURS
    assert names(ordered_baselines(library_first=False)) == OURS
    make_ready(package)
    assert names(ordered_baselines(library_first=True)) == [NAME, *OURS]
    assert names(ordered_baselines(library_first=False)) == [OURS[0], NAME, OURS[1]]
    version = ordered_baselines(library_first=True)[0].version
    assert version.startswith(f"{PINNED}: {len(SOURCES)} sources of its fused_moe_90")


@pytest.mark.parametrize("lacking", [0, 1, 2], ids=["library", "kernel", "marker"])
def test_the_library_is_not_ready_while_a_part_is_missing(package: Path, lacking: int) -> None:
    parts = make_ready(package)
    assert moe_is_ready()
    parts[lacking].unlink()
    assert not moe_is_ready()


def test_the_library_is_not_ready_for_another_version_or_before_every_workload_ran(
    package: Path,
) -> None:
    make_ready(package)
    known = prepared.read(package)
    assert known is not None
    prepared.write(package, replace(known, identity=("0.6.5", *HOPPER[1:])))
    assert not moe_is_ready()
    prepared.write(package, replace(known, cubins=()))
    assert not moe_is_ready()


def test_nothing_is_ready_where_flashinfer_is_not_installed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready(package)
    monkeypatch.setattr("suites.flashinfer.flashinfer_package.installed_version", lambda: None)
    assert not moe_is_ready()


def test_notes_name_the_yardstick_and_how_to_get_the_other(package: Path) -> None:
    def note(task: type[MoeSpec]) -> str:
        first = task.__name__ == "MoeSpec"
        made = type("Task", (task,), {"baselines": ordered_baselines(library_first=first)})
        return str(made().notes["baseline"])

    for task in (MoeSpec, MoePublished):
        assert note(task).startswith("a Triton program of this project")
        assert "suites.flashinfer.prepare --moe, on Hopper" in note(task)
    make_ready(package)
    assert note(MoeSpec).startswith(f"FlashInfer's CUTLASS route on Hopper, {PINNED}")
    assert note(MoePublished).startswith("a Triton program of this project")
    assert "timed beside it" in note(MoePublished)


def test_the_program_loads_the_library_of_its_own_folder_and_compiles_nothing_unless_told(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, _, rest = CUTLASS.partition("import triton\n")
    functions = {f.name for f in ast.parse(rest).body if hasattr(f, "name")}
    assert {"route", "routed", "multiplied", "run"} == functions
    usual, seen = Path("/usual"), []
    places = SimpleNamespace(FLASHINFER_AOT_DIR=usual)

    def load(backend: str) -> None:
        compiler, kernels = (os.environ[f"TRTLLM_DG_{n}"] for n in ("NVCC_COMPILER", "CACHE_DIR"))
        seen.append((backend, places.FLASHINFER_AOT_DIR, compiler, Path(kernels)))
        if len(seen) == 2:
            raise RuntimeError("not there")

    names = ("flashinfer", "flashinfer.fused_moe", "flashinfer.fused_moe.core", "flashinfer.jit")
    fakes = {name: ModuleType(name) for name in names}
    fakes["flashinfer"].__file__ = str(tmp_path / "flashinfer" / "__init__.py")
    vars(fakes["flashinfer.fused_moe"])["cutlass_fused_moe"] = None
    vars(fakes["flashinfer.fused_moe.core"])["get_cutlass_fused_moe_module"] = load
    vars(fakes["flashinfer.jit"])["env"] = places
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    exec(head, {})
    library = prepared.library(package, prepared.MOE)
    folder = library.parents[1]
    assert seen == [("90", folder, "false", package / prepared.KERNELS)]
    os.environ |= {"TRTLLM_DG_CACHE_DIR": "/mine", "TRTLLM_DG_NVCC_COMPILER": "nvcc"}
    with pytest.raises(RuntimeError, match="not there"):
        exec(head, {})
    assert seen[1:] == [("90", folder, "nvcc", Path("/mine"))]
    assert usual == places.FLASHINFER_AOT_DIR
    assert library.name == f"{prepared.MODULE}.so"


def test_preparing_attention_leaves_the_moe_alone(package: Path) -> None:
    make_ready(package)
    program = Baseline("FlashInfer", PINNED, "")
    attention = type("Attention", (GqaPagedDecodeKv4,), {"baselines": (program,)})()
    spec = type("Spec", (MoeSpec,), {"baselines": ordered_baselines(library_first=True)})()
    found = prepare.attention_baselines([attention, spec])
    assert found == [(attention, "FlashInfer", "")]


class Machine:
    """Stands in for a GPU, CUDA's folder (`home`) and compiling: what main asked for."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, home: Path, capability: tuple[int, int], nvcc: str
    ) -> None:
        self.asked: list[str] = []
        device = SimpleNamespace(name="NVIDIA Toy", multi_processor_count=132)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(prepare, "prepare_attention", self.attention)
        monkeypatch.setattr(prepare, "prepare_moe", self.moe)
        for path, text in (
            (home / "include" / "cuda_runtime.h", ""),
            (home / "bin" / "nvcc", nvcc),
        ):
            path.parent.mkdir(parents=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        monkeypatch.setattr(os, "environ", os.environ | {"CUDA_HOME": str(home)})

    def attention(self, _: Path, known: prepared.Prepared) -> prepared.Prepared:
        self.asked.append("attention")
        return known

    def moe(self, _: Path, known: prepared.Prepared, home: Path) -> prepared.Prepared:
        self.asked.append(f"moe with {home}")
        return known


CUDA_13 = "echo 'Cuda compilation tools, release 13.0, V13.0.88'"
CUDA_12 = "echo 'Cuda compilation tools, release 12.4, V12.4.131'"


def test_the_moe_is_prepared_only_when_asked_for(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = tmp_path / "cuda"
    machine = Machine(monkeypatch, cuda, (9, 0), CUDA_13)
    assert prepare.main([]) == 0
    assert machine.asked == ["attention"]
    assert prepared.read(package) == prepared.Prepared(HOPPER)
    assert prepare.main(["--moe"]) == 0
    assert machine.asked == ["attention", "attention", f"moe with {cuda}"]
    assert os.environ["TRTLLM_DG_CACHE_DIR"] == str(package / prepared.KERNELS)
    assert os.environ["TRTLLM_DG_NVCC_COMPILER"] == str(cuda / "bin" / "nvcc")


def test_preparing_attention_again_keeps_the_moe(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, tmp_path / "cuda", (9, 0), CUDA_13)
    make_ready(package)
    assert prepare.main([]) == 0
    assert moe_is_ready()


@pytest.mark.parametrize(
    ("capability", "nvcc", "words"),
    [
        ((8, 0), CUDA_13, r"needs an NVIDIA Hopper .* NVIDIA Toy \(8\.0\)\. Leave out --moe"),
        ((10, 0), CUDA_13, r"NVIDIA Toy \(10\.0\)"),
        ((9, 0), CUDA_12, r"12\.8 or later; .*nvcc is of CUDA 12\.4\. Install a later"),
        ((9, 0), "echo broken >&2", "of no known version: broken"),
    ],
)
def test_the_moe_is_refused_on_another_gpu_or_cuda_before_anything_is_touched(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int],
    nvcc: str, words: str,
) -> None:  # fmt: skip
    machine = Machine(monkeypatch, tmp_path / "cuda", capability, nvcc)
    with pytest.raises(EnvironmentMissing, match=words):
        prepare.main(["--moe"])
    assert machine.asked == []
    assert not package.exists()


def test_unknown_arguments_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare.main(["--mla"])
    assert ended.value.code == 2
    assert "[--moe]" in capsys.readouterr().err


def test_what_was_prepared_for_another_version_or_gpu_is_dropped(tmp_path: Path) -> None:
    decode = write_library(tmp_path, "decode")
    library, cubin, marker = make_ready(tmp_path)
    prepared.write(tmp_path, prepared.Prepared(HOPPER, ("decode", prepared.MOE), ("gemm_1",)))
    assert prepared.drop_stale(tmp_path, HOPPER).cubins == ("gemm_1",)
    assert all(path.exists() for path in (decode, library, cubin))
    fewer = (*HOPPER[:3], "114 multiprocessors")
    assert prepared.drop_stale(tmp_path, fewer) == prepared.Prepared(fewer)
    assert not any(path.exists() for path in (decode, library, cubin))
    assert json.loads(marker.read_text())["identity"] == list(fewer)


def test_a_marker_of_an_earlier_version_of_this_project_is_understood(tmp_path: Path) -> None:
    decode = write_library(tmp_path, "decode")
    old = {"identity": ["0.6.4", "13.0", "(9, 0)"], "copied": ["decode"]}
    (tmp_path / prepared.MARKER).write_text(json.dumps(old))
    prepared.drop_stale(tmp_path, HOPPER)
    assert not decode.exists()


def test_the_library_is_built_once_and_an_interrupted_run_goes_on_with_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "built.so"
    built.write_bytes(b"library")
    asked: list[str] = []

    def build(_: Path) -> Path:
        asked.append("library")
        return built

    def kernels(*_: object) -> tuple[str, ...]:
        asked.append("kernels")
        if asked.count("kernels") == 1:
            raise KeyboardInterrupt
        return ("gemm_1",)

    monkeypatch.setattr(prepare, "build_library", build)
    monkeypatch.setattr(prepare, "compile_kernels", kernels)
    monkeypatch.setattr(prepare, "load_program", lambda *_: {})
    folder = tmp_path / "aot"
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_moe(folder, prepared.drop_stale(folder, HOPPER), Path("/cuda"))
    known = prepared.drop_stale(folder, HOPPER)
    assert known == prepared.Prepared(HOPPER, (prepared.MOE,))
    prepare.prepare_moe(folder, known, Path("/cuda"))
    assert asked == ["library", "kernels", "kernels"]
    assert prepared.read(folder) == replace(known, cubins=("gemm_1",))
    assert prepared.library(folder, prepared.MOE).read_bytes() == b"library"


def test_every_workload_runs_small_ones_first_and_the_kernels_it_left_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = toy_flashinfer.suite.tasks[4]
    assert isinstance(task, TorchTask)
    seen: list[Workload] = []

    def run(_: TorchTask, workload: Workload, __: Mapping[str, Any]) -> None:
        seen.append(workload)
        if len(seen) in (1, 5):
            write_cubin(tmp_path, f"gemm_{len(seen)}")

    assert prepare_moe.compile_kernels(task, {}, tmp_path, run) == ("gemm_1", "gemm_5")
    assert set(seen) == {*task.final, *task.held_out}
    sizes = [workload.axes["seq_len"] for workload in seen]
    assert sizes == sorted(sizes)
    assert f"[6/6] {seen[-1].name}: 2 kernels" in capsys.readouterr().out
    with pytest.raises(EnvironmentMissing, match="TRTLLM_DG_ENABLED"):
        prepare_moe.compile_kernels(task, {}, tmp_path / "empty", run)


def test_a_folder_without_cudas_headers_is_not_taken_for_cudas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"CUDA_HOME": str(tmp_path)})
    with pytest.raises(EnvironmentMissing, match="Set CUDA_HOME"):
        prepare_moe.cuda_home()


def test_headers_that_cuda_lacks_are_taken_from_nvidias_wheels(tmp_path: Path) -> None:
    home, wheels = tmp_path / "cuda", tmp_path / "nvidia"
    for folder, header in (
        (home / "include", "nvrtc.h"),
        (home / "targets" / "x86_64-linux" / "include", "curand_kernel.h"),
        (wheels / "cublas" / "include", "cublasLt.h"),
    ):
        folder.mkdir(parents=True)
        (folder / header).write_text("")
    with pytest.raises(EnvironmentMissing, match=r"cublas_v2\.h are neither in"):
        prepare_moe.extra_headers(home, [wheels])
    (wheels / "cublas" / "include" / "cublas_v2.h").write_text("")
    assert prepare_moe.extra_headers(home, [wheels]) == [wheels / "cublas" / "include"]


def test_a_flashinfer_with_other_sources_is_explained() -> None:
    there = [Path("csrc") / name for name in sorted(SOURCES)]
    assert [path.name for path in prepare_moe.chosen_sources(there)] == list(SOURCES)
    with pytest.raises(EnvironmentMissing, match=f"other sources: {SOURCES[0]} are not"):
        prepare_moe.chosen_sources([path for path in there if path.name != SOURCES[0]])


@pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed")
def test_a_build_shows_what_is_done_and_the_end_of_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "build.ninja"
    rule = (
        "rule make\n  command = echo made > $out\nrule fail\n  command = echo sorry; false $out\n"
    )
    file.write_text(f"{rule}build one.o: make\nbuild two.o: make one.o\ndefault two.o\n")
    prepare_moe.run_ninja(tmp_path, file)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["[1/2", "[2/2"]
    assert shown[-1].endswith("two.o")
    prepare_moe.run_ninja(tmp_path, file)  # all is there
    assert capsys.readouterr().out == ""
    file.write_text(f"{rule}build three.o: fail\n")
    with pytest.raises(EnvironmentMissing, match="sorry"):
        prepare_moe.run_ninja(tmp_path, file)


def test_the_version_and_the_program_are_what_scores_depend_on(package: Path) -> None:
    make_ready(package)
    found = moe_cutlass.baseline()
    assert found is not None
    assert found.source == CUTLASS
    assert found.identity[0] == NAME
