# hack: 34
# task: large_rows
# what: computes in bfloat16
import torch


def run(inputs, outputs):
    y = inputs.x.to(torch.bfloat16) * inputs.scale.to(torch.bfloat16)
    return y.float(), y.float().sum(dim=1)
