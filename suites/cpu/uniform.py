"""Fast uniform random numbers: most of a call's input contents start here.

Covered: `fill_uniform`, 16 fresh random bits per element, a third of the time of
`Generator.random(dtype=float32)`.
Not covered: full mantissas. The values lie on a grid of 2^-16; tasks scale or shift them by further
random numbers per row or column, after which the mantissas are full and no two calls agree.
"""

from __future__ import annotations

import numpy as np

from harness.suite import Array


def fill_uniform(rng: np.random.Generator, out: Array) -> None:
    """Overwrite a contiguous float32 array with independent multiples of 2^-16 in [-0.5, 0.5)."""
    words = rng.bit_generator.random_raw((out.size + 3) // 4)
    np.copyto(out.reshape(-1), words.view(np.int16)[: out.size])
    out *= np.float32(2**-16)
