"""q2_k: one element after the other."""

from tests.oracles.blocks import decode, half, scales_of, sum_of, two

ELEMENTS, SIZE = 256, 84


def _code(block, i):
    return block[16 + i // 128 * 32 + i % 32] >> i // 32 % 4 * 2 & 3


def element(block, i, code=_code, swap=False, sign=-1):
    """One element of a block."""
    scale, minimum = block[i // 16] & 15, block[i // 16] >> 4
    if swap:
        scale, minimum = minimum, scale
    return sum_of(half(block, 80) * scale * code(block, i), sign * half(block, 82) * minimum)


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, code=lambda block, i: two(block, 16, i))),
    "Q18": _with(element, scales_of(2, (0, 16), (80, 84))),
    "minimum_added": _with(lambda block, i: element(block, i, sign=1)),
    "scale_and_minimum_exchanged": _with(lambda block, i: element(block, i, swap=True)),
}
