"""harness/evaluate/diagnosis.py and the table that shows what it finds."""

import math

import pytest

from harness.evaluate.diagnosis import figures_from_worker, with_figures
from harness.evaluate.gpu_diagnostics import LIBRARY
from harness.types import Measurement, Passed, outcome_from_json, outcome_to_json

ROW = Measurement("small", 10.0, 20.0, 2.0, 1.9, 2.1, 5.0, 8, plan_us=30.0, baseline_plan_us=60.0)


def test_only_known_and_possible_figures_come_in() -> None:
    told = {"ok": True, "hot_us": 12, "graph_us": math.inf, "kernels_us": -1.0, "kernels": 3.0}
    told |= {"library_share": "1", "score": 99.0}
    assert figures_from_worker(told) == {"hot_us": 12.0, "kernels": 3.0}


def test_figures_stay_with_their_workload_and_survive_json() -> None:
    (row,) = with_figures([ROW], {"small": {"hot_us": 9.0}, "other": {"hot_us": 1.0}})
    assert row.diagnostics == {"hot_us": 9.0}
    outcome = Passed((row,), 1.9, 2.1)
    assert outcome_from_json(outcome_to_json(outcome)) == outcome


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
