"""The design space of gpumode/trimul: fusion, layout, precision, storage, tiles, and traps.

Covered: the parameters, the prior with its interactions, `honest`, and the renderer.
Not covered: measured times; designs outside the closed list: several features per program,
LayerNorm folded into the weights, persistent or warp-specialised kernels, tensor descriptors.

Traps, marked by `honest`: `precision` = "fp8" is too coarse; `mask` = "left" and "skip" are right
only where no mask is drawn; `edges` = "ignored" is right on the timed sizes and wrong on others;
`tile` = "256" with pipelined loads needs up to 416 KB of shared memory, an H100 has 227. Slow but
honest: "ieee" dots, features side by side, one-stage loops, few warps for large tiles.
"""

from __future__ import annotations

import math

from harness.design_space import Choice, Configuration, DesignSpace, Parameter
from harness.types import Language
from suites.gpumode.trimul_code import render

_START = {
    "projections": "separate",
    "layout": "last",
    "product": "own",
    "precision": "ieee",
    "storage": "float32",
    "tile": "32",
    "rows": "32",
    "stages": "1",
    "warps": "4",
    "output": "separate",
    "mask": "both",
    "edges": "exact",
}

# The workload that the prior is reckoned for, and an H100's published peaks as far as programs get.
_N, _DIM, _HIDDEN = 768, 256, 128
_PAIRS = _N * _N
_BYTES = 2.5e6  # per microsecond, from device memory
_CACHED = 5.5e6  # per microsecond, from the second-level cache
_FLOPS = {"ieee": 3e7, "tf32": 2e8, "fp16": 4.5e8, "bf16": 4.5e8, "fp8": 6e8}  # per microsecond


def _tile_share(side: int, configuration: Configuration) -> float:
    """The share of peak that a tile of this side reaches with its warps and stages."""
    warps, cores = configuration["warps"], configuration["precision"] != "ieee"
    share = {32: 0.2, 64: 0.5, 128: 0.9, 256: 0.1}[side] if cores else {32: 0.5}.get(side, 0.8)
    if side == 256 or (side == 128 and warps == "4"):
        share *= 0.5
    if side == 32 and warps == "8":
        share *= 0.8
    return share


def _projections_us(configuration: Configuration, item: int) -> float:
    rate = _FLOPS[configuration["precision"]] * _tile_share(
        int(configuration["rows"]), configuration
    )
    products = 10.0 * _PAIRS * _DIM * _HIDDEN / rate
    factors = 3.0 * _PAIRS * _HIDDEN * item
    x, y = _PAIRS * _DIM * 4.0, _PAIRS * _DIM * float(item)
    traffic = {
        "separate": x + y + 5 * y * (2 if configuration["rows"] == "32" else 1) + 4 * factors,
        "gated": x + 4 * y + factors,
        "fused": 1.3 * x + factors,
    }[configuration["projections"]]
    return products + traffic / _BYTES


def _product_us(configuration: Configuration, item: int) -> float:
    flops = 2.0 * _N**3 * _HIDDEN
    first = configuration["layout"] == "first"
    product = 2.0 * _PAIRS * _HIDDEN * item / _BYTES
    if configuration["product"] == "bmm":
        copies = 0.0 if first else 8.0 * _PAIRS * _HIDDEN * item / _BYTES
        return product + copies + flops / (6e8 if item == 2 else 4.5e7)
    tile = int(configuration["tile"])
    # Asynchronous copies move 4 bytes or more: 16-bit features side by side cannot be pipelined.
    pipelined = configuration["stages"] != "1" and (first or item == 4)
    share = _tile_share(tile, configuration) * (1.0 if pipelined else 0.5)
    fetched = 2.0 * _N**3 / tile * _HIDDEN * (item if first else 32.0)
    return product + max(flops / (_FLOPS[configuration["precision"]] * share), fetched / _CACHED)


def _output_us(configuration: Configuration, item: int) -> float:
    rows = int(configuration["rows"])
    rate = _FLOPS[configuration["precision"]] * _tile_share(rows, configuration)
    features = _PAIRS * _HIDDEN * float(item)
    traffic = _PAIRS * _DIM * 4.0 + 2 * features
    if configuration["output"] == "separate":
        traffic += 3 * features
    return 2.0 * _PAIRS * _DIM * _HIDDEN / rate + traffic / _BYTES


def _microseconds(configuration: Configuration) -> float:
    """The model of the prior: compute and traffic of the three parts, added up."""
    item = 2 if configuration["storage"] == "half" else 4
    total = sum(part(configuration, item) for part in (_projections_us, _product_us, _output_us))
    total *= {"both": 1.0, "left": 0.995, "skip": 0.99}[configuration["mask"]]
    return total * (0.96 if configuration["edges"] == "ignored" else 1.0)


def _expected(configuration: Configuration) -> float:
    """The prior: log2(speedup) over the start. Written down before anything was measured."""
    return math.log2(_microseconds(_START) / _microseconds(configuration))


def _parameter(name: str, title: str, difficulty: int, *choices: tuple[str, str]) -> Parameter:
    """A parameter whose gains are the prior of the single step from the start."""
    if _START[name] != choices[0][0]:
        raise ValueError(f"{name}: the first choice must be the naive one")
    made = tuple(
        Choice(value, phrase, round(_expected(_START | {name: value}), 3))
        for value, phrase in choices
    )
    return Parameter(name, title, made, difficulty)


class TriMulSpace(DesignSpace):
    """Designs of the triangle multiplicative update in Triton, with torch's batched product."""

    name = "gpumode/trimul"
    language: Language = "triton"
    parameters = (
        _parameter(
            "projections",
            "fusion of LayerNorm, projections and gates",
            4,
            ("separate", "run LayerNorm, every projection and every gate as a kernel of its own"),
            ("gated", "compute each factor with its gate and mask in one kernel after LayerNorm"),
            ("fused", "fuse LayerNorm and all five projections into one kernel"),
        ),
        _parameter(
            "layout",
            "layout of left, right and the product",
            3,
            ("last", "keep the features of a pair side by side"),
            ("first", "store one contiguous n by n plane per feature"),
        ),
        _parameter(
            "product",
            "who computes the triangle product",
            2,
            ("own", "compute the triangle product in a Triton kernel"),
            ("bmm", "hand the triangle product to torch's batched matrix product"),
        ),
        _parameter(
            "precision",
            "operands of the products",
            2,
            ("ieee", "multiply in exact float32"),
            ("tf32", "multiply float32 operands as tf32 on tensor cores"),
            ("fp16", "round operands to float16 and sum in float32"),
            ("bf16", "round operands to bfloat16 and sum in float32"),
            ("fp8", "store the factors of the triangle product in 8 bits"),
        ),
        _parameter(
            "storage",
            "intermediate results and weights in memory",
            2,
            ("float32", "keep intermediate results in float32"),
            ("half", "keep intermediate results and a packed copy of the weights in 16 bits"),
        ),
        _parameter(
            "tile",
            "tile of the triangle product",
            2,
            ("32", "use 32 x 32 tiles in the triangle product"),
            ("64", "use 64 x 64 tiles in the triangle product"),
            ("128", "use 128 x 128 tiles in the triangle product"),
            ("256", "use 256 x 256 tiles in the triangle product"),
        ),
        _parameter(
            "rows",
            "pairs per program of the projections",
            2,
            ("32", "project 32 pairs per program"),
            ("64", "project 64 pairs per program"),
            ("128", "project 128 pairs per program"),
        ),
        _parameter(
            "stages",
            "software pipelining of the triangle product",
            1,
            ("1", "load and multiply in turn"),
            ("3", "pipeline the loads of the triangle product over three stages"),
            ("4", "pipeline the loads of the triangle product over four stages"),
        ),
        _parameter(
            "warps",
            "warps per program",
            1,
            ("4", "run four warps per program"),
            ("8", "run eight warps per program"),
        ),
        _parameter(
            "output",
            "fusion of the second LayerNorm and the output",
            3,
            ("separate", "write the gated LayerNorm to memory before the output projection"),
            ("fused", "fuse the second LayerNorm, gate and output projection"),
        ),
        _parameter(
            "mask",
            "where the mask is applied",
            1,
            ("both", "multiply left and right by the mask"),
            ("left", "apply the mask to the left factor only"),
            ("skip", "drop the mask"),
        ),
        _parameter(
            "edges",
            "sizes that are no multiple of a tile",
            1,
            ("exact", "guard loads and stores at the edges"),
            ("ignored", "assume that all sizes are multiples of the tiles"),
        ),
    )
    prior_source = (
        "A roofline of an H100 from its published peaks (3.35 TB/s, 989 TFLOP/s dense at 16 bits), "
        "reckoned for n = 768, dim = 256: traffic of every kernel at three quarters of the "
        "bandwidth, products at a share of peak that grows with the tile, 32-byte sectors for "
        "loads that are not contiguous. Written down before any measurement; no measured time of "
        "any program is in it."
    )

    def prior(self, configuration: Configuration) -> float:
        """log2(speedup) over the start, with the interactions of layout, storage and product."""
        return _expected(configuration)

    @staticmethod
    def honest(configuration: Configuration) -> bool:
        """Whether the design is correct on every workload and fits an H100."""
        return (
            configuration["precision"] != "fp8"
            and configuration["mask"] == "both"
            and configuration["edges"] == "exact"
            and (
                configuration["tile"] != "256"
                or configuration["stages"] == "1"
                or configuration["product"] == "bmm"
            )
        )

    def render(self, configuration: Configuration) -> str:
        """The Triton program of a configuration, marker line first."""
        return f"{self.marker(configuration)}\n{render(configuration)}"
