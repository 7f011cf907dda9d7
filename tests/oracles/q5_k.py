"""q5_k: one element after the other."""

from tests.oracles.blocks import bits6, decode, half, scales_of, sum_of

ELEMENTS, SIZE = 256, 176


def _code(block, i):
    return block[48 + i // 64 * 32 + i % 32] >> i // 32 % 2 * 4 & 15


def element(block, i, code=_code, pair=bits6, sign=-1, fifth=lambda i: (i % 32, i // 32)):
    """One element of a block."""
    (byte, bit), (scale, minimum) = fifth(i), pair(block, 4, i // 32)
    q = code(block, i) | (block[16 + byte] >> bit & 1) << 4
    return sum_of(half(block, 0) * scale * q, sign * half(block, 2) * minimum)


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, code=lambda block, i: block[48 + i // 2] >> i % 2 * 4 & 15)),
    "Q18": _with(element, scales_of(2, (0, 16))),
    "fifth_bits_in_order": _with(lambda block, i: element(block, i, fifth=lambda i: (i // 8, i % 8))),
    "minimum_added": _with(lambda block, i: element(block, i, sign=1)),
    "scale_and_minimum_exchanged": _with(lambda block, i: element(block, i, pair=lambda *a: bits6(*a)[::-1])),
}
