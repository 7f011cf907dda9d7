"""Vectors of the block types of GGUF files: every code, every scale, extreme and special scales, rows of blocks.

Bytes are literal or from the bits of counter.fill_uniform, with the scales put in their places.
"""

import numpy as np
from golden_formats import SEED, draft

from refmoe import formats
from refmoe.numerics import counter
from refmoe.numerics.codecs import f32_to_f16

HALVES = {"q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q2_k": [80, 82], "q3_k": [108],
          "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208], "iq4_nl": [0], "iq4_xs": [0],
          "mxfp4_halves": []}  # where binary16 numbers lie  # fmt: skip
SCALES = {"q2_k": (0, 16), "q3_k": (96, 108), "q4_k": (4, 16), "q5_k": (4, 16), "q6_k": (192, 208), "iq4_xs": (2, 8)}
IN_HALVES = "halves taken for neighbours, excess codes for two's complement"
EXTREME = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x3555, 0xC248]
SPECIAL = [0x7C00, 0xFC00, 0x7E00, 0x3C00]


def random_bytes(format, name, shape):
    """Random bytes, and where they come from."""
    stream = f"formats/{format}/{name}/weight"
    bits = counter.fill_uniform(SEED, counter.stream_of(stream), int(np.prod(shape))).view(np.uint32)
    return (bits >> 9 & 0xFF).astype(np.uint8).reshape(shape), \
        f"bits 9 to 16 of uniform(seed={SEED}, stream={stream!r}), then the binary16 numbers or exponents put in"


def put(blocks, at, codes):
    """Binary16 codes into their two bytes of each block."""
    codes = np.asarray(codes, np.uint16).reshape(blocks.shape[:-1])
    blocks[..., at], blocks[..., at + 1] = codes & 255, codes >> 8


def small(format, name, count):
    """Binary16 codes of ordinary scales, of both signs."""
    values = counter.fill_uniform(SEED, counter.stream_of(f"formats/{format}/{name}/scales"), count)
    return f32_to_f16(np.float32(0.03) * values + np.float32(0.001))


def blocks_of(format, name, rows, across):
    """Random blocks u8[rows, across, size] with ordinary scales."""
    size = formats.get(format).SIZE
    blocks, source = random_bytes(format, name, (rows, across, size))
    for n, at in enumerate(HALVES[format]):
        put(blocks, at, small(format, f"{name}/{n}", rows * across))
    if format == "mxfp4_halves":
        blocks[..., 0] = 110 + blocks[..., 0] % 20
    return blocks, source


def made(format, name, blocks, hunts, bugs, source):
    """The vector of blocks u8[rows, across, size]."""
    rows, across, _ = blocks.shape
    return draft(format, name, rows, across * formats.get(format).ELEMENTS, {".weight": blocks.reshape(rows, -1)}, {},
                 hunts, bugs, {".weight": source})  # fmt: skip


def bugs_of(format):
    """Bugs of the catalogue that a vector with distinct codes hunts."""
    found = {"Q06"} if format != "q8_0" else set()
    return found | ({"Q07"} if format in ("q4_0", "q5_0", "q8_0", "q3_k", "q6_k") else set())


def of_format(format):
    """All vectors of one format."""
    module = formats.get(format)
    blocks, source = blocks_of(format, "rows_of_blocks", 6, 2)
    yield made(format, "rows_of_blocks", blocks, "scales of another row or lane; " + IN_HALVES,
               bugs_of(format) | {"Q18"}, source)  # fmt: skip
    if format in SCALES:
        low, high = SCALES[format]
        blocks, source = blocks_of(format, "every_scale", 1, 8)
        count = 8 * (high - low)
        blocks[0, :, low:high] = (np.arange(count) * 67 % 256).astype(np.uint8).reshape(8, high - low)
        yield made(format, "every_scale", blocks, "packed scales and minima taken apart wrongly; " + IN_HALVES,
                   bugs_of(format), source)  # fmt: skip
    else:
        across = 256 // (module.SIZE - 2) if format == "q8_0" else 16
        blocks, source = blocks_of(format, "every_code", 1, across)
        code = np.arange(across * 32 if format == "q8_0" else 256, dtype=np.int64).astype(np.uint8)
        width = 32 if format == "q8_0" else 16
        blocks[0, :, -width:] = code.reshape(across, width)
        more = {"Q07", "Q08"} if format == "mxfp4_halves" else set()
        hunts = "every byte of codes once; " + IN_HALVES
        yield made(format, "every_code", blocks, hunts, bugs_of(format) | more, source)
    if format == "mxfp4_halves":
        blocks, source = blocks_of(format, "every_exponent", 1, 32)
        blocks[0, :, 0] = [*range(8), *range(120, 134), *range(246, 256)]
        hunts = "subnormal scales 0 and 1, no bias or two, overflow at 254 and 255"
        yield made(format, "every_exponent", blocks, hunts, {"Q08"}, source)
        return
    for name, codes in (("extreme_scales", EXTREME), ("special_scales", SPECIAL)):
        blocks, source = blocks_of(format, name, 1, len(codes))
        for n, at in enumerate(HALVES[format]):
            put(blocks, at, np.roll(codes, 5 * n))
        hunts = "zero of both signs, subnormal and largest scales" if name == "extreme_scales" else "inf and nan scales"
        yield made(format, name, blocks, hunts, (), source)


def drafts():
    """All vectors of these formats."""
    return [vector for format in HALVES for vector in of_format(format)]
