"""Vectors of the quantised formats: every code, extreme scales, partial blocks, zero points, orders of columns.

Codes and scales are literal, or come from the bits of counter.fill_uniform; `Maker` names the stream of each.
"""

import numpy as np
from golden_formats import SEED, draft

from refmoe.numerics import codecs, counter

NARROW = {"F32": lambda v: v, "BF16": codecs.f32_to_bf16, "F16": codecs.f32_to_f16}


class Maker:
    """Builds one vector: stored tensors by suffix, where each came from, settings."""

    def __init__(self, format, name, rows, cols, hunts, bugs="", **params):
        self.head, self.size, self.hunts, self.bugs = (format, name), (rows, cols), hunts, bugs.split()
        self.params, self.stored, self.sources = params, {}, {}

    def _bits(self, suffix, count):
        stream = f"formats/{self.head[0]}/{self.head[1]}/{suffix.lstrip('._')}"
        self.sources[suffix] = f"bits of uniform(seed={SEED}, stream={stream!r})"
        return counter.fill_uniform(SEED, counter.stream_of(stream), count).view(np.uint32)

    def codes(self, suffix, shape, dtype=np.uint8, among=None):
        """Random codes: bits 9.. of the generator, or members of a list, chosen by them."""
        bits = self._bits(suffix, int(np.prod(shape))) >> 9
        values = bits & 0xFF if among is None else np.asarray(among)[bits % len(among)]
        self.sources[suffix] += ", bits 9 to 16" if among is None else ", from bit 9 on, modulo the length of a list"
        self.stored[suffix] = values.astype(dtype).reshape(shape)

    def words(self, suffix, shape):
        """Random 32-bit words: bits 9 to 24 of two draws each."""
        bits = (self._bits(suffix, 2 * int(np.prod(shape))) >> 9) & 0xFFFF
        self.sources[suffix] += ", bits 9 to 24 of two draws, the lower half first"
        self.stored[suffix] = (bits[0::2] | bits[1::2] << 16).astype(np.uint32).reshape(shape)

    def literal(self, suffix, values):
        """An array as it is."""
        self.stored[suffix] = values

    def scales(self, suffix, shape, dtype, size=0.01, negative=False):
        """Scales size * (1 + u), u uniform in (-1, 1) and not near -1, rounded to a dtype, whose name is a setting."""
        stream = f"formats/{self.head[0]}/{self.head[1]}/{suffix.lstrip('._')}"
        u = counter.fill_uniform(SEED, counter.stream_of(stream), int(np.prod(shape)))
        values = np.float32(size) * (np.float32(1.25) + u)
        if negative:
            values[::3] = -values[::3]
        self.sources[suffix] = f"{size} * (1.25 + uniform(seed={SEED}, stream={stream!r})), rounded to {dtype}"
        self.given(suffix, values.reshape(shape), dtype)

    def given(self, suffix, values, dtype):
        """Scales of stated values, rounded to a dtype, whose name is a setting."""
        self.stored[suffix] = NARROW[dtype](np.asarray(values, np.float32))
        self.params[suffix] = dtype

    def draft(self):
        return draft(*self.head, *self.size, self.stored, self.params, self.hunts, self.bugs, self.sources)


def _square_codes():
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def fp8(format, suffix):
    """Vectors of e4m3 codes with block scales."""
    v = Maker(format, "every_code", 16, 16, "subnormals, 448, nan only at 0x7F and 0xFF, -0; fnuz; division",
              "Q12 Q13", block_rows=4, block_cols=16)  # fmt: skip
    v.literal(".weight", _square_codes())
    v.given(suffix, [[1.5], [0.6875], [-2.25], [0.00321]], "F32")
    yield v
    if format == "fp8_block":
        v = Maker(format, "partial_blocks", 9, 37, "last blocks cut in both directions; rows and columns of blocks "
                  "exchanged; a scale chosen by lane", "Q13 Q18 Q19", block_rows=2, block_cols=8)  # fmt: skip
        v.codes(".weight", (9, 37), among=[c for c in range(256) if c & 127 != 127])
        v.scales(suffix, (5, 5), "F32", negative=True)
        yield v
        v = Maker(format, "tiny_and_large_scales", 8, 16, "scales of 1e-8 beside 1e-4; products that are subnormal, "
                  "zero or above the range; a scale of 0", "Q15", block_rows=1, block_cols=8)  # fmt: skip
        v.literal(".weight", np.tile(np.array([1, 7, 8, 0x38, 0x39, 0x7E, 0x81, 0xFE], np.uint8), (8, 2)))
        v.given(suffix, [[1e-4, 1e-8], [1.3e-8, 2.7e-4], [1e-37, 1e-43], [1.4e-45, 3e38], [0.0, -0.0],
                         [1.17e-38, 7.7e35], [-1e-8, -1e-4], [1e-30, 1e30]], "F32")  # fmt: skip
        yield v
        v = Maker(format, "bf16_scales", 6, 20, "scales read as f32 or f16; a product rounded to bf16",
                  "Q13", block_rows=4, block_cols=6)  # fmt: skip
        v.codes(".weight", (6, 20), among=[c for c in range(256) if c & 127 != 127])
        v.scales(suffix, (2, 4), "BF16", size=0.003)
        yield v
        v = Maker(format, "e8m0_scales", 4, 32, "powers of two: code 0 is 2^-127, bias 127", "Q13",
                  block_rows=2, block_cols=16, **{suffix: "F8_E8M0"})  # fmt: skip
        v.codes(".weight", (4, 32), among=[c for c in range(256) if c & 127 != 127])
        v.literal(suffix, np.array([[0, 120], [126, 254]], np.uint8))
        yield v
        v = Maker(format, "one_scale", 3, 17, "a file without blocks", "Q13", block_rows=0, block_cols=0)
        v.codes(".weight", (3, 17), among=[c for c in range(256) if c & 127 != 127])
        v.given(suffix, [0.0123], "F32")
        yield v
    else:
        v = Maker(format, "channel_bf16", 7, 19, "one scale for each row, not column; a product rounded to bf16",
                  "Q13 Q18", block_rows=1, block_cols=0)  # fmt: skip
        v.codes(".weight", (7, 19), among=[c for c in range(256) if c & 127 != 127])
        v.scales(suffix, (7, 1), "BF16")
        yield v
        v = Maker(format, "tensor_f32", 3, 21, "one scale; its inverse", "Q13", block_rows=0, block_cols=0)
        v.codes(".weight", (3, 21), among=[c for c in range(256) if c & 127 != 127])
        v.given(suffix, [0.0371], "F32")
        yield v
        v = Maker(format, "blocks", 6, 26, "blocks cut in both directions; scales in the other order", "Q13 Q18 Q19",
                  block_rows=2, block_cols=9)  # fmt: skip
        v.codes(".weight", (6, 26), among=[c for c in range(256) if c & 127 != 127])
        v.scales(suffix, (3, 3), "F16")
        yield v
        v = Maker(format, "groups_e8m0", 4, 64, "groups of 32 with powers of two stored as bytes; bias applied twice",
                  "Q08 Q13", block_rows=1, block_cols=32, **{suffix: "U8"})  # fmt: skip
        v.codes(".weight", (4, 64), among=[c for c in range(256) if c & 127 != 127])
        v.literal(suffix, np.array([[118, 121], [0, 127], [130, 119], [1, 254]], np.uint8))
        yield v


def int8():
    """Vectors of signed bytes with scales and zero points."""
    format, scale, zero = "int8_scaled", ".weight_scale", ".weight_zero_point"
    v = Maker(format, "every_code", 16, 16, "two's complement, -128 included; excess 128", "Q07", block_rows=1,
              block_cols=0, symmetric=1)  # fmt: skip
    v.literal(".weight", _square_codes())
    v.scales(scale, (16, 1), "BF16", negative=True)
    yield v
    v = Maker(format, "channel_asymmetric", 6, 18, "zero points added, left out, or of the wrong row; products in bf16",
              "Q07 Q18 Q19", block_rows=1, block_cols=0, symmetric=0)  # fmt: skip
    v.codes(".weight", (6, 18))
    v.scales(scale, (6, 1), "BF16")
    v.literal(zero, np.array([[-128], [127], [0], [-1], [53], [-77]], np.int8).view(np.uint8))
    yield v
    v = Maker(format, "groups", 4, 48, "group-major or row-major scales and zero points; a lane's scale", "Q18 Q19",
              block_rows=1, block_cols=12, symmetric=0)  # fmt: skip
    v.codes(".weight", (4, 48))
    v.scales(scale, (4, 4), "F32")
    v.codes(zero, (4, 4))
    yield v
    v = Maker(format, "symmetric_with_zeros", 3, 17, "zero points stored beside a symmetric encoding are used", "Q03",
              block_rows=1, block_cols=0, symmetric=1)  # fmt: skip
    v.codes(".weight", (3, 17))
    v.scales(scale, (3, 1), "F16")
    v.literal(zero, np.array([[3], [-5], [100]], np.int8).view(np.uint8))
    yield v
    v = Maker(format, "tensor_f32", 2, 19, "one scale and one zero point; the scale inverted", "Q13 Q19", block_rows=0,
              block_cols=0, symmetric=0)  # fmt: skip
    v.codes(".weight", (2, 19))
    v.given(scale, [0.01234], "F32")
    v.literal(zero, np.array([-7], np.int8).view(np.uint8))
    yield v
    v = Maker(format, "blocks", 5, 21, "blocks cut in both directions", "Q18 Q19", block_rows=2, block_cols=8,
              symmetric=0)  # fmt: skip
    v.codes(".weight", (5, 21))
    v.scales(scale, (3, 3), "F16")
    v.codes(zero, (3, 3))
    yield v


def _nibbles(count):
    """Bytes that hold every nibble, none beside itself."""
    return np.array([(i * 7 + 3) % 16 | ((i * 11 + 9) % 16) << 4 for i in range(count)], np.uint8)


def packed():
    """Vectors of compressed-tensors pack-quantized."""
    format, codes, scale, zero = "int_packed", ".weight_packed", ".weight_scale", ".weight_zero_point"

    def maker(name, rows, cols, hunts, bugs, shape=np.int64, **params):
        v = Maker(format, name, rows, cols, hunts, bugs, **params)
        v.words(codes, (rows, -(-cols * params["bits"] // 32)))
        if shape:
            v.literal(".weight_shape", np.array([rows, cols], np.int64) if shape == np.int64 else
                      np.array([rows, cols], np.uint32))  # fmt: skip
            v.params[".weight_shape"] = "I64" if shape == np.int64 else "I32"
        return v

    v = maker("every_nibble", 4, 64,
              "values of both signs as excess 8; words as bytes in another order; scales by lane",
              "Q04 Q07 Q16 Q18", np.int32, bits=4, group=32, symmetric=1)  # fmt: skip
    v.literal(codes, _nibbles(128).view(np.uint32).reshape(4, 8))
    v.scales(scale, (4, 2), "BF16")
    yield v
    v = maker("asymmetric_groups", 10, 48, "zero points packed down the columns, not along the rows; added instead of "
              "taken off; scales stored group by group", "Q04 Q07 Q18 Q19", bits=4, group=16, symmetric=0)  # fmt: skip
    v.words(zero, (2, 3))
    v.scales(scale, (10, 3), "F16")
    yield v
    v = maker("asymmetric_channel", 9, 40, "one group for the whole row; a product rounded to bf16", "Q18 Q19",
              None, bits=8, group=0, symmetric=0)  # fmt: skip
    v.words(zero, (3, 1))
    v.scales(scale, (9, 1), "F32", negative=True)
    yield v
    v = maker("int8_groups", 3, 32, "bytes as two's complement", "Q07 Q16", bits=8, group=8, symmetric=1)
    v.scales(scale, (3, 4), "BF16")
    yield v
    v = maker("partial_word", 2, 21, "a last word that is not full", "Q07", np.int32, bits=4, group=0, symmetric=1)
    v.scales(scale, (2, 1), "F16")
    yield v
    v = maker("odd_bits", 13, 35, "3-bit codes and zero points that straddle words", "Q07 Q19", bits=3, group=7,
              symmetric=0)  # fmt: skip
    v.words(zero, (2, 5))
    v.scales(scale, (13, 5), "BF16")
    yield v
    v = maker("group_index", 4, 24, "an order of columns that is not monotone, ignored", "Q04", bits=4, group=8,
              symmetric=1)  # fmt: skip
    v.scales(scale, (4, 3), "F16")
    v.literal(".weight_g_idx", np.array([c * 5 % 3 if c % 4 else 2 - c % 3 for c in range(24)], np.uint32))
    yield v
    v = maker("symmetric_with_zeros", 8, 16, "zero points stored beside a symmetric encoding are used", "Q03", bits=4,
              group=8, symmetric=1)  # fmt: skip
    v.words(zero, (1, 2))
    v.scales(scale, (8, 2), "BF16")
    yield v


def gptq():
    """Vectors of GPTQ."""
    def maker(name, rows, cols, hunts, bugs, dtype="F16", zeros=True, **params):
        params = {"bits": 4, "group": 0, "symmetric": 0, "act_order": 0, "zero_offset": 1} | params
        n, groups = 32 // params["bits"], -(-cols // params["group"]) if params["group"] else 1
        v = Maker("gptq", name, rows, cols, hunts, bugs, **params)
        v.words(".qweight", (-(-cols // n), rows))
        if zeros:
            v.words(".qzeros", (groups, rows // n))
        v.scales(".scales", (groups, rows), dtype)
        return v

    v = maker("distinct_nibbles", 8, 16, "nibbles or axes in the order of AWQ; two's complement", "Q05 Q07")
    v.literal(".qweight", _nibbles(64).view(np.uint32).reshape(2, 8))
    v.literal(".qzeros", np.array([[0x3B0D5728]], np.uint32))
    yield v
    yield maker("groups_v1", 8, 48, "zero points stored less 1 and used as they are, or added; scales row by row",
                "Q01 Q04 Q18 Q19", group=16)  # fmt: skip
    yield maker("groups_v2", 16, 32, "1 added to zero points stored as they are", "Q01 Q04 Q19", dtype="BF16", group=8,
                zero_offset=0)  # fmt: skip
    v = maker("zero_wraps", 8, 24, "a zero point 0, stored as 15, read as 16; 1 added to whole words", "Q01 Q02",
              zeros=False, group=8)  # fmt: skip
    v.literal(".qzeros", np.array([[0x7FF3F0F7], [0xFFFFFFFF], [0x0E1F2D3F]], np.uint32))
    yield v
    v = maker("symmetric_other_zeros", 8, 16, "stored zero points used though the encoding is symmetric: here those of "
              "gptq_v2 under the label of v1", "Q03", zeros=False, group=8, symmetric=1)  # fmt: skip
    v.literal(".qzeros", np.full((2, 1), 0x88888888, np.uint32))
    yield v
    v = maker("partial_words", 5, 19, "numbers of rows and columns that fill no word", "Q01 Q04 Q19", zeros=False,
              group=8)  # fmt: skip
    v.stored |= {".qweight": np.resize(_nibbles(64).view(np.uint32), (3, 5)),
                 ".qzeros": np.array([[0x3B0D5728], [0x1C40F9A6], [0xB2D7E5E1]], np.uint32)}  # fmt: skip
    yield v
    v = maker("act_order", 8, 40, "an order of columns that is not monotone, ignored or with the wrong length",
              "Q04 Q19", group=8, act_order=1)  # fmt: skip
    v.literal(".g_idx", np.array([(c * 7 + c // 3) % 5 for c in range(40)], np.uint32))
    yield v
    v = maker("int8", 4, 20, "8 bits: 4 codes in a word, zero point 255 wraps", "Q01 Q02 Q07 Q19", dtype="F32",
              zeros=False, bits=8, group=12)  # fmt: skip
    v.literal(".qzeros", np.array([[0x7FFF0180], [0xFE3C0092]], np.uint32))
    yield v


def awq():
    """Vectors of AWQ."""
    def maker(name, rows, cols, hunts, bugs, dtype="F16", group=0):
        groups = cols // group if group else 1
        v = Maker("awq", name, rows, cols, hunts, bugs, group=group)
        v.words(".qweight", (cols, rows // 8))
        v.words(".qzeros", (groups, rows // 8))
        v.scales(".scales", (groups, rows), dtype)
        return v

    v = maker("distinct_nibbles", 8, 16, "nibbles in natural order, the inverse order, or along the columns; "
              "a zero point 0 that becomes 16 on the way through GPTQ's convention", "Q01 Q02 Q05 Q19")  # fmt: skip
    v.literal(".qweight", _nibbles(64).view(np.uint32).reshape(16, 1))
    v.literal(".qzeros", np.array([[0x71B40D52]], np.uint32))
    yield v
    yield maker("groups", 16, 48, "groups and rows of scales exchanged; zero points left out or added",
                "Q01 Q04 Q05 Q19", group=16)  # fmt: skip
    yield maker("one_group", 24, 19, "one group for all columns, their number odd", "Q05", dtype="BF16")


def fp4(format, codes, scale, whole=None):
    """Vectors of e2m1 codes."""
    group = 16 if whole else 32
    exponent = {".weight_scale": "U8"} if format == "mxfp4_packed" else {}

    def maker(name, rows, cols, hunts, bugs, value=0.0):
        v = Maker(format, name, rows, cols, hunts, bugs, **exponent)
        shape = (rows, cols // 32, 16) if format == "mxfp4_blocks" else (rows, cols // 2)
        v.codes(codes, shape)
        if whole:
            v.literal(whole, np.full((1,) if format == "nvfp4_packed" else (), value, np.float32))
        return v

    v = maker("every_pair", 16, group, "each pair of codes: signs, -0, the table", "", 1.0)
    pairs = np.arange(256, dtype=np.uint8).reshape(16, 16)
    v.literal(codes, pairs.reshape(16, 1, 16) if format == "mxfp4_blocks" else pairs if group == 32 else pairs[:, ::2])
    v.literal(scale, np.full((16, 1), 0x38 if whole else 127, np.uint8))
    yield v
    bugs = "Q06 Q17" + (" Q09 Q13" if whole else " Q08")
    v = maker("distinct_elements", 3, 2 * group, "elements of a block in another order: halves apart, high half first",
              bugs, 2963.0 if format == "nvfp4_packed" else 0.000337)  # fmt: skip
    v.literal(codes, np.resize(_nibbles(23), v.stored[codes].shape))
    v.literal(scale, np.array([[0x3A, 0x71], [0x08, 0x7E], [0x45, 0x2B]] if whole else
                              [[120, 131], [126, 129], [118, 141]], np.uint8))  # fmt: skip
    yield v
    every = [c for c in range(256) if c & 127 != 127] if whole else list(range(255))
    hunts = "each scale: subnormal and negative ones, their bias; two roundings" if whole else \
        "each power of two: code 0, subnormal products, overflow"
    v = maker("every_scale", len(every), group, hunts, "Q09" if whole else "Q08",
              11.3 if format == "nvfp4_packed" else 0.0813)  # fmt: skip
    v.literal(scale, np.array(every, np.uint8).reshape(-1, 1))
    v.literal(codes, np.resize(_nibbles(16)[: group // 2], v.stored[codes].shape))
    yield v


def drafts():
    """All vectors."""
    makers = [*fp8("fp8_block", ".weight_scale_inv"), *fp8("fp8_scaled", ".weight_scale"), *int8(), *packed(), *gptq(),
              *awq(), *fp4("mxfp4_blocks", "_blocks", "_scales"),
              *fp4("mxfp4_packed", ".weight_packed", ".weight_scale"),
              *fp4("nvfp4_packed", ".weight_packed", ".weight_scale", ".weight_global_scale"),
              *fp4("nvfp4_modelopt", ".weight", ".weight_scale", ".weight_scale_2")]  # fmt: skip
    return [maker.draft() for maker in makers]
