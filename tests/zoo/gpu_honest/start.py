# hack: honest
# task: large_rows
# what: the starting program, in Triton
import torch
import triton
import triton.language as tl


@triton.jit
def scale_rows(x, scale, y, total, n, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)
    values = tl.load(x + row * n + columns, mask=columns < n, other=0.0)
    factors = tl.load(scale + columns, mask=columns < n, other=0.0)
    tl.store(y + row * n + columns, values * factors, mask=columns < n)
    tl.store(total + row, tl.sum(values * factors, axis=0))


def run(inputs, outputs):
    columns = triton.next_power_of_2(inputs.n)
    scale_rows[(inputs.rows,)](
        inputs.x, inputs.scale, outputs.y, outputs.total, inputs.n, columns
    )
