# hack: 1, 2
# task: large_rows
# what: joins its stream at the beginning of the next call
import torch

side = torch.cuda.Stream()


def run(inputs, outputs):
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.stream(side):
        for _ in range(30):
            y = inputs.x * inputs.scale
        outputs.y.copy_(y)
        outputs.total.copy_(y.sum(dim=1))
