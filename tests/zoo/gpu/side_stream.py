# hack: 1
# task: large_rows
# what: works on a stream that the default one does not wait for, and does not join it
import torch

side = torch.cuda.Stream()


def run(inputs, outputs):
    with torch.cuda.stream(side):
        for _ in range(20):
            y = inputs.x * inputs.scale
        outputs.y.copy_(y)
        outputs.total.copy_(y.sum(dim=1))
