# hack: 34
# task: large_rows
# what: adds up in float16
import torch


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    return y, y.half().sum(dim=1, dtype=torch.float16).float()
