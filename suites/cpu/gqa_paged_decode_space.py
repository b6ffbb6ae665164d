"""The design space of cpu/gqa_paged_decode: vectors, shared heads, split of work, softmax variant.

Covered: the parameters, the prior, `honest`, and the renderer.
Not covered: measured times (docs/suite-cpu.md), and designs outside the list, such as a plan phase
that balances chunks, or several tokens per dot product.

The prior is greedy: vectors, shared heads and threads are each taken to be faster on their own, in
any order, and sums in registers and prefetching to pay beside vectors. Measurements support it for
vectors, shared heads and threads (docs/suite-cpu.md).

Traps, marked by `honest`: `empty` = "ignored" divides by zero for a sequence without tokens;
`pages` = "contiguous" reads one run of pages per sequence (wrapping around, so that it stays inside
the cache) instead of the page table; `lanes` = "12" does not compile.
"""

from __future__ import annotations

from harness.design_space import Choice, Configuration, DesignSpace, Parameter
from harness.types import Language
from suites.cpu.gqa_paged_decode_code import (
    BY_SEQUENCE,
    COMMON,
    FINISH,
    GUARD,
    ONLINE,
    PAGES,
    PREFETCH,
    SCRATCH,
    SPLIT,
    START,
    STORED,
    VALUES,
    WORKSPACE_OF_LOGITS,
    WORKSPACE_OF_PARTIALS,
)
from suites.cpu.vector_code import exponential, vector_types


class GqaPagedDecodeSpace(DesignSpace):
    """576 honest designs of grouped-query attention over a paged cache in C++."""

    name = "cpu/gqa_paged_decode"
    language: Language = "cpp"
    parameters = (
        Parameter(
            "lanes",
            "floats in a vector",
            (
                Choice("1", "leave vectorisation to the compiler", 0.0),
                Choice("4", "use vectors of 4 floats", 0.9),
                Choice("8", "use vectors of 8 floats", 1.3),
                Choice("16", "use vectors of 16 floats", 1.5),
                Choice("12", "use vectors of 12 floats", 1.4),
            ),
            3,
        ),
        Parameter(
            "heads",
            "query heads attended together",
            (
                Choice("1", "attend every query head by itself", 0.0),
                Choice("4", "attend four query heads of a group together", 0.6),
                Choice("8", "attend all query heads of a group together, reading KV once", 0.7),
            ),
            3,
        ),
        Parameter(
            "threads",
            "split of work over threads",
            (
                Choice("one", "run on one thread", 0.0),
                Choice("sequences", "split the sequences over the threads", 0.7),
                Choice("chunks", "split the KV of each sequence into chunks and merge them", 0.9),
            ),
            4,
        ),
        Parameter(
            "softmax",
            "softmax variant",
            (
                Choice("stored", "store all logits before the softmax", 0.0),
                Choice("online", "rescale an online softmax block by block", 0.1),
            ),
            4,
        ),
        Parameter(
            "exponential",
            "how exp is computed",
            (
                Choice("libm", "call expf of the C library", 0.0),
                Choice("polynomial", "evaluate exp by a polynomial after range reduction", 0.15),
            ),
            3,
        ),
        Parameter(
            "values",
            "where weighted values are summed",
            (
                Choice("memory", "add each weighted value to sums in memory", 0.0),
                Choice("registers", "hold the sums of the values in registers", 0.3),
            ),
            3,
        ),
        Parameter(
            "prefetch",
            "prefetching of pages",
            (
                Choice("none", "leave prefetching to the hardware", 0.0),
                Choice("ahead", "prefetch the pages of later tokens", 0.1),
            ),
            1,
        ),
        Parameter(
            "pages",
            "how pages are found",
            (
                Choice("table", "look every page up in the page table", 0.0),
                Choice("contiguous", "assume that the pages of a sequence are contiguous", 0.1),
            ),
            1,
        ),
        Parameter(
            "empty",
            "sequences without tokens",
            (
                Choice("handled", "treat sequences without tokens separately", 0.0),
                Choice("ignored", "drop the branch for sequences without tokens", 0.02),
            ),
            1,
        ),
    )
    prior_source = (
        "A scalar dot product of 64 terms waits for 64 dependent additions, which vectors shorten "
        "by their width; heads of a group share the loads of keys and values; sums of values in "
        "registers save a load and a store per vector; a second core nearly doubles the speed, "
        "more evenly if work is split by tokens; exponentials and page look-ups are a few per cent "
        "of the time. No machine's times are in it."
    )

    def prior(self, configuration: Configuration) -> float:
        """The sum of the gains; sums in registers are worth half where the compiler vectorises."""
        expected = super().prior(configuration)
        if configuration["lanes"] == "1" and configuration["values"] == "registers":
            return expected - 0.15
        return expected

    @staticmethod
    def honest(configuration: Configuration) -> bool:
        """Whether the design is correct on every size and page table, and compiles."""
        return (
            configuration["lanes"] != "12"
            and configuration["pages"] == "table"
            and configuration["empty"] == "handled"
        )

    def render(self, configuration: Configuration) -> str:
        """The C++ program of a configuration, marker line first."""
        if configuration == self.start():
            return f"{self.marker(configuration)}\n{START}"
        return f"{self.marker(configuration)}\n{_render(configuration)}"


def _render(configuration: Configuration) -> str:
    stored = configuration["softmax"] == "stored"
    common = (
        COMMON.replace("$heads", configuration["heads"])
        .replace("$prefetch", PREFETCH if configuration["prefetch"] == "ahead" else "")
        .replace("$add_values", VALUES[configuration["values"]])
        .replace("$page", PAGES[configuration["pages"]])
    )
    finish = FINISH.replace("$guard", GUARD if configuration["empty"] == "handled" else "")
    if configuration["threads"] == "chunks":
        scratch = "                float logits[HEADS * CHUNK];\n"
        run = SPLIT.replace("$workspace", WORKSPACE_OF_PARTIALS)
        run = run.replace("$arguments", "logits, CHUNK, " if stored else "")
    else:
        parallel = configuration["threads"] == "sequences"
        scratch = SCRATCH
        run = BY_SEQUENCE.replace("$workspace", WORKSPACE_OF_LOGITS if stored else "")
        run = run.replace(
            "$schedule", "#pragma omp parallel for schedule(static)\n" if parallel else ""
        ).replace("$arguments", "logits, stride, " if stored else "")
    run = run.replace("$scratch", scratch if stored else "")
    return (
        f'#include "task.h"\n\n{vector_types(configuration["lanes"])}\n'
        f"{exponential(configuration['exponential'])}\n"
        f"{common}\n{STORED if stored else ONLINE}\n{finish}\n{run.lstrip()}"
    )
