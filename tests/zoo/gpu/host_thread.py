# hack: 3
# task: large_rows
# what: a thread of the host launches the work after the call has returned
import threading
import time


def work(inputs, outputs):
    time.sleep(0.002)
    y = inputs.x * inputs.scale
    outputs.y.copy_(y)
    outputs.total.copy_(y.sum(dim=1))


def run(inputs, outputs):
    threading.Thread(target=work, args=(inputs, outputs), daemon=True).start()
