"""How a program behaves beyond its score, in the worker that runs it: for a reader, not a verdict.

Three looks at one slot whose inputs were written once, each asked for by itself:

    hot      calls back to back: L2 warm, host time not hidden
    kernels  one call under CUPTI (torch.profiler): kernels, copies and fills by name
    graph    one call captured in a CUDA graph, replayed: no host time at all

Everything here comes from the program's own process and is shown as its word. A kernel counts as a
library's by its name: cuBLAS, cuDNN, CUTLASS and torch's own.

Covered: Python, Triton and CUDA programs, in a worker with torch and a profiler made ready before
its filter is installed. Not covered: bounding what is told (diagnosis.py).
"""

from __future__ import annotations

import ctypes
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.evaluate.cpp_program import CppProgram
from harness.evaluate.worker import CandidateError

if TYPE_CHECKING:
    from harness.evaluate.worker import Program

_CALLS = 20
_BLOCKS = 3
LIBRARY = re.compile(
    r"cublas|cudnn|cutlass|cusparse|nvjet|gemvx|splitkreduce|(sm\d+|ampere|volta|turing)_\w*gemm"
    r"|sm\d+_xmma|\bat::|at_cuda_detail|flashinfer|flash_(fwd|bwd)|deep_gemm",
    re.IGNORECASE,
)


def make_profiler_ready() -> None:
    """Start CUPTI once: it opens files and starts threads, which a candidate may not."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]):
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()


def diagnose(program: Program, slot: int, what: str) -> dict[str, float]:
    """One look. Raises CandidateError for an unknown one, and whatever the program raises."""
    looks: dict[str, Callable[[Program, int], dict[str, float]]] = {
        "hot": _hot,
        "kernels": _kernels,
        "graph": _graph,
    }
    if what not in looks:
        raise CandidateError("protocol", f"unknown look {what!r}")
    return looks[what](program, slot)


def _hot(program: Program, slot: int) -> dict[str, float]:
    hosts: list[float] = []

    def call() -> None:
        begun = time.perf_counter_ns()
        _run(program, slot)
        hosts.append((time.perf_counter_ns() - begun) / 1e3)
        program.renew(slot)

    return {"hot_us": _events_us(call), "hot_host_us": statistics.median(hosts)}


def _kernels(program: Program, slot: int) -> dict[str, float]:
    import torch

    _run(program, slot)
    program.renew(slot)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        _run(program, slot)
        torch.cuda.synchronize()
    found = [e for e in profile.events() or () if e.device_type.name == "CUDA"]
    libraries = [e for e in found if LIBRARY.search(e.name)]
    # Copies are the worker's own, where a program returns its outputs.
    kernels = [e for e in found if not e.name.startswith(("Memcpy", "Memset"))]
    return {
        "kernels": float(len(found)),
        "kernels_us": _sum_us(found),
        "library_share": _sum_us(libraries) / (_sum_us(kernels) or 1.0),
    }


def _graph(program: Program, slot: int) -> dict[str, float]:
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        if isinstance(program, CppProgram):
            program.stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        try:
            _run(program, slot)
        finally:
            if isinstance(program, CppProgram):
                program.stream = ctypes.c_void_p(None)
    return {"graph_us": _events_us(graph.replay)}


def _sum_us(events: Sequence[Any]) -> float:
    return float(sum(event.time_range.elapsed_us() for event in events))


def _run(program: Program, slot: int) -> None:
    code = program.run(slot)
    if code != 0:
        raise CandidateError("run", f"run returned {code}")


def _events_us(call: Callable[[], None]) -> float:
    """The median over blocks of back-to-back calls, per call, between two events."""
    import torch

    call()
    values: list[float] = []
    make_event: Callable[..., torch.cuda.Event] = torch.cuda.Event
    for _ in range(_BLOCKS):
        begin, end = (make_event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(_CALLS):
            call()
        end.record()
        torch.cuda.synchronize()
        values.append(begin.elapsed_time(end) * 1e3 / _CALLS)
    return statistics.median(values)
