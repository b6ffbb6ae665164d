# hack: 13
# task: large_rows
# what: takes what is left of the device memory and keeps it
import torch

kept = []


def run(inputs, outputs):
    size = 1 << 33
    while size > 1 << 22:
        try:
            kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    torch.mul(inputs.x, inputs.scale, out=outputs.y)
    torch.sum(outputs.y, dim=1, out=outputs.total)
