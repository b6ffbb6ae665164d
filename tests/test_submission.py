"""Submissions in GPUMode's format: what `wrap` makes of a file, and what the shim sees of calls."""

import inspect
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch

from harness.errors import UsageError
from harness.evaluate.inspected import observed_from_worker
from suites.gpumode.submission import wrap
from tests.toy_trimul import ALIASING, CACHING, FLAGS, HONEST, ToySpec

PLAIN = "def custom_kernel(data):\n    return data[0]\n"
TASK = ToySpec()
WORKLOAD = TASK.final[1]


@pytest.fixture
def candidate() -> Iterator[ModuleType]:
    """An empty module of the name that a worker gives to its program; torch's settings restored."""
    module = ModuleType("candidate")
    before = torch.backends.cuda.matmul.allow_tf32, torch.is_grad_enabled()
    sys.modules["candidate"] = module
    yield module
    del sys.modules["candidate"]
    sys.modules.pop("task", None)
    torch.backends.cuda.matmul.allow_tf32 = before[0]
    torch.set_grad_enabled(before[1])


def loaded(module: ModuleType, source: str) -> ModuleType:
    exec(compile(wrap(source), "candidate.py", "exec"), module.__dict__)
    return module


def made_inputs() -> SimpleNamespace:
    tensors = {t.name: torch.empty(t.sizes(WORKLOAD.axes)) for t in TASK.signature.inputs}
    TASK.fill(WORKLOAD, torch.Generator().manual_seed(1), tensors)
    return SimpleNamespace(**WORKLOAD.axes, **tensors)


@pytest.mark.parametrize("source", [
    HONEST,
    PLAIN,
    f"from __future__ import annotations; import os\n{PLAIN}",
    f'"""Doc."""; from __future__ import annotations; from task import input_t\n{PLAIN}',
    f"#!POPCORN gpu H100\n# a comment\n\n'doc'\nfrom __future__ import annotations\n{PLAIN}",
    f"import functools\n@functools.cache\ndef f(): ...\n{PLAIN}",
    f"import torch\n@torch.compile\n{PLAIN}",
    f"@staticmethod\n{PLAIN}",
    "custom_kernel = lambda data: data[0]",
    "if True:\n    from math import sin as custom_kernel",
    f"s = 'ä€'; t = 1\n{PLAIN}",
])  # fmt: skip
def test_a_wrapped_submission_holds_every_line_and_runs(source: str, candidate: ModuleType) -> None:
    wrapped = wrap(source)
    rest = iter(wrapped)
    assert all(character in rest for character in source)
    assert callable(loaded(candidate, source).run)


def test_names_of_the_submission_stay_its_own(candidate: ModuleType) -> None:
    source = f"def run(x):\n    return x\n\n\ndef plan(inputs):\n    return 1\n\n\n{PLAIN}"
    module = loaded(candidate, source)
    assert module.__dict__["run"]("its own") == "its own"
    assert module.run is not module.__dict__["run"]
    assert module.plan is None


def test_a_kernels_source_is_found_in_the_wrapped_file(
    candidate: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("wrapped") / "candidate.py"
    path.write_text(wrap(f"'doc'\nfrom __future__ import annotations\n{PLAIN}"), encoding="utf-8")
    candidate.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), candidate.__dict__)
    assert inspect.getsource(candidate.custom_kernel) == PLAIN


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def kernel(data): ...", "defines no custom_kernel"),
        ("class A:\n    def custom_kernel(self): ...", "defines no custom_kernel"),
        ("def f():\n    custom_kernel = 1", "defines no custom_kernel"),
        ("", "defines no custom_kernel"),
        ("def custom_kernel(data:", "is no Python"),
    ],
)
def test_a_file_that_is_no_submission_is_told_why(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wrap(source)


def test_an_honest_submission_is_right_and_leaves_nothing(candidate: ModuleType) -> None:
    module, inputs = loaded(candidate, HONEST), made_inputs()
    result = module.run(inputs, SimpleNamespace())
    module.observe(inputs, result)
    tensors = {t.name: getattr(inputs, t.name) for t in TASK.signature.inputs}
    expected = TASK.reference(WORKLOAD, tensors)["out"]
    assert torch.allclose(result.double(), expected, atol=1e-4)
    report = module.report()
    assert report.pop("calls") == 1
    assert not any(report.values())


def test_kept_containers_show_the_cache_and_the_shared_result(candidate: ModuleType) -> None:
    module, inputs = loaded(candidate, CACHING), made_inputs()
    for _ in range(2):
        module.observe(inputs, module.run(inputs, SimpleNamespace()))
    report = module.report()
    assert report["keys_added"] == ["weights['packed']"]
    assert report["reused_outputs"] == 1


def test_fresh_containers_hide_nothing_that_was_added(candidate: ModuleType) -> None:
    module = loaded(candidate, CACHING)
    for _ in range(2):
        inputs = made_inputs()
        module.observe(inputs, module.run(inputs, SimpleNamespace()))
    report = module.report()
    assert report["keys_added"] == ["weights['packed']"]
    assert report["reused_outputs"] == 0


def test_settings_attributes_values_and_globals_are_seen(candidate: ModuleType) -> None:
    module, inputs = loaded(candidate, FLAGS), made_inputs()
    module.observe(inputs, module.run(inputs, SimpleNamespace()))
    report = module.report()
    assert "cuda.matmul.allow_tf32: False -> True" in report["settings_changed"]
    assert "grad_mode: True -> False" in report["settings_changed"]
    assert report["tensor_attributes"] == ["input.seen"]
    assert report["values_replaced"] == ["config['dim']"]
    assert report["module_tensors"] == ["buffers"]


def test_a_result_in_an_inputs_memory_is_seen(candidate: ModuleType) -> None:
    module, inputs = loaded(candidate, ALIASING), made_inputs()
    module.observe(inputs, module.run(inputs, SimpleNamespace()))
    assert module.report()["returned_inputs"] == ["input"]


def test_a_workers_report_is_cut_to_what_an_honest_one_holds() -> None:
    seen = observed_from_worker(
        {
            "keys_added": ["a\x1b[31m" + "b" * 500, 3, None, *["c"] * 50],
            "settings_changed": "not a list",
            "calls": True,
            "reused_outputs": -5,
            "unknown": {"deep": []},
        }
    )
    assert len(seen.keys_added) == 16
    assert len(seen.keys_added[0]) == 120
    assert seen.keys_added[0].startswith("a?[31m")
    assert seen.settings_changed == ()
    assert (seen.calls, seen.reused_outputs) == (0, 0)
