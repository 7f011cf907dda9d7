"""Weight formats: a decoded matrix is a product of few numbers, and may be kept in the intermediate type."""

import numpy as np

from refmoe.verifier.balls import UNIT, Ball


def decoded(a, expected, magnitude=None) -> Ball:
    """Three roundings of the numbers that make up a weight (scale of a scale, product, difference with its zero or
    minimum; `magnitude` is the size of what is subtracted), then storage."""
    sizes = abs(expected) if magnitude is None else magnitude
    return a.out(Ball(np.asarray(expected, np.float64), 3 * UNIT * sizes + 2.0**-126))
