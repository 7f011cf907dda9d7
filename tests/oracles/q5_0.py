"""q5_0: one element after the other."""

from tests.oracles.blocks import decode, half, halves, neighbours, scales_of, signed, times

ELEMENTS, SIZE = 32, 22


def element(block, i, nibble=halves, mean=lambda q: q - 16, fifth=lambda i: i):
    """One element of a block."""
    at = fifth(i)
    return times(half(block, 0), float(mean(nibble(block, 6, i) | (block[2 + at // 8] >> at % 8 & 1) << 4)))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=neighbours)),
    "Q07": _with(lambda block, i: element(block, i, mean=lambda q: signed(q, 5))),
    "Q18": _with(element, scales_of(2, (0, 2))),
    "fifth_bits_by_nibble": _with(lambda block, i: element(block, i, fifth=lambda i: i % 16 * 2 + i // 16)),
}
