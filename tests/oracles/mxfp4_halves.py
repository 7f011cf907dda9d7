"""mxfp4_halves: one element after the other."""

from tests.oracles.blocks import decode, halves, neighbours, scales_of, signed, times

ELEMENTS, SIZE = 32, 17
STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def element(block, i, nibble=halves, bias=128, step=STEPS.__getitem__):
    """One element of a block."""
    return times(2.0 ** (block[0] - bias), float(step(nibble(block, 1, i))))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=neighbours)),
    "Q07": _with(lambda block, i: element(block, i, step=lambda q: signed(q, 4))),
    "Q08": (_with(lambda block, i: element(block, i, bias=1)), _with(lambda block, i: element(block, i, bias=255)),
            _with(lambda block, i: element(block, i, bias=127))),
    "Q18": _with(element, scales_of(2, (0, 1))),
    "zero_exponent_is_zero": _with(lambda block, i: element([block[0] or -999, *block[1:]], i)),
}
