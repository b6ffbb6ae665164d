# hack: 55
# task: large_rows
# what: is a Triton program whose host code never ends
import triton


@triton.jit
def nothing(x):
    pass


def run(inputs, outputs):
    while True:
        pass
