"""A report over 1,000 runs of 120 charges: the limit is 30 s and 1 GiB (docs/performance.md).

Run with `python -m pytest benchmarks/bench_report.py -s`. The report is built in a fresh process,
so that its peak memory is its own; the folder is written once, by seed. Half of the runs record a
population, a quarter a world model.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.fake_comparison import Plan, write_comparison

SECONDS_LIMIT, MEMORY_LIMIT_MIB = 30.0, 1024.0
PLAN = Plan(
    tasks=tuple(f"task_{n}" for n in range(10)),
    arms=("best_of_n", "ksearch", "openevolve", "shinkaevolve"),
    seeds=tuple(range(25)),
    charges=120,
)
BUILD = """
import resource, sys
from pathlib import Path
from reports.build import build_report
build_report(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("bench") / "runs", PLAN)


def test_report_over_1000_runs_of_120_charges(benchmark: BenchmarkFixture, folder: Path) -> None:
    def build() -> float:
        command = [sys.executable, "-c", BUILD, str(folder)]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
        return float(done.stdout)

    peak_mib = benchmark.pedantic(build, rounds=1, iterations=1)
    size = sum(p.stat().st_size for p in folder.glob("runs/*/*/*/events.jsonl")) / 2**20
    page = (folder / "report" / "index.html").stat().st_size / 2**20
    print(f"\npeak memory {peak_mib:.0f} MiB; event logs {size:.0f} MiB; page {page:.1f} MiB")
    benchmark.extra_info["peak_memory_mib"] = round(peak_mib)
    assert peak_mib <= MEMORY_LIMIT_MIB
    assert benchmark.stats["max"] <= SECONDS_LIMIT
