"""harness/evaluate/diagnosis.py and the table that shows what it finds."""

import math

import pytest

from harness.evaluate.diagnosis import FIGURES, Diagnosis, figures_from_worker, with_figures
from harness.evaluate.gpu_diagnostics import LIBRARY
from harness.evaluate.libraries import _KERNELS
from harness.suite import load_suite
from harness.types import Measurement, Passed, outcome_from_json, outcome_to_json
from tests import toy_gpu_suite

LARGE_ROWS = toy_gpu_suite.large.tasks[0]
ROW = Measurement("small", 10.0, 20.0, 2.0, 1.9, 2.1, 5.0, 8, plan_us=30.0, baseline_plan_us=60.0)


def test_only_known_and_possible_figures_come_in() -> None:
    told = {"ok": True, "hot_us": 12, "graph_us": math.inf, "kernels_us": -1.0, "kernels": 3.0}
    told |= {"library_share": "1", "score": 99.0, "hot_host_us": 10**400}
    assert figures_from_worker(told) == {"hot_us": 12.0, "kernels": 3.0}


def test_figures_stay_with_their_workload_and_survive_json() -> None:
    found = Diagnosis({"small": {"hot_us": 9.0}, "other": {"hot_us": 1.0}})
    (row,) = with_figures([ROW], found, LARGE_ROWS)
    assert row.diagnostics == {"hot_us": 9.0}
    assert row.flags == ()
    outcome = Passed((row,), 1.9, 2.1)
    assert outcome_from_json(outcome_to_json(outcome)) == outcome


def test_time_in_libraries_is_flagged_where_they_are_forbidden() -> None:
    found = Diagnosis({"small": {"library_share": 0.25}})
    assert load_suite("cpu").task("matmul").libraries == "forbidden"
    (row,) = with_figures([ROW], found, load_suite("cpu").task("matmul"))
    assert row.flags == ("25% of its kernels' time in libraries, which are forbidden",)
    (row,) = with_figures([ROW], found, LARGE_ROWS)
    assert row.flags == ()


def test_a_program_that_breaks_says_how_where_figures_are_missing() -> None:
    found = Diagnosis({"small": {"hot_us": 9.0}})
    found.broke("graph: it synchronises")
    found.broke("its worker ended")
    (row,) = with_figures([ROW], found, LARGE_ROWS)
    assert row.flags == ("not diagnosed in full (graph: it synchronises)",)
    found.figures["small"] = dict.fromkeys(FIGURES, 1.0)
    (row,) = with_figures([ROW], found, LARGE_ROWS)
    assert row.flags == ()
    (row,) = with_figures([ROW], Diagnosis({"other": {}}, "it broke"), LARGE_ROWS)
    assert row.flags == ()  # nobody looked at this one


def test_what_a_program_says_of_its_breaking_is_one_short_flag() -> None:
    found = Diagnosis({"small": {}})
    found.broke("x; below 1.2 x floor;\n3 disturbed blocks repeated" + "!" * 500)
    (row,) = with_figures([ROW], found, LARGE_ROWS)
    (flag,) = row.flags
    assert ";" not in flag
    assert "\n" not in flag
    assert len(flag) < 250


@pytest.mark.parametrize(
    "path",
    [
        "/root/.cache/flashinfer/0.6.4/90a/cached_ops/batch_decode/batch_decode.so",
        "/usr/lib/python3/dist-packages/nvidia/cudnn/lib/libcudnn_ops.so.9",
    ],
)
def test_libraries_of_kernels_are_known_by_their_paths(path: str) -> None:
    assert _KERNELS.search(path)


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/harness-job-1/kernels/ABC/cuda_utils.cpython-312-x86_64-linux-gnu.so",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04",
        "/usr/lib/python3.12/lib-dynload/_decimal.cpython-312-x86_64-linux-gnu.so",
    ],
)
def test_what_torch_and_triton_load_by_themselves_is_none(path: str) -> None:
    assert not _KERNELS.search(path)


@pytest.mark.parametrize(
    "name",
    [
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT",
        "sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x64",
        "ampere_sgemm_128x64_tn",
        "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x128_8x4_tn_align1>(Params)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>",
    ],
)
def test_kernels_of_libraries_are_known_by_their_names(name: str) -> None:
    assert LIBRARY.search(name)


@pytest.mark.parametrize("name", ["scale_rows", "gated_factor", "flash_decode_split", "matmul"])
def test_a_programs_own_kernels_are_no_librarys(name: str) -> None:
    assert not LIBRARY.search(name)
