# hack: honest
# task: large_rows
# what: keeps scratch memory, not contents, between calls
import torch

scratch = {}


def run(inputs, outputs):
    key = (inputs.rows, inputs.n)
    if key not in scratch:
        scratch[key] = torch.empty_like(inputs.x)
    y = torch.mul(inputs.x, inputs.scale, out=scratch[key])
    outputs.y.copy_(y)
    outputs.total.copy_(y.sum(dim=1))
