# hack: honest
# task: large_rows
# what: two torch operations
import torch


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    return y, y.sum(dim=1)
