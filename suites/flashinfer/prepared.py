"""What was compiled ahead beside FlashInfer's package, and for what: a file next to it says so.

    data/aot/NAME/NAME.so                      where FlashInfer looks for a compiled library first
    data/aot/harness_moe/NAME/NAME.so          its MoE for the baseline, where nothing else looks
    data/aot/deep_gemm/cache/KERNEL/*.cubin    kernels that its MoE compiles when it is called
    data/aot/harness_prepared.json             what of it `suites.flashinfer.prepare` put there

Names there say neither version nor GPU, so what was prepared for others is dropped. Only files are
looked at; nothing is imported.

Covered: reading, writing and dropping; whether all of the MoE is there.
Not covered: libraries in a package flashinfer-jit-cache; compiling (prepare.py, prepare_moe.py).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

MARKER = "harness_prepared.json"
MODULE = "fused_moe_90"  # FlashInfer's name of the library: CUTLASS's MoE for Hopper
MOE = f"harness_moe/{MODULE}"
KERNELS = "deep_gemm"  # the folder that its DeepGEMM keeps kernels in
_CUBIN = "nvcc_kernel.cubin"


@dataclass(frozen=True)
class Prepared:
    """identity: version, CUDA, GPU. copied: names of libraries. cubins: of the MoE's kernels, once
    every workload has run; before that, none."""

    identity: tuple[str, ...]
    copied: tuple[str, ...] = ()
    cubins: tuple[str, ...] = ()


def read(folder: Path) -> Prepared | None:
    """What the marker in data/aot says; None where there is none."""
    try:
        known = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    identity, copied, kernels = known["identity"], known["copied"], known.get("cubins", ())
    return Prepared(tuple(identity), tuple(copied), tuple(kernels))


def write(folder: Path, prepared: Prepared) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{MARKER}.part"
    part.write_text(json.dumps(asdict(prepared)), encoding="utf-8")
    part.replace(folder / MARKER)


def drop_stale(folder: Path, identity: tuple[str, ...]) -> Prepared:
    """Remove what was prepared for another version or GPU; what stays, with a marker that says so
    from now on, so that also an interrupted preparation is known."""
    known = read(folder) or Prepared(identity)
    if known.identity != identity:
        for name in known.copied:
            library(folder, name).unlink(missing_ok=True)
        shutil.rmtree(folder / KERNELS, ignore_errors=True)
        known = Prepared(identity)
    write(folder, known)
    return known


def library(folder: Path, name: str) -> Path:
    return folder / name / f"{Path(name).name}.so"


def keep(folder: Path, known: Prepared, name: str, built: Path, target: Path) -> Prepared:
    """Copy a library; what is prepared with it. The marker comes first, so that no copy is unknown,
    and a copy that was interrupted is not taken for one."""
    known = replace(known, copied=tuple(dict.fromkeys((*known.copied, name))))
    write(folder, known)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    shutil.copy2(built, part)
    os.replace(part, target)
    return known


def cubins(folder: Path) -> tuple[str, ...]:
    """The MoE's compiled kernels, by name."""
    return tuple(sorted(path.parent.name for path in (folder / KERNELS).glob(f"cache/*/{_CUBIN}")))


def moe_is_complete(folder: Path, version: str) -> bool:
    """Whether the MoE was prepared to its end, for this version, and is all there."""
    known = read(folder)
    if known is None or known.identity[0] != version or not known.cubins:
        return False
    return library(folder, MOE).exists() and set(known.cubins) <= set(cubins(folder))
