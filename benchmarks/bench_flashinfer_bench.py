"""FlashInfer-Bench 0.1.2 and this harness on the same work, side by side: `make bench-gpu`.

One CUDA candidate, our start of grouped-query decode, from source to verdict with timing, on the
ten workloads of bench_flashinfer.py. Each side gets a fresh process for each run, and the seconds
are those of the whole process: cold with an empty cache, then warm with what the cold run compiled.
Ours are printed apart, too: a process that searches starts once, and from then on it evaluates.
Ours goes first, so that files which are read for the first time are at our expense. Printed is
FlashInfer-Bench's seconds divided by ours.

    FlashInfer-Bench   `flashinfer-bench run` with its defaults: the persistent runner, 3 inputs, 50
                       timed calls of solution and reference each. The definition's reference is
                       our own text (flashinfer_trace_set.py), float32 with a loop over sequences.
    harness            LocalEvaluator with its defaults, verified calls on fresh inputs beside the
                       suite's baseline. FlashInfer, where it is the baseline, was compiled before
                       (suites.flashinfer.prepare). Warm keeps the builds, not the evaluation.

Covered: both bindings of FlashInfer-Bench, tvm-ffi with the exporter's adapter and torch; how many
workloads each side passed; latencies by both clocks, and everything either said, in GPU_SAMPLES.
Not covered: its isolated runner; several GPUs (both sides see the first); the dataset's own page
tables, which neither side reads. Skipped where there is no GPU, nvcc, ninja or flashinfer_bench.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from benchmarks.bench_flashinfer import TenWorkloads
from benchmarks.bench_gpu import keep
from benchmarks.flashinfer_trace_set import solution, write_trace_set
from harness.environment import find_nvcc, visible_gpus
from harness.evaluate.bundle import BINDINGS, Binding
from harness.types import Candidate, JsonObject, Language, Passed, evaluation_from_json

ROOT = Path(__file__).resolve().parents[1]
SUITE = "benchmarks.bench_flashinfer:ten"
TASK = TenWorkloads()
SEED = 1
INSTALL = "pip install flashinfer-bench==0.1.2"
LONGEST_SECONDS = 900

FLASHINFER_BENCH = "from flashinfer_bench.cli.main import cli; cli()"
HARNESS = """\
import json, pathlib, sys, time
from harness.evaluate.local import LocalEvaluator
from harness.types import Candidate, evaluation_to_json
suite, task, language, source, cache = sys.argv[1:]
program = Candidate(language, pathlib.Path(source).read_text())
with LocalEvaluator(suite, cache_folder=pathlib.Path(cache)) as evaluator:
    begun = time.perf_counter()
    evaluation = evaluator.evaluate(task, program)
    seconds = time.perf_counter() - begun
print(json.dumps(evaluation_to_json(evaluation) | {"evaluating_seconds": seconds}))
"""
# Before anything is timed: the packages' files are read from the disk, the driver is up.
IMPORTS = "import torch, flashinfer_bench, harness.evaluate.local; torch.zeros(1, device='cuda')"


def tools_path() -> str:
    """PATH with nvcc and with the programs of this Python's environment, ninja among them."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    nvcc = find_nvcc()
    return os.pathsep.join([*folders, str(Path(nvcc).parent)] if nvcc else folders)


def missing() -> str:
    """What a run needs and this machine lacks; "" if nothing."""
    if not visible_gpus() or not find_nvcc():
        return "this machine has no NVIDIA GPU with nvcc"
    if importlib.util.find_spec("flashinfer_bench") is None:
        return f"the package flashinfer_bench is not installed: {INSTALL}"
    if shutil.which("ninja", path=tools_path()) is None:
        return "FlashInfer-Bench compiles with ninja, which is not installed: pip install ninja"
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")


@dataclass(frozen=True)
class Run:
    """One side's whole process. verdicts: by workload; latency_us: by the side's own clock, of the
    workloads that passed; said: the raw records; log: the end of stderr."""

    seconds: float
    verdicts: dict[str, str]
    latency_us: dict[str, float]
    said: list[JsonObject] = field(repr=False)
    log: str = field(repr=False)

    @property
    def passed(self) -> int:
        return sum(verdict.upper() == "PASSED" for verdict in self.verdicts.values())


def timed(arguments: Sequence[str], **variables: str) -> tuple[str, str, float]:
    """Output, the end of stderr, and seconds of a process of this Python with one GPU."""
    gpus = visible_gpus()
    path = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        "PATH": tools_path(),
        "PYTHONPATH": os.pathsep.join([str(ROOT), path] if path else [str(ROOT)]),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpus[0]["index"] if gpus else "",
        **variables,
    }
    environment.pop("FIB_DATASET_PATH", None)
    begun = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", *arguments], cwd=ROOT, env=environment, text=True,
        capture_output=True, timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    log = process.stderr[-4000:]
    assert process.returncode == 0, process.stdout[-2000:] + log
    return process.stdout, log, seconds


def read_traces(folder: Path) -> list[JsonObject]:
    """What FlashInfer-Bench wrote into a trace set, and has not there afterwards."""
    files = sorted((folder / "traces").rglob("*.jsonl"))
    lines = [line for file in files for line in file.read_text().splitlines() if line]
    shutil.rmtree(folder / "traces", ignore_errors=True)
    return [json.loads(line) for line in lines]


def run_of_traces(traces: list[JsonObject], log: str, seconds: float) -> Run:
    """A Run of FlashInfer-Bench. traces: its records, one for each workload that it judged."""
    verdicts, latency_us = {}, {}
    for trace in traces:
        name, evaluation = trace["workload"]["uuid"], trace["evaluation"]
        verdicts[name] = evaluation["status"]
        if evaluation.get("performance"):
            latency_us[name] = 1e3 * evaluation["performance"]["latency_ms"]
    return Run(seconds, verdicts, latency_us, traces, log)


def by_flashinfer_bench(folder: Path, cache: Path) -> Run:
    """Its run over a trace set, its traces read and removed."""
    arguments = [FLASHINFER_BENCH, "run", "--local", str(folder)]
    _, log, seconds = timed(arguments, FIB_CACHE_PATH=str(cache))
    return run_of_traces(read_traces(folder), log, seconds)


def by_harness(suite: str, task: str, language: Language, source: Path, cache: Path) -> Run:
    """Ours, measured afresh: of the cache only what was built counts."""
    for record in cache.glob("*/*.json.gz"):
        record.unlink()
    output, log, seconds = timed([HARNESS, suite, task, language, str(source), str(cache)])
    record = json.loads(output.splitlines()[-1])
    evaluation = evaluation_from_json(record)
    assert not evaluation.cached
    outcome = evaluation.outcome
    if not isinstance(outcome, Passed):
        return Run(seconds, {"all": outcome.status.value}, {}, [record], log)
    verdicts = {m.workload: outcome.status.value for m in outcome.measurements}
    latency_us = {m.workload: m.latency_us for m in outcome.measurements}
    return Run(seconds, verdicts, latency_us, [record], log)


def report(binding: Binding, theirs: dict[str, Run], ours: dict[str, Run]) -> str:
    version = importlib.metadata.version("flashinfer-bench")
    lines = [f"one CUDA candidate, {len(TASK.search)} workloads, binding {binding}:"]
    for state, run in theirs.items():
        mine = ours[state]
        lines.append(
            f"  {state}: FlashInfer-Bench {version} {run.seconds:.1f} s ({run.passed} passed), "
            f"harness {mine.seconds:.1f} s ({mine.passed} passed), of it "
            f"{mine.said[0]['evaluating_seconds']:.1f} s evaluating: "
            f"{run.seconds / mine.seconds:.2f}"
        )
    return "\n".join(lines)


@pytest.mark.parametrize("binding", BINDINGS)
def test_one_candidate_from_source_to_verdict(benchmark, tmp_path: Path, binding: Binding) -> None:
    import torch

    folder, source = tmp_path / "trace_set", tmp_path / "candidate.cu"
    candidate = Candidate("cuda", TASK.starts["cuda"])
    generator = torch.Generator().manual_seed(SEED)
    write_trace_set(folder, TASK, solution(TASK, candidate, binding), generator)
    source.write_text(candidate.source)
    theirs: dict[str, Run] = {}
    ours: dict[str, Run] = {}
    timed([IMPORTS])

    def both() -> None:
        for state in ("cold", "warm"):
            ours[state] = by_harness(SUITE, TASK.name, "cuda", source, tmp_path / "ours")
            theirs[state] = by_flashinfer_bench(folder, tmp_path / "theirs")

    benchmark.pedantic(both, rounds=1)
    print("\n" + report(binding, theirs, ours))
    sides = {"flashinfer_bench": theirs, "harness": ours}
    runs = {side: {s: asdict(run) for s, run in sides[side].items()} for side in sides}
    ratios = {state: theirs[state].seconds / ours[state].seconds for state in theirs}
    keep(f"flashinfer_bench_{binding}", {"ratios": ratios, "runs": runs})
    for run in (*theirs.values(), *ours.values()):
        assert run.passed == len(TASK.search), (run.verdicts, str(run.said)[-4000:], run.log)
