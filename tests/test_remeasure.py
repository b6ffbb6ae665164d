"""harness/remeasure.py: a folder of published kernels, measured; here in Triton's interpreter."""

import json
from pathlib import Path
from typing import cast

import pytest

from harness.errors import UsageError
from harness.evaluate.local import LocalEvaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.remeasure import find_kernels, remeasure
from harness.remeasured import read_remeasured
from harness.reproduce import measured_kernels
from harness.types import Status
from tests.toy_gpu_suite import START

SUITE = "tests.toy_gpu_suite:gated"
WRAPPED = (
    START.replace("def run(inputs, outputs):", "def program(inputs, outputs):")
    + """

from types import SimpleNamespace


def run(x, scale):
    y, total = torch.empty_like(x), torch.empty_like(x[:, 0])
    rows, n = x.shape
    program(
        SimpleNamespace(x=x, scale=scale, rows=rows, n=n), SimpleNamespace(y=y, total=total)
    )
    return %s
"""
)


def write_solution(folder: Path, name: str, returned: str, definition: str = "gated_rows") -> None:
    folder.mkdir(exist_ok=True)
    solution = {
        "name": name, "definition": definition, "author": "ksearch",
        "spec": {
            "language": "triton", "target_hardware": ["H100"], "entry_point": "main.py::run",
            "dependencies": [], "destination_passing_style": False,
        },
        "sources": [{"path": "main.py", "content": WRAPPED % returned}],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(solution))


def interpreter(suite: str) -> LocalEvaluator:
    settings = EvaluatorSettings(gpu_min_samples=2, gpu_max_samples=2)
    return LocalEvaluator(suite, device="interpreter", settings=settings)


def test_kernels_are_measured_under_both_gates_and_once(tmp_path: Path) -> None:
    folder, out = tmp_path / "kernels", tmp_path / "out"
    write_solution(folder, "right", "y, total")
    write_solution(folder, "coarse", "y + 5e-3, total")  # within the published gate only
    write_solution(folder, "elsewhere", "y, total", "other_rows")
    told: list[str] = []
    record = remeasure(folder, out, told.append, suite_name=SUITE, make_evaluator=interpreter)
    assert any("elsewhere: left out" in line for line in told)
    kernels = {kernel.name: kernel for kernel in record.kernels}
    assert set(kernels) == {"right", "coarse"}
    right, coarse = kernels["right"], kernels["coarse"]
    assert right.means("ours", "outside") is not None
    assert right.held_out is Status.PASSED
    assert coarse.right("ours") == 0
    assert coarse.right("published") == len(coarse.workloads)
    assert "outside the tolerance" in coarse.workloads[0].ours_message
    assert coarse.held_out is Status.INCORRECT_NUMERICAL
    assert read_remeasured(out) == record
    told.clear()
    again = remeasure(folder, out, told.append, suite_name=SUITE, make_evaluator=interpreter)
    assert again.kernels == record.kernels
    assert sum("measured before" in line for line in told) == 2


def test_a_record_in_the_folder_is_shown_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    write_solution(folder, "right", "y, total")
    record = remeasure(folder, folder, print, suite_name=SUITE, make_evaluator=interpreter)
    assert measured_kernels(folder, tmp_path / "out", print) == record


def test_a_folder_without_a_kernel_of_the_suite_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Solution JSON"):
        list(find_kernels(tmp_path))
    write_solution(tmp_path, "elsewhere", "y, total", "other_rows")
    with pytest.raises(UsageError, match="other_rows"):
        remeasure(tmp_path, tmp_path, print, suite_name=SUITE, make_evaluator=interpreter)
    (tmp_path / "broken.json").write_text("{")
    names = [cast(str, found.name) for found in find_kernels(tmp_path) if found.solution is None]
    assert names == ["broken.json"]
