"""Triton of the TriMul designs: host code, and the assembly of whole programs.

Covered: `render`, the program of every configuration, without its marker line. A program launches
module-level kernels from `run(inputs, outputs)`, takes scratch memory from torch.empty, branches on
sizes only, and runs on a GPU or, with TRITON_INTERPRET=1, on a CPU.
Not covered: the kernels (trimul_kernels.py); which configurations exist and what is expected of
them (trimul_space.py).
"""

from __future__ import annotations

import re
from string import Template

from harness.design_space import Configuration
from suites.gpumode import trimul_kernels as kernels

_RUN = '''

def scratch(inputs, dtype):
    """[batch, pair, feature]$where."""
    pairs = inputs.n * inputs.n
$allocation

def run(inputs, outputs):
    batch, n, dim, hidden = inputs.batch, inputs.n, inputs.dim, inputs.hidden
    pairs = n * n
    flat_grid = ($blocks(batch * pairs, ROWS),)
    pair_grid = ($blocks(pairs, ROWS), batch)
$weights
    left, right = scratch(inputs, $factor), scratch(inputs, $factor)
    gate = torch.empty((batch * pairs, hidden), dtype=STORED, device=inputs.x.device)
'''

_LAYER_NORM_CALL = """
    y = torch.empty((batch * pairs, dim), dtype=STORED, device=inputs.x.device)
    layer_norm[flat_grid](
        inputs.x, inputs.norm_weight, inputs.norm_bias, y, batch * pairs, D=dim, ROWS=ROWS,
        BLOCK_K=BLOCK_K, num_warps=$warps,
    )
"""

_MATMUL_CALL = """\
    matmul[(*flat_grid, {features} // COLUMNS)](
        {a}, {weight}, {y}, batch * pairs, K={k}, FEATURES={features}, ROWS=ROWS,
        COLUMNS=COLUMNS, BLOCK_K=BLOCK_K, num_warps=$warps, num_stages=2,
    )
"""

_SEPARATE_CALLS = """\
    projected, opened = torch.empty_like(gate), torch.empty_like(gate)
    for weight, gate_weight, factor, masked in (
        (left_proj, left_gate, left, $mask_left),
        (right_proj, right_gate, right, $mask_right),
    ):
        for matrix, result in ((weight, projected), (gate_weight, opened)):
            matmul[(*flat_grid, hidden // COLUMNS)](
                y, matrix, result, batch * pairs, K=dim, FEATURES=hidden, ROWS=ROWS,
                COLUMNS=COLUMNS, BLOCK_K=BLOCK_K, num_warps=$warps, num_stages=2,
            )
        gate_factor[pair_grid](
            projected, opened, inputs.mask, factor, pairs, *factor.stride(), H=hidden, ROWS=ROWS,
            MASKED=masked, num_warps=$warps,
        )
"""

_GATED_CALLS = """\
    for weight, gate_weight, factor, masked in (
        (left_proj, left_gate, left, $mask_left),
        (right_proj, right_gate, right, $mask_right),
    ):
        gated_projection[pair_grid](
            y, weight, gate_weight, inputs.mask, factor, pairs, *factor.stride(), D=dim, H=hidden,
            ROWS=ROWS, BLOCK_K=BLOCK_K, MASKED=masked, num_warps=$warps, num_stages=2,
        )
"""

_FUSED_CALL = """
    fused_projections[pair_grid](
        inputs.x, inputs.norm_weight, inputs.norm_bias, left_proj, left_gate, right_proj,
        right_gate, out_gate, inputs.mask, left, right, gate, pairs, *left.stride(), D=dim,
        H=hidden, ROWS=ROWS, BLOCK_K=BLOCK_K, MASK_LEFT=$mask_left, MASK_RIGHT=$mask_right,
        num_warps=$warps, num_stages=2,
    )
"""

_OWN_CALL = """
    product = scratch(inputs, STORED)
    tiles = $blocks(n, TILE)
    triangle_product[(tiles * tiles, batch * hidden)](
        left, right, product, *left.stride(), *product.stride(), N=n, H=hidden, TILE=TILE,
        BLOCK_K=BLOCK_K, num_warps=$warps, num_stages=$stages,
    )
"""

_BMM_CALL = """
    left = left$cast.transpose(1, 2).view(batch, hidden, n, n)
    right = right$cast.transpose(1, 2).view(batch, hidden, n, n)
    product = torch.matmul(left, right.transpose(2, 3))
    product = product.view(batch, hidden, pairs).transpose(1, 2)
"""

_SEPARATE_OUTPUT_CALLS = """
    z = torch.empty_like(gate)
    output_norm[pair_grid](
        product, gate, inputs.to_out_norm_weight, inputs.to_out_norm_bias, z, pairs,
        *product.stride(), H=hidden, ROWS=ROWS, num_warps=$warps,
    )
"""

_FUSED_OUTPUT_CALL = """
    fused_output[pair_grid](
        product, gate, inputs.to_out_norm_weight, inputs.to_out_norm_bias, to_out, outputs.out,
        pairs, *product.stride(), D=dim, H=hidden, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=$warps,
        num_stages=2,
    )
"""

_MASKS = re.compile(r", mask=valid\w*(, other=0\.0)?")
_MASK_LINES = re.compile(r"^ +valid\w* = .*\n", re.MULTILINE)

_WHOLE = """

def whole(count, size):
    return count // size
"""

_LAST = """\
    return torch.empty((inputs.batch, pairs, inputs.hidden), dtype=dtype, device=inputs.x.device)
"""

_FIRST = """\
    memory = torch.empty((inputs.batch, inputs.hidden, pairs), dtype=dtype, device=inputs.x.device)
    return memory.transpose(1, 2)
"""

_WEIGHTS = """\
    left_proj, left_gate = inputs.left_proj, inputs.left_gate
    right_proj, right_gate = inputs.right_proj, inputs.right_gate
    out_gate, to_out = inputs.out_gate, inputs.to_out
"""

_PACKED_WEIGHTS = """\
    matrices = (
        inputs.left_proj, inputs.left_gate, inputs.right_proj, inputs.right_gate, inputs.out_gate
    )
    left_proj, left_gate, right_proj, right_gate, out_gate = torch.stack(matrices).to(STORED)
    to_out = inputs.to_out.to(STORED)
"""


def render(configuration: Configuration) -> str:
    """The program of a configuration, without its marker line."""
    text = Template("".join(_parts(configuration))).substitute(_values(configuration))
    if configuration["edges"] == "ignored":
        text = _MASK_LINES.sub("", _MASKS.sub("", text)).replace("valid_rows, ", "")
    return text


def _parts(configuration: Configuration) -> list[str]:
    """The kernels that a configuration needs, then its host code."""
    projections = configuration["projections"]
    separate, fused = projections == "separate", projections == "fused"
    own, output = configuration["product"] == "own", configuration["output"] == "fused"
    normalised = kernels.NORMALISED if fused else ""
    parts = [kernels.HEAD, kernels.STATISTICS]
    if not fused:
        parts.append(kernels.LAYER_NORM)
    if not (fused and output):
        parts.append(kernels.MATMUL)
    if separate:
        parts.append(kernels.GATE_FACTOR)
    else:
        parts.append(kernels.GATED_FACTOR.replace("$normalised", normalised))
        parts.append(
            kernels.FUSED_PROJECTIONS.replace("$normalised", normalised)
            if fused
            else kernels.GATED_PROJECTION
        )
    if own:
        parts.append(kernels.TRIANGLE_PRODUCT)
    parts += [kernels.GATED_NORM, kernels.FUSED_OUTPUT if output else kernels.OUTPUT_NORM]
    if configuration["edges"] == "ignored":
        parts.append(_WHOLE)
    parts.append(_RUN)
    if fused:
        parts.append(_FUSED_CALL)
    else:
        gate = _MATMUL_CALL.format(a="y", weight="out_gate", y="gate", k="dim", features="hidden")
        parts += [_LAYER_NORM_CALL, _SEPARATE_CALLS if separate else _GATED_CALLS, gate]
    parts.append(_OWN_CALL if own else _BMM_CALL)
    if output:
        parts.append(_FUSED_OUTPUT_CALL)
    else:
        out = _MATMUL_CALL.format(
            a="z", weight="to_out", y="outputs.out", k="hidden", features="dim"
        )
        parts += [_SEPARATE_OUTPUT_CALLS, out]
    return parts


def _values(configuration: Configuration) -> dict[str, str]:
    """What the placeholders stand for."""
    precision = configuration["precision"]
    fp8 = precision == "fp8"
    operand = {"ieee": "float32", "tf32": "float32", "bf16": "bfloat16"}.get(precision, "float16")
    half = configuration["storage"] == "half"
    half_type = "bfloat16" if precision == "bf16" else "float16"
    first = configuration["layout"] == "first"
    ignored = configuration["edges"] == "ignored"
    fused = configuration["projections"] == "fused"
    return {
        "rows": configuration["rows"],
        "tile": configuration["tile"],
        "warps": configuration["warps"],
        "stages": configuration["stages"],
        "block_k": "32" if operand == "float32" else "64",
        "operand": operand,
        "input_precision": f', input_precision="{precision}"' if operand == "float32" else "",
        "stored": half_type if half else "float32",
        "factor": "torch.float8_e4m3fn" if fp8 else "STORED",
        "cast": ".to(torch.float16)" if fp8 else "",
        "product_dot": f"{'tl.' if fp8 else ''}dot(a, tl.trans(c), total)",
        "source": "x, mean, scale, norm_weight, norm_bias" if fused else "y",
        "tensor": "x" if fused else "y",
        "mask_left": str(configuration["mask"] != "skip"),
        "mask_right": str(configuration["mask"] == "both"),
        "where": ", one plane per feature" if first else ", features side by side",
        "allocation": _FIRST if first else _LAST,
        "weights": _PACKED_WEIGHTS if half else _WEIGHTS,
        "blocks": "whole" if ignored else "triton.cdiv",
        "tiles": "N // TILE" if ignored else "tl.cdiv(N, TILE)",
        "depth": "N // BLOCK_K * BLOCK_K" if ignored else "N",
    }
