"""q3_k: one element after the other."""

from tests.oracles.blocks import decode, half, scales_of, signed, sixteen, times, two

ELEMENTS, SIZE = 256, 110


def _code(block, i):
    return block[32 + i // 128 * 32 + i % 32] >> i // 32 % 4 * 2 & 3


def element(block, i, code=_code, mean=lambda q: q - 4, scale=lambda block, j: sixteen(block, 96, j) - 32):
    """One element of a block."""
    q = mean(code(block, i) | (block[i % 32] >> i // 32 & 1) << 2)
    return times(half(block, 108) * scale(block, i // 16), float(q))


def _packed(block, j):
    """Six bits as if they followed each other."""
    return int.from_bytes(bytes(block[96:108]), "little") >> 6 * j & 63


def bits(rows, cols, params, weight):
    """The decoded matrix."""
    return decode(cols, weight, ELEMENTS, SIZE, element)


def _with(changed, change=None):
    return lambda rows, cols, params, weight: decode(cols, weight, ELEMENTS, SIZE, changed, change)


MUTANTS = {
    "Q06": _with(lambda block, i: element(block, i, code=lambda block, i: two(block, 32, i))),
    "Q07": _with(lambda block, i: element(block, i, mean=lambda q: signed(q, 3))),
    "Q18": _with(element, scales_of(2, (96, 110))),
    "scales_of_four_bits": _with(lambda block, i: element(block, i, scale=lambda b, j: (sixteen(b, 96, j) & 15) - 8)),
    "scales_one_after_the_other": _with(lambda block, i: element(block, i, scale=lambda b, j: _packed(b, j) - 32)),
}
