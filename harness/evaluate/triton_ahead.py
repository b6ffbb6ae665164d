"""Compiles a Triton program's kernels ahead, in a process that has no GPU.

The program's `run` is called once per workload on fake tensors (torch's FakeTensorMode): torch
operations compute shapes only, and every kernel launch compiles instead: the launcher's arguments
become pointers of the same type and alignment, and Triton's own warm-up path writes the binary and
the launch stub into the cache folder. What this misses (a launch that depends on contents, an
argument that is no plain tensor) is compiled later by the first worker that runs the program.

Covered: kernels of all workloads side by side (a process each), autotuned kernels (every
configuration), errors of the compiler.
Not covered: anything about a GPU but its compute capability.

Runs in the builder's worker, which the warm parent forked: everything is imported there.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

from harness.types import JsonObject

_WARP = 32
_MESSAGE_BYTES = 4000


def warm_up(*, compiles: bool) -> None:
    """In the warm parent, once: what Triton finds out by starting programs (ptxas' version, the
    driver's folder, the platform) or by reading all of its files. Workers inherit it and need not
    start any. compiles: also what `compile_all` needs, which takes a second or more to import."""
    import torch
    import triton.compiler.code_generator
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.backends.nvidia import compiler, driver
    from triton.runtime import build, cache

    assert triton.compiler.code_generator
    cache.triton_key()
    build.platform_key()
    if compiles:
        with FakeTensorMode():
            torch.empty(2, 2).add(1)
    for architecture in (80, 90, 100):
        compiler.get_ptxas_version(architecture)
    try:
        driver.library_dirs()
    except (AssertionError, OSError):
        return  # no NVIDIA driver here


def compile_all(
    run: Callable[[SimpleNamespace, SimpleNamespace], object],
    tensors: Mapping[str, Sequence[tuple[str, str, tuple[str | int, ...]]]],
    workloads: Sequence[Mapping[str, int]],
    capability: int,
    processes: int,
    seconds: float,
) -> JsonObject:
    """Compile for every workload. tensors: {"inputs" | "outputs": [(name, dtype, shape)...]}.

    Returns {"ok": true, "missed": N} (workloads whose kernels are left to the first worker), or
    {"ok": false, "message"} if a kernel does not compile.
    """
    deadline = time.monotonic() + seconds
    waiting, missed = list(workloads), 0
    running: dict[int, int] = {}  # pipe -> process
    while waiting or running:
        while waiting and len(running) < processes:
            reading, writing = os.pipe()
            axes = waiting.pop(0)
            child = os.fork()
            if child == 0:
                os.close(reading)
                _child(writing, run, tensors, axes, capability)
            os.close(writing)
            running[reading] = child
        ready = select.select(list(running), [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            return {"ok": False, "timeout": True, "message": "compiling did not end in time"}
        for reading in ready:
            data = os.read(reading, _MESSAGE_BYTES)
            os.close(reading)
            os.waitpid(running.pop(reading), 0)
            answer = json.loads(data) if data else {"missed": True}
            if "error" in answer:
                return {"ok": False, "message": answer["error"]}
            missed += bool(answer["missed"])
    return {"ok": True, "missed": missed}


def _child(
    writing: int,
    run: Callable[[SimpleNamespace, SimpleNamespace], object],
    tensors: Mapping[str, Sequence[tuple[str, str, tuple[str | int, ...]]]],
    axes: Mapping[str, int],
    capability: int,
) -> NoReturn:
    answer: JsonObject = {"missed": True}
    try:
        answer = {"missed": bool(_compile(run, tensors, axes, capability))}
    except _compile_errors() as error:
        text = f"{type(error).__name__}: {error}"
        answer = {"error": text.encode()[-_MESSAGE_BYTES // 2 :].decode("utf-8", "replace")}
    finally:  # whatever else a program raises, it raises again where it is run
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)


def _compile_errors() -> tuple[type[BaseException], ...]:
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import PTXASError

    return CompilationError, PTXASError


def _compile(
    run: Callable[[SimpleNamespace, SimpleNamespace], object],
    tensors: Mapping[str, Sequence[tuple[str, str, tuple[str | int, ...]]]],
    axes: Mapping[str, int],
    capability: int,
) -> int:
    """One workload; returns how many launches were missed."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.runtime import driver
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction

    driver.set_active(_stub_driver(capability))
    missed: list[str] = []
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        named = {name: _pointer(value) for name, value in kwargs.items()}
        kernel = launch(self, *map(_pointer, args), grid=grid, warmup=True, **named)
        _launch_stub(kernel, missed)
        return kernel

    def every_configuration(self: Any, *args: Any, **kwargs: Any) -> None:
        for configuration in self.configs:
            self.fn.run(*args, **kwargs, **configuration.all_kwargs())

    JITFunction.run = compile_only
    Autotuner.run = every_configuration
    assert Heuristics.run  # goes on to the function below it
    with FakeTensorMode():
        made = {
            group: {
                name: torch.empty(
                    tuple(axes[s] if isinstance(s, str) else s for s in shape),
                    dtype=getattr(torch, dtype),
                    # A torch without CUDA cannot pretend to have it; kernels look the same.
                    device="cuda" if torch.version.cuda else "cpu",
                )
                for name, dtype, shape in rows
            }
            for group, rows in tensors.items()
        }
        run(SimpleNamespace(**axes, **made["inputs"]), SimpleNamespace(**made["outputs"]))
    return len(missed)


class _Pointer:
    """A kernel's tensor argument as far as compiling looks at it."""

    def __init__(self, dtype: object, offset_bytes: int) -> None:
        self.dtype = dtype
        self._offset_bytes = offset_bytes

    def data_ptr(self) -> int:
        return self._offset_bytes  # allocations are aligned to 256 bytes at least

    def ptr_range(self) -> int:
        return 0


def _pointer(argument: object) -> object:
    import torch

    if not isinstance(argument, torch.Tensor):
        return argument
    return _Pointer(argument.dtype, int(argument.storage_offset()) * argument.element_size())


def _launch_stub(kernel: Any, missed: list[str]) -> None:
    """Build the C stub that launches a kernel, too: it is in the same cache."""
    from triton.backends.nvidia.driver import CudaLauncher, CudaUtils

    try:
        CudaUtils()
        CudaLauncher(kernel.src, kernel.metadata)
    except (AssertionError, ImportError, OSError, RuntimeError) as error:
        missed.append(str(error))  # without NVIDIA's driver there is nothing to link with


def _stub_driver(capability: int) -> Any:
    from triton.backends.compiler import GPUTarget

    class CompileOnly:
        """A device that is not there."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", capability, _WARP)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

        def get_active_torch_device(self) -> object:
            import torch

            return torch.device("cuda", 0)

    return CompileOnly()
