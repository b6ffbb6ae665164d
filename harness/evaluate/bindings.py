"""The compiler's command line for the bindings of published kernels: torch extensions and TVM-FFI.

The flags are those of torch.utils.cpp_extension and of tvm_ffi.cpp where they decide what compiles
(language standard, definitions, libraries), with the optimisation of every other candidate; the
packages are found without importing them. The compiler is called directly: no ninja, no compiling
in a worker.

Covered: g++ and clang++ for the CPU, nvcc for CUDA; headers of CUDA's libraries from the packages
of torch where the toolkit has none.
Not covered: a torch built with the old C++ ABI; CUTLASS and other libraries of sources.
"""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import importlib.util
import re
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import EnvironmentMissing
from harness.evaluate.build import Builder, BuildFailure, Toolchain
from harness.evaluate.bundle import Binding, Bundle, BundleError, read_bundle
from harness.evaluate.bundle_shim import LIBRARY, MODULE, program_text
from harness.evaluate.program import KERNEL_CACHE, pack_files
from harness.suite import Signature
from harness.types import Candidate, Failed, JsonObject, Stage, Status

_TORCH_CUDA = (
    "-D__CUDA_NO_HALF_OPERATORS__", "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__", "-D__CUDA_NO_HALF2_OPERATORS__",
    "--expt-relaxed-constexpr",
)  # fmt: skip
_DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class BuiltBundle:
    """A program in Python around a library, as a judge loads it; seconds: what building took."""

    program: JsonObject
    seconds: float


class BindingMissing(EnvironmentMissing):
    """What a bundle's binding is built with is not installed."""


def bundle_of(candidate: Candidate, signature: Signature) -> Bundle | Failed | None:
    """The bundle that a candidate is; None if it is none, and what is wrong with it if it cannot be
    built for this signature."""
    try:
        bundle = read_bundle(candidate.source, candidate.language)
    except BundleError as error:
        return _refused(str(error))
    unknown = bundle.unknown_arguments(signature) if bundle is not None else []
    if unknown:
        return _refused(f"the arguments {unknown} are neither inputs nor axes of the task")
    return bundle


def build_bundle(
    builder: Builder, bundle: Bundle, signature: Signature
) -> BuiltBundle | BuildFailure:
    """Build a bundle. Equal files are built once, whichever function of theirs is the entry. Raises
    EnvironmentMissing."""
    tools = bound(builder.toolchain, bundle.binding)
    files = {file.path: file.content for file in bundle.files}
    compiled = [file.path for file in bundle.files if file.compiled]
    built = builder.build_files(tools, files, compiled)
    if isinstance(built, BuildFailure):
        return built
    program = {
        "language": "python",
        "code": _text(program_text(bundle, signature, KERNEL_CACHE).encode()),
        "kernels": _text(pack_files({LIBRARY: built.code})),
        "complete": True,  # nothing is compiled later
    }
    return BuiltBundle(program, built.seconds)


def _refused(why: str) -> Failed:
    return Failed(Status.COMPILE_ERROR, Stage.BUILD, "bundle", why)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bound(tools: Toolchain, binding: Binding) -> Toolchain:
    """The toolchain with what a binding needs besides. Raises EnvironmentMissing."""
    return _with_torch(tools) if binding == "torch" else _with_tvm_ffi(tools)


def _with_torch(tools: Toolchain) -> Toolchain:
    torch = _package("torch", "torch", "torch")
    include = torch / "include"
    python = Path(sysconfig.get_path("include")).resolve()
    if not (python / "Python.h").exists():
        raise BindingMissing(
            "Python's headers are missing, which a torch extension is built with. Debian, Ubuntu: "
            "apt-get install python3-dev; Fedora: dnf install python3-devel."
        )
    folders = [include, include / "torch" / "csrc" / "api" / "include", python]
    libraries = ["-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
    definitions = [f"-DTORCH_EXTENSION_NAME={MODULE}", "-DTORCH_API_INCLUDE_EXTENSION_H"]
    if tools.cuda:
        definitions += _TORCH_CUDA
        libraries += ["-lc10_cuda", "-ltorch_cuda", *_driver_library(tools)]
    standard = _standard(torch / "utils" / "cpp_extension.py")
    bound_tools = _extended(
        tools, standard, [*definitions, "-w"], folders, torch / "lib", libraries, "torch"
    )
    return _with_cuda_headers(bound_tools, torch) if tools.cuda else bound_tools


def _with_tvm_ffi(tools: Toolchain) -> Toolchain:
    package = _package("tvm_ffi", "apache-tvm-ffi", "tvm-ffi")
    folders = [package / "include", package / "3rdparty" / "dlpack" / "include"]
    libraries = ["-ltvm_ffi", *(_driver_library(tools) if tools.cuda else ())]
    return _extended(tools, 17, ["-w"], folders, package / "lib", libraries, "apache-tvm-ffi")


def _extended(
    tools: Toolchain,
    standard: int,
    flags: list[str],
    folders: list[Path],
    library_folder: Path,
    libraries: list[str],
    distribution: str,
) -> Toolchain:
    # A quotation mark finds the sources' own headers from any folder of theirs.
    include = ["-I.", *(f"-I{folder}" for folder in folders)]
    command = [
        f"-std=c++{standard}" if part.startswith("-std=") else part for part in tools.command
    ]
    version = f"{tools.version}; {distribution} {importlib.metadata.version(distribution)}"
    return replace(
        tools,
        command=(*command, *flags, *include),
        libraries=(f"-L{library_folder}", *libraries),
        version=version,
        readable=(*tools.readable, *folders, library_folder),
    )


def _package(module: str, distribution: str, binding: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BindingMissing(
            f"The package {distribution} is missing, which kernels with binding {binding} are "
            f"built with. Install it: pip install {distribution}."
        )
    return Path(spec.origin).resolve().parent


@functools.cache
def _standard(cpp_extension: Path) -> int:
    """The language standard that this torch's headers need, by its own extension builder: 17 up to
    some version, then 20."""
    text = cpp_extension.read_text(encoding="utf-8")
    return max((int(n) for n in re.findall(r"['\"]-std=c\+\+(\d\d)['\"]", text)), default=17)


def _driver_library(tools: Toolchain) -> list[str]:
    """The driver's library: by the toolkit's stub, or where the system's linker finds it itself."""
    folders = ("lib64/stubs", "lib/stubs", "targets/*/lib/stubs")
    stubs = [
        f
        for home in tools.readable
        for folder in folders
        for f in home.glob(f"{folder}/libcuda.so")
    ]
    if stubs:
        return [f"-L{stubs[0].resolve().parent}", "-lcuda"]
    usual = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
    there = any(Path(folder, _DRIVER).exists() for folder in usual)
    return [f"-l:{_DRIVER}"] if there else []


def _with_cuda_headers(tools: Toolchain, torch: Path) -> Toolchain:
    """With the headers of torch's own packages behind the toolkit's: ATen includes those of cuBLAS
    and cuSPARSE, which a small toolkit lacks."""
    folders = sorted(folder.resolve() for folder in (torch.parent / "nvidia").glob("*/include"))
    flags = [flag for folder in folders for flag in ("-Xcompiler", f"-idirafter,{folder}")]
    return replace(tools, command=(*tools.command, *flags), readable=(*tools.readable, *folders))
