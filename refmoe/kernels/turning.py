"""turning - matrices of GPTQ and AWQ brought into rows, once, when they are loaded: format int_packed.

Both formats store the words of all rows side by side, column after column, so that a product would walk through memory
in long steps; from rows it runs two to four times faster. No number changes, and no byte is added.
"""

from collections.abc import Callable

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.vec import address
from refmoe.numerics.vec_codes import ior, isplat, load_some_ints, mask, shift_left, shift_right, store_ints
from refmoe.weight import Weight

TILE = 16  # rows and columns of what stays in the first-level cache
AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # nibble of each of eight rows


@kernel
def turn(source, target):
    """target[j, i] = source[i, j], tile by tile."""
    rows, cols = source.shape
    for first in range(0, rows, TILE):
        last = min(first + TILE, rows)
        for j in range(cols):
            for i in range(first, last):
                target[j, i] = source[i, j]


@kernel
def turn_awq(source, target):
    """Words u32[cols, rows / 8] of eight rows of one column -> u32[rows, ceil(cols / 8)] of eight columns of a row."""
    cols, octets = source.shape
    words, tile = target.shape[1], np.empty((8, TILE, TILE), np.uint32)
    for low in range(0, octets, TILE):
        lanes = min(TILE, octets - low)
        for first in range(0, words, TILE):
            last = min(first + TILE, words)
            for word in range(first, last):
                there, step = address(source) + (8 * word * octets + low) * 4, octets * 4
                for i in range(8):
                    found, shift = isplat(np.int32(0)), 4 * AWQ_ORDER[i]
                    for n in range(min(8, cols - 8 * word)):
                        line = load_some_ints(there + n * step, lanes)
                        found = ior(found, shift_left(mask(shift_right(line, shift), 15), 4 * n))
                    store_ints(address(tile) + (i * TILE + word - first) * 64, found)
            for i in range(8):
                for lane in range(lanes):
                    for word in range(first, last):
                        target[8 * (low + lane) + i, word] = tile[i, word - first, lane]


@kernel
def turn_zeros(source, target, bits, offset, order):
    """Zero points: words u32[groups, words] -> u32[words, groups]: field n is the stored order[n], plus `offset`."""
    most, each = np.uint32((1 << bits) - 1), 32 // bits
    for g in range(source.shape[0]):
        for j in range(source.shape[1]):
            word = np.uint32(0)
            for n in range(each):
                field = ((source[g, j] >> np.uint32(bits * order[n])) + np.uint32(offset)) & most
                word |= field << np.uint32(bits * n)
            target[j, g] = word


def packed(weight: Weight, in_place: bool, bits: int, turn_codes: Callable[[np.ndarray, np.ndarray], None],
           zeros: tuple[int, np.ndarray] | None) -> Weight:  # fmt: skip
    """A weight of GPTQ or AWQ whose columns have no order as one of int_packed, in new memory or in that of its parts.

    `turn_codes` turns its words. zeros: what is added to the stored zero points, and the places of their fields; or
    None, where the zero point is half the range.
    """
    rows, group, dtype = weight.rows, weight.params["group"], weight.params[".scales"]
    groups, kind = -(-weight.cols // (group or weight.cols)), np.uint32 if dtype == "F32" else np.uint16
    words = -(-weight.cols * bits // 32), -(-rows * bits // 32)  # of a row of codes, of a column of zero points
    stored = {name: part.view(kind if name == ".scales" else np.uint32) for name, part in weight.parts.items()}
    codes, scales = np.empty((rows, words[0]), np.uint32), np.empty((rows, groups), kind)
    turn_codes(stored[".qweight"].reshape(-1, rows if turn_codes is turn else rows // 8), codes)
    turn(stored[".scales"].reshape(groups, rows), scales)
    made = {".qweight": (".weight_packed", codes), ".scales": (".weight_scale", scales)}
    if zeros is not None:
        points = np.empty((words[1], groups), np.uint32)
        turn_zeros(stored[".qzeros"].reshape(groups, -1), points, bits, *zeros)
        made[".qzeros"] = ".weight_zero_point", points
    parts = {}
    for name, (suffix, new) in made.items():
        parts[suffix] = new.reshape(-1).view(np.uint8)
        if in_place:
            weight.parts[name][:] = parts[suffix]
            parts[suffix] = weight.parts[name]
    params = {"bits": bits, "group": group, "symmetric": int(zeros is None), ".weight_scale": dtype}
    return Weight("int_packed", rows, weight.cols, parts, params)
