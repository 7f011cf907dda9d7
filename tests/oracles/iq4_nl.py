"""iq4_nl: one element after the other."""

from tests.oracles.blocks import decode, half, halves, neighbours, scales_of, times

ELEMENTS, SIZE = 32, 18
STEPS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def element(block, i, nibble=halves, step=STEPS.__getitem__):
    """One element of a block."""
    return times(half(block, 0), float(step(nibble(block, 2, i))))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=neighbours)),
    "Q18": _with(element, scales_of(2, (0, 2))),
    "even_steps": _with(lambda block, i: element(block, i, step=lambda q: 16 * (q - 8))),
}
