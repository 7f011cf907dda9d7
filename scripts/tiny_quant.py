"""Encoders of the quantised tiny models: values f32[rows, cols] -> stored tensors by suffix. Rounding, no search.

Each takes the settings that the config of the recipe states (a refmoe.config.quantization.Scheme's params) and returns
{suffix: (safetensors dtype, array)}. What they store is what golden/tiny is about; how well they fit does not matter.
"""

import numpy as np

from refmoe.numerics import codecs, counter

CODES = np.arange(256, dtype=np.uint8)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float64)


def _e4m3():
    """The values of all codes; of the two that are nan, and of -0, infinity, so that they are never chosen."""
    exponent, fraction = CODES >> 3 & 15, (CODES & 7).astype(np.float64)
    values = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * 2.0 ** (exponent.astype(int) - 10))
    values = np.where(CODES & 128, -values, values)
    values[[127, 128, 255]] = np.inf
    return values


def _nearest(values, table):
    """Index of the nearest entry, the first of equally near ones."""
    return np.abs(values[..., None] - table).argmin(-1).astype(np.uint8)


def _words(codes, bits, axis):
    """Codes packed along an axis into 32-bit words, the first in the lowest bits."""
    moved = np.moveaxis(codes.astype(np.uint64), axis, -1)
    each = 32 // bits
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, -moved.shape[-1] % each)])
    parts = padded.reshape(*moved.shape[:-1], -1, each) << (np.arange(each, dtype=np.uint64) * np.uint64(bits))
    return np.ascontiguousarray(np.moveaxis(np.bitwise_or.reduce(parts, -1).astype(np.uint32), -1, axis))


def fp8_block(values, name, block_rows, block_cols):
    rows, cols = values.shape
    down, across = -(-rows // block_rows), -(-cols // block_cols)
    padded = np.pad(np.abs(values), ((0, down * block_rows - rows), (0, across * block_cols - cols)))
    largest = padded.reshape(down, block_rows, across, block_cols).max((1, 3))
    scale = codecs.f32_to_bf16(largest / np.float32(448))
    wide = codecs.bf16_to_f32(scale)[np.arange(rows)[:, None] // block_rows, np.arange(cols) // block_cols]
    codes = _nearest(values.astype(np.float64) / wide, _e4m3())
    return {".weight": ("F8_E4M3", codes), ".weight_scale_inv": ("BF16", scale)}


def int8_scaled(values, name, **settings):
    scale = np.abs(values).max(1, keepdims=True) / np.float32(127)
    codes = np.rint(values / scale).astype(np.int8).view(np.uint8)
    return {".weight": ("I8", codes), ".weight_scale": ("F32", scale)}


def int_packed(values, name, bits, group, symmetric):
    rows, cols = values.shape
    scale = codecs.f32_to_bf16(np.abs(values).reshape(rows, -1, group).max(2) / np.float32(7.5))
    wide = np.repeat(codecs.bf16_to_f32(scale), group, axis=1)
    codes = np.clip(np.rint(values / wide), -8, 7).astype(np.int64) + 8
    return {".weight_packed": ("I32", _words(codes, bits, 1)), ".weight_scale": ("BF16", scale),
            ".weight_shape": ("I32", np.array([rows, cols], np.uint32))}  # fmt: skip


def _asymmetric(values, index, groups):
    """(codes, zero points [rows, groups], scales f16 [rows, groups]) of 4 bits."""
    low = np.stack([values[:, index == g].min(1) for g in range(groups)], 1)
    high = np.stack([values[:, index == g].max(1) for g in range(groups)], 1)
    low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    scale = codecs.f32_to_f16((high - low) / np.float32(15))
    wide = codecs.f16_to_f32(scale)
    zero = np.clip(np.rint(-low / wide), 0, 15).astype(np.int64)
    codes = np.clip(np.rint(values / wide[:, index]) + zero[:, index], 0, 15).astype(np.int64)
    return codes, zero, scale


def gptq(values, name, bits, group, symmetric, act_order, zero_offset):
    cols = values.shape[1]
    order = np.argsort(counter.fill_uniform(3, counter.stream_of(name), cols), kind="stable")
    index = np.empty(cols, np.int64)
    index[order] = np.arange(cols) // group
    codes, zero, scale = _asymmetric(values, index, -(-cols // group))
    return {".qweight": ("I32", _words(codes.T, bits, 0)), ".scales": ("F16", np.ascontiguousarray(scale.T)),
            ".qzeros": ("I32", _words((zero.T - zero_offset) & 15, bits, 1)),
            ".g_idx": ("I32", index.astype(np.uint32))}  # fmt: skip


def awq(values, name, group):
    cols = values.shape[1]
    codes, zero, scale = _asymmetric(values, np.arange(cols) // group, cols // group)

    def shuffled(lines):  # nibble k of a word holds row 0, 2, 4, 6, 1, 3, 5, 7 of its eight
        return lines.reshape(len(lines), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]].reshape(len(lines), -1)

    return {".qweight": ("I32", _words(shuffled(codes.T), 4, 1)), ".qzeros": ("I32", _words(shuffled(zero.T), 4, 1)),
            ".scales": ("F16", np.ascontiguousarray(scale.T))}  # fmt: skip


def mxfp4_blocks(values, name):
    rows, cols = values.shape
    blocks = values.reshape(rows, cols // 32, 32).astype(np.float64)
    exponent = np.frexp(np.abs(blocks).max(2))[1] - 1 - 2  # so that the largest lies from 4 to 8, of which 6 is coded
    codes = _nearest(blocks / np.ldexp(1.0, exponent)[:, :, None], np.where(np.arange(16) == 8, np.inf, E2M1))
    return {"_blocks": ("U8", codes[:, :, 0::2] | codes[:, :, 1::2] << 4),
            "_scales": ("U8", (exponent + 127).astype(np.uint8))}  # fmt: skip


def encode(scheme, name, values):
    """The stored tensors of one matrix."""
    return globals()[scheme.format](values, name, **scheme.params)
