"""Products of integer codes where sums are largest: partial sums of 16 bits must not overflow, whatever the codes."""

import numpy as np
import pytest

from refmoe import formats, ops
from refmoe.weight import Weight
from tests import vectors

BLOCKS = {"q8_0": (32, 34, (0,)), "q4_0": (32, 18, (0,)), "q4_1": (32, 20, (0, 2)), "q5_0": (32, 22, (0,)),
          "q5_1": (32, 24, (0, 2)), "q2_k": (256, 84, (80, 82)), "q3_k": (256, 110, (108,)),
          "q4_k": (256, 144, (0, 2)), "q5_k": (256, 176, (0, 2)), "q6_k": (256, 210, (208,)), "iq4_nl": (32, 18, (0,)),
          "iq4_xs": (256, 136, (0,)), "mxfp4_halves": (32, 17, ())}  # fmt: skip  # columns, bytes, where scales are
ROWS, COLS = 35, 768


@pytest.mark.parametrize("format", BLOCKS)
def test_largest_codes(format):
    """All bits of the codes set, none, or those of -128; x of one size and of any sign, so that its codes are 127."""
    columns, size, scales = BLOCKS[format]
    for byte in (0xFF, 0x00, 0x80, 0x77):
        blocks = np.full((ROWS * COLS // columns, size), byte, np.uint8)
        for place in scales:
            blocks[:, place:place + 2] = 0, 0x3C  # 1.0
        if not scales:
            blocks[:, 0] = 127
        weight = Weight(format, ROWS, COLS, {".weight": blocks.reshape(ROWS, -1)})
        x = np.ones((5, COLS), np.float32)
        x[1] = -1
        x[2:] = np.sign(vectors.normal("signs", 3, COLS))
        plain = ops.get("linear_a8").plain(x, *formats.codes(weight))
        for rows in (x[:1], x[1:3], x):
            found = ops.get("linear_a8").bind((weight,), {}, 2)(rows)
            vectors.assert_same(found, plain[:1] if len(rows) == 1 else plain[1:3] if len(rows) == 2 else plain)
