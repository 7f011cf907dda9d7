"""q4_1: one element after the other."""

from tests.oracles.blocks import decode, half, halves, neighbours, scales_of, sum_of

ELEMENTS, SIZE = 32, 20


def element(block, i, nibble=halves, minimum=lambda m: m):
    """One element of a block."""
    return sum_of(half(block, 0) * nibble(block, 4, i), minimum(half(block, 2)))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=neighbours)),
    "Q18": _with(element, scales_of(2, (0, 4))),
    "minimum_subtracted": _with(lambda block, i: element(block, i, minimum=lambda m: -m)),
}
