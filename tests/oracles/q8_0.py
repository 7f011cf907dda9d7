"""q8_0: one element after the other."""

from tests.oracles.blocks import decode, half, scales_of, signed, times

ELEMENTS, SIZE = 32, 34


def element(block, i, mean=lambda q: signed(q, 8)):
    """One element of a block."""
    return times(half(block, 0), float(mean(block[2 + i])))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q07": _with(lambda block, i: element(block, i, mean=lambda q: q - 128)),
    "Q18": _with(element, scales_of(2, (0, 2))),
}
