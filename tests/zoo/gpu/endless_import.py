# hack: 55
# task: large_rows
# what: computes for ever when it is loaded
while True:
    pass


def run(inputs, outputs):
    pass
