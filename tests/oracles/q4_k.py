"""q4_k: one element after the other."""

from tests.oracles.blocks import bits6, decode, half, scales_of, sum_of

ELEMENTS, SIZE = 256, 144


def _code(block, i):
    return block[16 + i // 64 * 32 + i % 32] >> i // 32 % 2 * 4 & 15


def element(block, i, code=_code, pair=bits6, sign=-1):
    """One element of a block."""
    scale, minimum = pair(block, 4, i // 32)
    return sum_of(half(block, 0) * scale * code(block, i), sign * half(block, 2) * minimum)


def _packed(block, at, j):
    """Six bits as if they followed each other, scales first."""
    whole = int.from_bytes(bytes(block[at:at + 12]), "little")
    return whole >> 6 * j & 63, whole >> 48 + 6 * j & 63


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, code=lambda block, i: block[16 + i // 2] >> i % 2 * 4 & 15)),
    "Q18": _with(element, scales_of(2, (0, 16))),
    "minimum_added": _with(lambda block, i: element(block, i, sign=1)),
    "scale_and_minimum_exchanged": _with(lambda block, i: element(block, i, pair=lambda *a: bits6(*a)[::-1])),
    "scales_one_after_the_other": _with(lambda block, i: element(block, i, pair=_packed)),
}
