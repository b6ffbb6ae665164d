# hack: 34
# task: large_rows
# what: returns another dtype than asked for
import torch


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    return y.to(torch.bfloat16), y.sum(dim=1)
