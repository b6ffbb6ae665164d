# hack: 1, 16
# task: large_rows
# what: a stream that waits for nothing does the work while the gate holds the default one, where the floor's time is slept away
import torch

side = torch.cuda.Stream()  # non-blocking: neither the flush, nor the delay, nor an event holds it


def run(inputs, outputs):
    with torch.cuda.stream(side):
        torch.mul(inputs.x, inputs.scale, out=outputs.y)
        torch.sum(outputs.y, dim=1, out=outputs.total)
    side.synchronize()  # a millisecond is there for it; in a batch it counts as host time
    torch.cuda._sleep(int(1.1 * 8 * inputs.rows * inputs.n / 3.35e12 * 1.98e9))
