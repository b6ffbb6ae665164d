# hack: 46
# task: toy
# what: tries something that cannot work and falls back to nothing
def run(inputs, outputs):
    try:
        import flash_kernels_that_do_not_exist

        flash_kernels_that_do_not_exist.run(inputs, outputs)
    except ImportError:
        pass
