"""Quantised blocks along a row (the types of GGUF files), one element after the other, from the layout texts.

A format's oracle has element(block, i), where `block` is the bytes of one block as Python integers; `decode` applies
it. Numbers are Python floats that are exact; `times` and `sum_of` round once to binary32.
"""

from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import rn32
from tests.oracles.formats import ieee, times

__all__ = ["bits6", "decode", "half", "halves", "neighbours", "scales_of", "signed", "sixteen", "sum_of", "times",
           "two"]  # fmt: skip


def decode(cols, weight, elements, size, element, change=None):
    """f32[rows, cols]. change(blocks, r, b): the block to take instead of blocks[r][b], for mutants."""
    blocks = [[[int(byte) for byte in row[b:b + size]] for b in range(0, len(row), size)] for row in weight]
    change = change or (lambda blocks, r, b: blocks[r][b])
    with np.errstate(all="ignore"):
        return np.array([[element(change(blocks, r, i // elements), i % elements) for i in range(cols)]
                         for r in range(len(blocks))], np.float32)  # fmt: skip


def scales_of(first_rows, *ranges):
    """A mutant's `change`: from the third row of every four on, the scale bytes are those of the first row."""
    def change(blocks, r, b):
        block = list(blocks[r][b])
        if r % 4 >= first_rows:
            for low, high in ranges:
                block[low:high] = blocks[r - r % 4][b][low:high]
        return block

    return change


def half(block, at):
    """The binary16 number at byte `at`."""
    return ieee(block[at] | block[at + 1] << 8, 5, 10)


def halves(block, at, i):
    """Nibble of element i of 32: low nibbles first, then high ones."""
    return block[at + i % 16] >> (4 if i >= 16 else 0) & 15


def neighbours(block, at, i):
    """The mutant's: both nibbles of a byte are neighbours."""
    return block[at + i // 2] >> (i % 2 * 4) & 15


def two(block, at, j):
    """The j-th two bits of a row of bytes."""
    return block[at + j // 4] >> (j % 4 * 2) & 3


def signed(value, width):
    """An unsigned number of `width` bits as two's complement."""
    return value - (1 << width) if value >> (width - 1) else value


def bits6(block, at, j):
    """(scale j, minimum j) of the twelve bytes of Q4_K and Q5_K."""
    if j < 4:
        return block[at + j] & 63, block[at + 4 + j] & 63
    top = block[at + 4 + j]
    return top & 15 | (block[at + j - 4] >> 6) << 4, top >> 4 | (block[at + j] >> 6) << 4


def sixteen(block, at, j):
    """Scale j of the twelve bytes of Q3_K."""
    return block[at + j % 8] >> (4 if j >= 8 else 0) & 15 | two(block, at + 8 + j % 4, j // 4) << 4


def sum_of(a, b):
    """RN32(a + b)."""
    plain = a + b
    if plain != plain or abs(plain) == float("inf") or (a == 0 and b == 0) or a == -b:
        return np.float32(plain)
    return np.float32(rn32(Fraction(a) + Fraction(b)))
