# hack: 2
# task: large_rows
# what: writes y from another stream, half a millisecond after the call
import torch

side = torch.cuda.Stream()


def run(inputs, outputs):
    y = inputs.x * inputs.scale
    outputs.total.copy_(y.sum(dim=1))
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(1_000_000)
        outputs.y.copy_(y)
