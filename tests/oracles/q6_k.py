"""q6_k: one element after the other."""

from tests.oracles.blocks import decode, half, scales_of, signed, times, two

ELEMENTS, SIZE = 256, 210


def _low(block, i):
    return block[i // 128 * 64 + i % 64] >> i // 64 % 2 * 4 & 15


def _high(block, i):
    return block[128 + i // 128 * 32 + i % 32] >> i // 32 % 4 * 2 & 3


def element(block, i, low=_low, high=_high, mean=lambda q: q - 32, scale=lambda s: signed(s, 8)):
    """One element of a block."""
    return times(half(block, 208) * scale(block[192 + i // 16]), float(mean(low(block, i) | high(block, i) << 4)))


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, low=lambda block, i: block[i // 2] >> i % 2 * 4 & 15)),
    "Q07": _with(lambda block, i: element(block, i, mean=lambda q: signed(q, 6))),
    "Q18": _with(element, scales_of(2, (192, 210))),
    "high_bits_in_order": _with(lambda block, i: element(block, i, high=lambda block, i: two(block, 128, i))),
    "unsigned_scales": _with(lambda block, i: element(block, i, scale=float)),
}
