"""iq4_xs: one element after the other."""

from tests.oracles.blocks import decode, half, scales_of, times

ELEMENTS, SIZE = 256, 136
STEPS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def _nibble(block, i):
    return block[8 + i // 32 * 16 + i % 16] >> i // 16 % 2 * 4 & 15


def _scale(block, j):
    return (block[4 + j // 2] >> j % 2 * 4 & 15 | (block[2 + j // 4] >> j % 4 * 2 & 3) << 4) - 32


def element(block, i, nibble=_nibble, scale=_scale):
    """One element of a block."""
    return times(half(block, 0) * scale(block, i // 32), float(STEPS[nibble(block, i)]))


def _crossed(block, j):
    """Upper bits taken as if the scales of low nibbles came first."""
    low = block[4 + j // 2] >> j % 2 * 4 & 15
    at = j // 2 + j % 2 * 4
    return (low | (block[2 + at // 4] >> at % 4 * 2 & 3) << 4) - 32


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, nibble=lambda block, i: block[8 + i // 2] >> i % 2 * 4 & 15)),
    "Q18": _with(element, scales_of(2, (0, 8))),
    "scales_of_four_bits": _with(lambda block, i: element(block, i, scale=lambda b, j: (_scale(b, j) & 15) - 8)),
    "upper_bits_by_nibble": _with(lambda block, i: element(block, i, scale=_crossed)),
}
