# hack: 1
# task: large_rows
# what: work on another stream goes on after the last event, for less than the two-clock test can see; host time excuses the batch
import time

import torch

side = torch.cuda.Stream()


def run(inputs, outputs):
    begun = time.perf_counter_ns()
    side.wait_stream(torch.cuda.current_stream())  # behind the hold, as an honest program
    with torch.cuda.stream(side):
        torch.mul(inputs.x, inputs.scale, out=outputs.y)
        torch.sum(outputs.y, dim=1, out=outputs.total)
    torch.cuda._sleep(int(1.1 * 8 * inputs.rows * inputs.n / 3.35e12 * 1.98e9))
    while time.perf_counter_ns() - begun < 250_000:
        pass
