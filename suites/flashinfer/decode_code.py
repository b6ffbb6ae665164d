"""Triton of the paged decode designs, for grouped-query attention and for MLA.

Both walk over a sequence's tokens in blocks, with an online softmax. They differ in what a query
and a key are: a `Layout` says how each is loaded and how a block's logits are made.

Covered: `render`, the program of every configuration, without its marker line. A program launches
module-level kernels from `run(inputs, outputs)`, takes scratch memory from torch.empty, branches on
sizes only, and runs on a GPU or, with TRITON_INTERPRET=1, on a CPU (whose interpreter cannot
multiply bfloat16 matrices, nor loop over a range that ends at a loaded number).
Not covered: which configurations exist and what is expected of them (decode_space.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from harness.design_space import Configuration

_HEAD = '''\
import torch
import triton
import triton.language as tl

BLOCK = $block  # tokens per step
ROWS = $rows  # query heads of one program, padded for the tensor cores
LOG2_E = 1.4426950408889634


@triton.jit
def scores(query, key):
    """The dot products of query [ROWS, D] and key [BLOCK, D]."""
$scores


@triton.jit
def weighted(weight, value):
    """The sums [ROWS, D] of value [BLOCK, D] by weight [ROWS, BLOCK]."""
$weighted


@triton.jit
def finish(
    result, highest, total, real, place, output, lse, D: tl.constexpr, LOG2_E: tl.constexpr
):
    """Write the outputs of some rows: result / total, and the base-2 logarithm of the whole sum."""
    column = tl.arange(0, D)
    result = result / $divisor[:, None]
    tl.store(output + place[:, None] * D + column[None, :], result, mask=real[:, None])
    tl.store(lse + place, $lse, mask=real)
'''

_ATTEND = '''

@triton.jit
def attend(
    $arguments, kv_indptr, kv_indices,
    output, lse, highests, totals, num_pages, sm_scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, LOG2_E: tl.constexpr,
):
    """One split of one sequence, for $what.

    Without splits it writes the outputs; with them output, highests and totals are scratch memory
    with a row for each split."""
    sequence = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    split = tl.program_id(2)
    row = tl.arange(0, ROWS)
$rows_of_program
    place = sequence * HEADS + head
    column = tl.arange(0, D)
    first = tl.load(kv_indptr + sequence)
    last = tl.load(kv_indptr + sequence + 1)
    length = tl.cdiv(last - first, SPLITS)
    begin = first + split * length
    end = tl.minimum(begin + length, last)
$query
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    result = tl.zeros((ROWS, D), tl.float32)
$loop
        token = start + tl.arange(0, BLOCK)
$page
$logits
        logits = logits * sm_scale
$tail
        new = tl.maximum(highest, tl.max(logits, 1))
        old = tl.$exp(highest - new)
        weight = tl.$exp(logits - new[:, None])
        total = total * old + tl.sum(weight, 1)
        result = result * old[:, None] + weighted(weight, value)
        highest = new
$step'''

_WRITE = """\
    finish(result, highest, total, real, place, output, lse, D, LOG2_E)
"""

_WRITE_SPLIT = """\
    place = place * SPLITS + split
    tl.store(output + place[:, None] * D + column[None, :], result, mask=real[:, None])
    tl.store(highests + place, highest, mask=real)
    tl.store(totals + place, total, mask=real)
"""

_MERGE = '''

@triton.jit
def merge(
    results, highests, totals, output, lse, D: tl.constexpr, SPLITS: tl.constexpr,
    LOG2_E: tl.constexpr,
):
    """The splits of one query head, weighted by their sums."""
    place = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    split = tl.arange(0, SPLITS)
    at = place * SPLITS + split
    highest = tl.load(highests + at)
    top = tl.max(highest, 0)
    factor = tl.$exp(highest - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(tl.load(totals + at) * factor, 0)
    parts = tl.load(results + at[:, None] * D + tl.arange(0, D)[None, :])
    result = tl.sum(parts * factor[:, None], 0)[None, :]
    ones = tl.full((1,), 1.0, tl.float32)
    finish(result, ones * top, ones * total, place >= 0, place, output, lse, D, LOG2_E)
'''

_SPLITS_FIXED = """

def splits_of(inputs):
    return $splits
"""

_SPLITS_AUTO = '''

def splits_of(inputs):
    """About four programs for each of an H100's 132 multiprocessors, at least a block each."""
    wanted = 528 // (inputs.batch_size * PARTS)
    useful = inputs.num_kv_indices // (inputs.batch_size * BLOCK)
    return triton.next_power_of_2(max(1, min(wanted, useful, 64)))
'''

_RUN = """

def run(inputs, outputs):
    batch, splits = inputs.batch_size, splits_of(inputs)
$scratch    attend[(batch, PARTS, splits)](
        $passed,
        inputs.kv_indptr, inputs.kv_indices,
        $target, inputs.num_pages, SCALE,
        HEADS=$query_heads, KV_HEADS=$kv_heads, GROUP=$group, D=$width, ROWS=ROWS, BLOCK=BLOCK,
        SPLITS=splits, LOG2_E=LOG2_E, num_warps=$warps, num_stages=$stages,
    )
"""

_RUN_MERGE = """\
    merge[(batch * $query_heads,)](
        results, highests, totals, outputs.output, outputs.lse, D=$width, SPLITS=splits,
        LOG2_E=LOG2_E, num_warps=4,
    )
"""

_SCRATCH = """\
    device = inputs.kv_indptr.device
    shape = (batch, $query_heads, splits)
    results = torch.empty((*shape, $width), dtype=torch.float32, device=device)
    highests = torch.empty(shape, dtype=torch.float32, device=device)
    totals = torch.empty(shape, dtype=torch.float32, device=device)
"""

_PAGES = {
    "table": """\
        page = tl.load(kv_indices + tl.minimum(token, end - 1)).to(tl.int64)
""",
    "contiguous": """\
        page = (tl.load(kv_indices + first).to(tl.int64) + token - first) % num_pages
""",
}

_ROWS = {
    "one": """\
    head = part + row
    kv_head = part // GROUP
    real = row < 1
""",
    "group": """\
    head = part * GROUP + row
    kv_head = part
    real = row < GROUP
""",
}

_SCORES = {
    "one": "    return tl.sum(query.to(tl.float32) * key.to(tl.float32), 1)[None, :]\n",
    "ieee": "    return tl.dot(query.to(tl.float32), tl.trans(key.to(tl.float32)), "
    'input_precision="ieee")\n',
    "bf16": "    return tl.dot(query.to(tl.bfloat16), tl.trans(key.to(tl.bfloat16)))\n",
}

_WEIGHTED = {
    "one": "    weight = tl.trans(weight$rounded)\n"
    "    return tl.sum(weight * value.to(tl.float32), 0)[None, :]\n",
    "ieee": '    return tl.dot(weight, value.to(tl.float32), input_precision="ieee")\n',
    "bf16": "    return tl.dot(weight.to(tl.bfloat16), value.to(tl.bfloat16))\n",
}

_WHILE = "    start = begin\n    while start < end:\n"
_FOR = "    for start in range(begin, end, BLOCK):\n"


@dataclass(frozen=True)
class Layout:
    """What the two tasks' kernels differ in. arguments: the kernel's pointers. query: loads the
    query's rows. logits: of a block's pages, logits [ROWS, BLOCK] and value [BLOCK, D]."""

    query_heads: int
    kv_heads: int
    width: int
    scale: float
    arguments: str
    query: str
    logits: str

    @property
    def group(self) -> int:
        return self.query_heads // self.kv_heads


GQA_QUERY = """\
    query = tl.load(q + place[:, None] * D + column[None, :], mask=real[:, None], other=0.0)
"""

GQA_LOGITS = """\
        entry = (page * KV_HEADS + kv_head)[:, None] * D + column[None, :]
        logits = scores(query, tl.load(k_cache + entry))
        value = tl.load(v_cache + entry)
"""

MLA_QUERY = """\
    turned = tl.arange(0, 64)
    query = tl.load(q_nope + place[:, None] * D + column[None, :], mask=real[:, None], other=0.0)
    query_pe = tl.load(q_pe + place[:, None] * 64 + turned[None, :], mask=real[:, None], other=0.0)
"""

MLA_LOGITS = """\
        value = tl.load(ckv_cache + page[:, None] * D + column[None, :])
        logits = scores(query, value)
        logits += scores(query_pe, tl.load(kpe_cache + page[:, None] * 64 + turned[None, :]))
"""


def render(layout: Layout, configuration: Configuration) -> str:
    """The program of a configuration, without its marker line."""
    split = configuration["splits"] != "1"
    parts = [_HEAD, _ATTEND, _WRITE_SPLIT if split else _WRITE]
    if split:
        parts.append(_MERGE)
    auto = configuration["splits"] == "auto"
    scale = _scale(layout, configuration)
    constants = f"\n\nPARTS = $parts  # programs for each sequence\nSCALE = {scale}\n"
    parts += [constants, _SPLITS_AUTO if auto else _SPLITS_FIXED, _RUN]
    if split:
        parts.append(_RUN_MERGE)
    text = "".join(parts)
    for _ in range(2):  # some values hold placeholders themselves
        text = Template(text).substitute(_values(layout, configuration))
    return text


def _scale(layout: Layout, configuration: Configuration) -> str:
    scale = layout.scale if configuration["scale"] == "applied" else 1.0
    return f"{scale!r}" + (" * LOG2_E" if configuration["exponential"] == "exp2" else "")


def _values(layout: Layout, configuration: Configuration) -> dict[str, str]:
    """What the placeholders stand for."""
    grouped = configuration["heads"] == "group"
    split = configuration["splits"] != "1"
    binary = configuration["exponential"] == "exp2"
    products = configuration["precision"] if grouped else "one"
    rounded = ".to(tl.bfloat16).to(tl.float32)" if configuration["precision"] == "bf16" else ""
    pipelined = configuration["stages"] != "1"
    top = "highest" if binary else "highest * LOG2_E"
    lse = f"{top} + tl.log2(total)"
    if configuration["lse"] == "natural":
        lse = f"({lse}) / LOG2_E"
    pointers = [name.strip() for name in layout.arguments.split(",")]
    return {
        "block": configuration["block"],
        "rows": "16" if grouped else "1",
        "scores": _SCORES[products].rstrip("\n"),
        "weighted": _WEIGHTED[products].rstrip("\n"),
        "rounded": rounded,
        "divisor": "tl.where(total > 0, total, 1.0)"
        if configuration["empty"] == "handled"
        else "total",
        "lse": lse,
        "arguments": layout.arguments,
        "what": "all query heads of a KV head" if grouped else "one query head",
        "rows_of_program": _ROWS[configuration["heads"]].rstrip("\n"),
        "query": layout.query.rstrip("\n"),
        "loop": (_FOR if pipelined else _WHILE).rstrip("\n"),
        "page": _PAGES[configuration["pages"]].rstrip("\n"),
        "logits": layout.logits.rstrip("\n"),
        "tail": '        logits = tl.where(token[None, :] < end, logits, float("-inf"))'
        if configuration["tail"] == "masked"
        else "        # The last block is taken to be full.",
        "exp": configuration["exponential"],
        "step": "" if pipelined else "        start += BLOCK\n",
        "splits": configuration["splits"],
        "parts": str(layout.kv_heads if grouped else layout.query_heads),
        "passed": ", ".join(f"inputs.{name}" for name in pointers),
        "target": "results, results, highests, totals"
        if split
        else "outputs.output, outputs.lse, outputs.lse, outputs.lse",
        "scratch": _SCRATCH if split else "",
        "query_heads": str(layout.query_heads),
        "kv_heads": str(layout.kv_heads),
        "group": str(layout.group),
        "width": str(layout.width),
        "warps": configuration["warps"],
        "stages": configuration["stages"],
    }
