"""q5_1: one element after the other."""

from tests.oracles.blocks import decode, half, halves, neighbours, scales_of, sum_of

ELEMENTS, SIZE = 32, 24


def element(block, i, nibble=halves, minimum=lambda m: m, fifth=lambda i: i):
    """One element of a block."""
    at = fifth(i)
    q = nibble(block, 8, i) | (block[4 + at // 8] >> at % 8 & 1) << 4
    return sum_of(half(block, 0) * q, minimum(half(block, 2)))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=neighbours)),
    "Q18": _with(element, scales_of(2, (0, 4))),
    "fifth_bits_by_nibble": _with(lambda block, i: element(block, i, fifth=lambda i: i % 16 * 2 + i // 16)),
    "minimum_subtracted": _with(lambda block, i: element(block, i, minimum=lambda m: -m)),
}
