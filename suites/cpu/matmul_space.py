"""The design space of cpu/matmul: register tiles, vectors, packing, blocking, work split.

Covered: the parameters, the prior with its interactions, `honest`, and the renderer.
Not covered: measured times (docs/suite-cpu.md reports how well the prior ranks them), and designs
outside the closed list: Strassen, packed A, prefetch, more than one level of cache blocking.

The gains are coordinated. The start streams each row of C through memory while the compiler
vectorises the inner loop. Holding C in registers pays only when a tile has enough independent sums
to hide the latency of a multiply-add *and* is made of wide vectors; packing B pays only below such
tiles. Each of these steps alone loses, or gains next to nothing.

Traps, marked by `honest`: `edges` = "ignored" leaves the remainders of the tiles unwritten, so it
is wrong wherever a size is no multiple; `lanes` = "12" does not compile (GCC and Clang vectors have
a power-of-two size). Slow but honest: `split` = "none", one-lane tiles, 8 x 4 tiles (spills).
"""

from __future__ import annotations

import math

from harness.design_space import Choice, Configuration, DesignSpace, Parameter
from harness.types import Language
from suites.cpu.matmul_code import START, render


def _parameter(name: str, title: str, difficulty: int, *choices: tuple[str, str]) -> Parameter:
    """A parameter whose gains are the prior of the single step from the start."""
    start = choices[0][0]
    made = tuple(
        Choice(value, phrase, round(_expected(_START_CONFIGURATION | {name: value}), 3))
        for value, phrase in choices
    )
    if _START_CONFIGURATION[name] != start:
        raise ValueError(f"{name}: the first choice must be the naive one")
    return Parameter(name, title, made, difficulty)


_START_CONFIGURATION = {
    "split": "rows",
    "accumulate": "memory",
    "rows": "1",
    "vectors": "1",
    "lanes": "1",
    "pack": "none",
    "block_k": "all",
    "unroll": "1",
    "edges": "exact",
}


def _expected(configuration: Configuration) -> float:
    """The prior: log2(speedup) over the start. Written down before anything was measured.

    A core issues two vector multiply-adds a cycle with a latency of four, so a tile needs about
    eight independent sums; more sums than about 28 registers spill. The start keeps C in cache: a
    load, a multiply-add and a store per vector, taken as one quarter of the peak (-2).
    """
    rows, vectors = int(configuration["rows"]), int(configuration["vectors"])
    lanes = int(configuration["lanes"])
    packed = configuration["pack"] == "panels"
    split = {"rows": 0.0, "columns": -0.1, "none": -0.9}[configuration["split"]]
    unroll = 0.05 if configuration["unroll"] == "4" else 0.0
    if configuration["accumulate"] == "memory":
        narrow = {1: 0.0, 16: 0.0, 12: 0.0, 8: -0.2, 4: -0.7}[lanes]
        shared_b = 0.1 * math.log2(rows)
        short_loop = 0.9 - 0.15 * math.log2(vectors) + (1.0 if lanes == 1 else 0.0)
        packing = -short_loop if packed else 0.0
        blocked = -0.05 if configuration["block_k"] != "all" else 0.0
        return split + unroll + narrow + shared_b + packing + blocked
    sums = rows * vectors
    peak = 2.4 + math.log2(lanes / 16)
    latency = math.log2(min(sums, 8) / 8)
    spills = -1.0 if sums > 28 else 0.0
    loads = -0.3 * max(0.0, (rows + vectors) / sums - 0.6)
    dense = rows >= 4 and lanes >= 8
    packing = (0.25 if dense else -0.2) if packed else 0.0
    blocking = {"all": 0.0, "64": -0.1, "256": 0.1 if dense and packed else 0.0}
    return (
        split
        + unroll
        + peak
        + latency
        + spills
        + loads
        + packing
        + blocking[configuration["block_k"]]
    )


class MatmulSpace(DesignSpace):
    """4,320 honest designs of a row-major float32 matrix product in C++."""

    name = "cpu/matmul"
    language: Language = "cpp"
    parameters = (
        _parameter(
            "split",
            "how the threads share C",
            2,
            ("rows", "split the rows of C over the threads"),
            ("columns", "split the columns of C over the threads"),
            ("none", "run on one thread only"),
        ),
        _parameter(
            "accumulate",
            "where C is summed",
            3,
            ("memory", "update C in memory, row by row"),
            ("registers", "hold a tile of C in registers over the whole k loop"),
        ),
        _parameter(
            "rows",
            "rows of a tile",
            2,
            ("1", "one row per tile"),
            ("2", "two rows per tile"),
            ("4", "four rows per tile"),
            ("6", "six rows per tile"),
            ("8", "eight rows per tile"),
        ),
        _parameter(
            "vectors",
            "vectors across a tile",
            2,
            ("1", "one vector across the tile"),
            ("2", "two vectors across the tile"),
            ("4", "four vectors across the tile"),
        ),
        _parameter(
            "lanes",
            "floats in a vector",
            3,
            ("1", "leave vectorisation to the compiler"),
            ("4", "use vectors of 4 floats"),
            ("8", "use vectors of 8 floats"),
            ("16", "use vectors of 16 floats"),
            ("12", "use vectors of 12 floats"),
        ),
        _parameter(
            "pack",
            "layout of B",
            4,
            ("none", "read B where it lies"),
            ("panels", "pack B into contiguous panels as wide as a tile"),
        ),
        _parameter(
            "block_k",
            "blocking of the k loop",
            3,
            ("all", "run the k loop in one piece"),
            ("64", "block the k loop by 64"),
            ("256", "block the k loop by 256"),
        ),
        _parameter(
            "unroll",
            "unrolling of the k loop",
            1,
            ("1", "leave the k loop rolled"),
            ("4", "unroll the k loop four times"),
        ),
        _parameter(
            "edges",
            "sizes that are no multiple of a tile",
            1,
            ("exact", "treat the remainders at the edges exactly"),
            ("ignored", "drop the remainder code and assume multiples of the tile"),
        ),
    )
    prior_source = (
        "Instruction counts of a core with two vector multiply-adds per cycle, latency four and 32 "
        "vector registers: a register tile needs wide vectors and about eight independent sums "
        "before it beats streaming C through the first-level cache, and packing pays only below a "
        "dense tile. Written down before any measurement; no machine's times are in it."
    )

    def prior(self, configuration: Configuration) -> float:
        """log2(speedup) over the start, with the interactions of tile, vectors and packing."""
        return _expected(configuration)

    @staticmethod
    def honest(configuration: Configuration) -> bool:
        """Whether the design is correct on every size and compiles."""
        return configuration["lanes"] != "12" and configuration["edges"] == "exact"

    def render(self, configuration: Configuration) -> str:
        """The C++ program of a configuration, marker line first."""
        if configuration == self.start():
            return f"{self.marker(configuration)}\n{START}"
        return f"{self.marker(configuration)}\n{render(configuration)}"
