"""Compiles a Triton program's kernels ahead, in a process that has no GPU.

The program's `run` is called once per workload on fake tensors (torch's FakeTensorMode): torch
operations compute shapes only, and kernel launches are noted instead, with pointers of the same
type and alignment in place of tensors. Then each distinct kernel is compiled by Triton's own
warm-up path, which writes the binary and the launch stub into the cache folder. What this misses (a
launch that depends on contents, an argument that is no plain tensor) is compiled later by the first
worker that runs the program.

Covered: distinct kernels side by side (a process each), autotuned kernels (every configuration),
errors of the compiler.
Not covered: anything about a GPU but its compute capability.

Runs in the builder's worker, which the warm parent forked: everything is imported there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from harness.types import JsonObject

if TYPE_CHECKING:
    import torch

_WARP = 32
# What torch imports when fake tensors are first used. They cannot be used in the warm parent: that
# opens the GPU, which starts a thread.
_FOR_FAKE_TENSORS = (
    "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch._refs",
    "torch._decomp", "torch._meta_registrations", "torch._prims", "torch._inductor.config",
    "torch._dynamo.utils",
)  # fmt: skip
_MESSAGE_BYTES = 4000


def warm_up(*, compiles: bool) -> None:
    """In the warm parent, once: what Triton finds out by starting programs (ptxas' version, the
    driver's folder, the platform) or by reading all of its files. Workers inherit it and need not
    start any. compiles: also what `compile_all` needs, which takes a second or more to import."""
    import triton.compiler.code_generator
    from triton.backends.nvidia import compiler, driver
    from triton.runtime import build, cache

    assert triton.compiler.code_generator
    cache.triton_key()
    build.platform_key()
    for name in _FOR_FAKE_TENSORS if compiles else ():
        with contextlib.suppress(ImportError):  # names of torch's own, which may change
            importlib.import_module(name)
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

    Returns {"ok": true, "missed": N, "kernels": M} (workloads or launches that are left to the
    first worker; kernels compiled), or {"ok": false, "message"} if a kernel does not compile.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answer: JsonObject = {"ok": True, "missed": len(workloads), "kernels": 0}
        try:
            launches, missed = _launches(run, tensors, workloads, capability)
            answer = _compile_each(launches, processes)
            answer["missed"] = missed + answer.get("missed", 0)
        finally:  # what a program raises, it raises again where it is run
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], seconds)[0]:
            return {"ok": False, "timeout": True, "message": "compiling did not end in time"}
        data = os.read(reading, 2 * _MESSAGE_BYTES)
        found: JsonObject = json.loads(data) if data else {"ok": True, "missed": len(workloads)}
        return found
    finally:
        os.close(reading)


@dataclass(frozen=True)
class _Launch:
    """One distinct kernel: the call that compiles it."""

    function: Any
    arguments: tuple[object, ...]
    named: Mapping[str, object]


def _launches(
    run: Callable[[SimpleNamespace, SimpleNamespace], object],
    tensors: Mapping[str, Sequence[tuple[str, str, tuple[str | int, ...]]]],
    workloads: Sequence[Mapping[str, int]],
    capability: int,
) -> tuple[list[_Launch], int]:
    """The distinct kernels that `run` launches for these workloads, and for how many of them it did
    not come to its end."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
    from triton.runtime import driver
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    driver.set_active(_stub_driver(capability))
    torch._C._cuda_getDeviceCount = lambda: 0  # looking for a device costs seconds where none is
    # A descriptor of a tensor asks for its address; allocations are aligned to 256 bytes at least.
    FakeTensor.data_ptr = _aligned_address  # type: ignore[assignment]
    found: dict[object, _Launch] = {}
    launch = JITFunction.run

    def note(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        arguments = tuple(map(_pointer, args))
        named = {name: _pointer(value) for name, value in kwargs.items()}
        found.setdefault(_identity(self, arguments, named), _Launch(self, arguments, named))

    def every_configuration(self: Any, *args: Any, **kwargs: Any) -> None:
        for configuration in self.configs:
            self.fn.run(*args, **kwargs, **configuration.all_kwargs())

    JITFunction.run, tuned = note, Autotuner.run
    Autotuner.run = every_configuration
    missed = 0
    for axes in workloads:
        ended = False
        with contextlib.suppress(*_program_errors()), FakeTensorMode():
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
            ended = True
        missed += not ended
    JITFunction.run, Autotuner.run = launch, tuned
    return list(found.values()), missed


def _aligned_address(tensor: torch.Tensor) -> int:
    return 256 + int(tensor.storage_offset()) * tensor.element_size()


def _program_errors() -> tuple[type[BaseException], ...]:
    """What a program may raise on tensors without contents; it is left to the GPU then."""
    return (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
        OSError, RuntimeError, TypeError, ValueError,
    )  # fmt: skip


def _identity(function: Any, arguments: tuple[object, ...], named: Mapping[str, object]) -> object:
    """Equal for launches that Triton compiles once."""
    from triton.runtime.jit import compute_cache_key

    try:
        _, keys, _, _, binder = function.device_caches[0]
        _, specialization, options = binder(*arguments, **named, debug=False)
        return function, compute_cache_key(keys, specialization, options)
    except (AttributeError, KeyError, TypeError, ValueError):  # another Triton than 3.6
        return function, repr((arguments, sorted(named.items(), key=lambda item: item[0])))


def _compile_each(launches: Sequence[_Launch], processes: int) -> JsonObject:
    """Compile side by side, a process each."""
    waiting, missed = list(launches), 0
    running: dict[int, int] = {}  # pipe -> process
    while waiting or running:
        while waiting and len(running) < processes:
            reading, writing = os.pipe()
            launch = waiting.pop(0)
            child = os.fork()
            if child == 0:
                os.close(reading)
                _compile_one(launch, writing)
            os.close(writing)
            running[reading] = child
        for reading in select.select(list(running), [], [])[0]:
            data = os.read(reading, _MESSAGE_BYTES)
            os.close(reading)
            os.waitpid(running.pop(reading), 0)
            answer = json.loads(data) if data else {"missed": True}
            if "error" in answer:
                return {"ok": False, "message": answer["error"]}
            missed += bool(answer["missed"])
    return {"ok": True, "missed": missed, "kernels": len(launches)}


def _compile_one(launch: _Launch, writing: int) -> NoReturn:
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import PTXASError

    answer: JsonObject = {"missed": True}
    try:
        kernel = launch.function.run(*launch.arguments, grid=(1,), warmup=True, **launch.named)
        answer = {"missed": not _launch_stub(kernel)}
    except (CompilationError, PTXASError) as error:
        text = f"{type(error).__name__}: {error}"
        answer = {"error": text.encode()[-_MESSAGE_BYTES // 2 :].decode("utf-8", "replace")}
    finally:
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)


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


def _launch_stub(kernel: Any) -> bool:
    """Build the C stub that launches a kernel, too, into the same cache. Whether it is there."""
    from triton.backends.nvidia.driver import CudaLauncher, CudaUtils

    try:
        CudaUtils()
        CudaLauncher(kernel.src, kernel.metadata)
    except (AssertionError, ImportError, OSError, RuntimeError):
        return False  # without NVIDIA's driver there is nothing to link with
    return True


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
