"""The design spaces of the paged decode tasks: heads per program, splits, blocks, and traps.

Covered: the parameters, the prior with its interactions, `honest`, and the renderer; one space for
each task, of the same shape.
Not covered: measured times; designs outside the closed list: a plan phase that balances splits,
persistent kernels, tensor descriptors, several pages per load.

Traps, marked by `honest`: `tail` = "full" counts a sequence's last token again; `pages` =
"contiguous" reads one run of pages (inside the cache) instead of the page table; `scale` = "
""skipped";
`lse` = "natural"; `empty` = "ignored" divides by zero for a sequence without tokens, which no
workload but a held-out one has.
"""

from __future__ import annotations

import math

from harness.design_space import Choice, Configuration, DesignSpace, Parameter
from harness.types import Language
from suites.flashinfer.decode_code import Layout, render

_START = {
    "heads": "one", "splits": "1", "block": "16", "precision": "ieee", "exponential": "exp",
    "warps": "4", "stages": "1", "pages": "table", "tail": "masked", "scale": "applied",
    "lse": "base2", "empty": "handled",
}  # fmt: skip

# The workload that the prior is reckoned for, and an H100's published peaks as far as programs get.
_SEQUENCES, _LENGTH = 16, 1000
_PROCESSORS = 132
_BYTES = 2.5e6  # per microsecond, from device memory
_TOKEN_NS = {"16": 100.0, "32": 60.0, "64": 40.0, "128": 35.0}  # of one program, waiting for loads


def _microseconds(layout: Layout, configuration: Configuration) -> float:
    """The model of the prior: the longest program's walk, or the traffic of all of them."""
    grouped = configuration["heads"] == "group"
    parts = layout.kv_heads if grouped else layout.query_heads
    splits = {"auto": 8.0}.get(configuration["splits"], 0.0) or float(configuration["splits"])
    token = _TOKEN_NS[configuration["block"]] * math.sqrt(layout.width / 128)
    token *= {"1": 1.0, "2": 0.8, "4": 0.75}[configuration["stages"]]
    token *= {"2": 1.1, "4": 1.0, "8": 1.1}[configuration["warps"]]
    if grouped:
        token *= 1.6 if configuration["precision"] == "ieee" else 1.1
    elif configuration["precision"] == "bf16":
        token *= 1.02
    token *= 0.95 if configuration["exponential"] == "exp2" else 1.0
    rounds = max(1.0, _SEQUENCES * parts * splits / (_PROCESSORS * 4))
    walk = _LENGTH / splits * token * rounds / 1e3
    reuse = 1.0 if grouped else 1.0 + 0.1 * (layout.group - 1)  # most repeats hit the caches
    traffic = _SEQUENCES * _LENGTH * layout.kv_heads * layout.width * 4.0 * reuse / _BYTES
    total = max(walk, traffic) + (4.0 if splits > 1 else 2.0)
    total *= 0.97 if configuration["pages"] == "contiguous" else 1.0
    total *= 0.99 if configuration["tail"] == "full" else 1.0
    total *= 0.998 if configuration["scale"] == "skipped" else 1.0
    total *= 0.999 if configuration["empty"] == "ignored" else 1.0
    return total


class DecodeSpace(DesignSpace):
    """Designs of one paged decode task in Triton. phrases of a parameter are the same for all."""

    language: Language = "triton"
    prior_source = (
        "A model of an H100 from its published bandwidth (3.35 TB/s, three quarters of it reached) "
        "and its 132 multiprocessors, reckoned for 16 sequences of 1,000 tokens: one program walks "
        "over its tokens at a guessed pace, splits shorten the walk, and all together cannot be "
        "faster than the cache is read. Written down before any measurement; no measured time of "
        "any program is in it."
    )

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self._layout = layout
        self.parameters = (
            self._parameter(
                "heads", "query heads of a program", 3,
                ("one", "attend with one query head per program"),
                ("group", "attend with all query heads that share a KV head in one program"),
            ),
            self._parameter(
                "splits", "splits of a sequence", 4,
                ("1", "walk over each sequence in one program"),
                ("4", "split each sequence into 4 parts and merge them"),
                ("16", "split each sequence into 16 parts and merge them"),
                ("auto", "split sequences as the batch leaves multiprocessors free"),
            ),
            self._parameter(
                "block", "tokens per step", 2,
                ("16", "take 16 tokens per step"),
                ("32", "take 32 tokens per step"),
                ("64", "take 64 tokens per step"),
                ("128", "take 128 tokens per step"),
            ),
            self._parameter(
                "precision", "operands of the products", 2,
                ("ieee", "multiply in float32"),
                ("bf16", "round the softmax weights to bfloat16 before their product"),
            ),
            self._parameter(
                "exponential", "base of the exponentials", 1,
                ("exp", "use natural exponentials"),
                ("exp2", "fold log2(e) into the scale and use exp2"),
            ),
            self._parameter(
                "warps", "warps per program", 1,
                ("4", "run four warps per program"),
                ("2", "run two warps per program"),
                ("8", "run eight warps per program"),
            ),
            self._parameter(
                "stages", "software pipelining of the loads", 2,
                ("1", "load and compute in turn"),
                ("2", "pipeline the loads over two stages"),
                ("4", "pipeline the loads over four stages"),
            ),
            self._parameter(
                "pages", "how pages are found", 1,
                ("table", "look every page up in the page table"),
                ("contiguous", "assume that the pages of a sequence are contiguous"),
            ),
            self._parameter(
                "tail", "a sequence's last block", 1,
                ("masked", "mask the tokens behind a sequence's end"),
                ("full", "take every block of tokens to be full"),
            ),
            self._parameter(
                "scale", "the softmax scale", 1,
                ("applied", "scale the logits by sm_scale"),
                ("skipped", "leave out sm_scale"),
            ),
            self._parameter(
                "lse", "the base of lse", 1,
                ("base2", "write lse to base 2"),
                ("natural", "write the natural logarithm as lse"),
            ),
            self._parameter(
                "empty", "sequences without tokens", 1,
                ("handled", "guard the division for sequences without tokens"),
                ("ignored", "divide by the softmax sum without a guard"),
            ),
        )  # fmt: skip

    def _parameter(
        self, name: str, title: str, difficulty: int, *choices: tuple[str, str]
    ) -> Parameter:
        """A parameter whose gains are the prior of the single step from the start."""
        if _START[name] != choices[0][0]:
            raise ValueError(f"{name}: the first choice must be the naive one")
        made = tuple(
            Choice(value, phrase, round(self.prior(_START | {name: value}), 3))
            for value, phrase in choices
        )
        return Parameter(name, title, made, difficulty)

    def prior(self, configuration: Configuration) -> float:
        """log2(speedup) over the start, with the interactions of heads, splits and traffic."""
        layout = self._layout
        return math.log2(_microseconds(layout, _START) / _microseconds(layout, configuration))

    @staticmethod
    def honest(configuration: Configuration) -> bool:
        """Whether the design is correct on every workload, held-out ones included."""
        traps = ("pages", "tail", "scale", "lse", "empty")
        return all(configuration[name] == _START[name] for name in traps)

    def render(self, configuration: Configuration) -> str:
        """The Triton program of a configuration, marker line first."""
        return f"{self.marker(configuration)}\n{render(self._layout, configuration)}"
