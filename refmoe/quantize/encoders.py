"""encoders - f32 matrices to the stored parts of a format: plain rounding to the nearest code, no calibration data.

A scale covers the largest magnitude of its group; it is rounded to the type in which it is stored first, then the codes
are the nearest to weight / scale, ties to even, clamped to the range. A group of zeros has scale 1. All operations are
single IEEE operations on binary32, so the files are the same on every machine.
"""

import numpy as np

from refmoe.numerics.codecs import bf16_to_f32, f32_to_bf16
from refmoe.numerics.small_codes import e2m1_to_f32

Parts = dict[str, tuple[str, np.ndarray]]  # suffix -> (safetensors dtype, array of its stored type)


def integers(w: np.ndarray, bits: int, group: int, symmetric: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes u of excess 2^(bits-1) [rows, cols], bf16 scales u16 [rows, groups], zero points v [rows, groups]).

    symmetric: scale = largest |w| / (2^(bits-1) - 1/2). Otherwise scale = (high - low) / (2^bits - 1) with 0 inside
    low .. high, and v = the nearest code of 0. group 0 means a whole row.
    """
    rows, cols = w.shape
    shaped = w.reshape(rows, -1, group or cols)
    top, middle = np.float32(2**bits - 1), np.float32(2 ** (bits - 1))
    if symmetric:
        scale = abs(shaped).max(axis=2) / np.float32(middle - np.float32(0.5))
    else:
        low, high = np.minimum(shaped.min(axis=2), 0), np.maximum(shaped.max(axis=2), 0)
        scale = (high - low) / top
    stored = f32_to_bf16(np.where(scale > 0, scale, np.float32(1)))
    scale = bf16_to_f32(stored)
    scale = np.where(scale > 0, scale, np.float32(1))
    zero = np.broadcast_to(middle, scale.shape) if symmetric else np.clip(np.rint(-low / scale), 0, top)
    codes = np.clip(np.rint(shaped / scale[:, :, None]) + zero[:, :, None], 0, top)
    return codes.astype(np.uint8).reshape(rows, cols), f32_to_bf16(scale), zero.astype(np.uint8)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes u8[rows, n] of 4 or 8 bits into u32[rows, ceil(n bits / 32)], the first in the lowest bits."""
    each = 32 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % each))).reshape(len(codes), -1, each)
    words = np.zeros(padded.shape[:2], np.uint32)
    for i in range(each):
        words |= padded[:, :, i].astype(np.uint32) << np.uint32(bits * i)
    return words


def int_packed(w: np.ndarray, bits: int, group: int, symmetric: bool) -> Parts:
    """compressed-tensors pack-quantized."""
    codes, scale, zero = integers(w, bits, group, symmetric)
    parts: Parts = {".weight_packed": ("I32", packed(codes, bits)), ".weight_scale": ("BF16", scale),
                    ".weight_shape": ("I64", np.array(w.shape, np.int64))}  # fmt: skip
    if not symmetric:
        words = packed(np.ascontiguousarray(zero.T), bits)
        parts[".weight_zero_point"] = ("I32", np.ascontiguousarray(words.T))
    return parts


def nearest_code(size: np.ndarray, bits: int, lowest: int, last: int) -> np.ndarray:
    """Codes u8 of the nearest numbers to f32 sizes >= 0, ties to the even code, in a type with `bits` bits of fraction
    whose smallest normal number is 2^lowest; beyond its largest number: the code `last` of that."""
    field, drop = size.view(np.uint32), np.uint32(23 - bits)
    odd = (field >> drop) & np.uint32(1)
    normal = ((field + (np.uint32((1 << (22 - bits)) - 1) + odd)) >> drop) - np.uint32((126 + lowest) << bits)
    small = np.rint(np.minimum(size, np.float32(1)) * np.float32(2.0 ** (bits - lowest))).astype(np.uint32)
    return np.minimum(np.where(size < np.float32(2.0**lowest), small, normal), np.uint32(last)).astype(np.uint8)


_E4M3 = 3, -6, 126  # up to 448
_E2M1 = 1, 0, 7  # up to 6
_E2M1_VALUES = e2m1_to_f32(np.arange(8, dtype=np.uint8))


def fp8_block(w: np.ndarray, block: int) -> Parts:
    """e4m3 codes with one f32 scale for each block of `block` rows and columns: largest |w| / 448."""
    rows, cols = w.shape
    down, across = np.arange(0, rows, block), np.arange(0, cols, block)
    top = np.maximum.reduceat(np.maximum.reduceat(abs(w), down, axis=0), across, axis=1)
    scale = top / np.float32(448)
    scale = np.where(scale > 0, scale, np.float32(1))
    spread = np.repeat(np.repeat(scale, block, axis=0)[:rows], block, axis=1)[:, :cols]
    codes = nearest_code(abs(w) / spread, *_E4M3) | (np.signbit(w).astype(np.uint8) << 7)
    return {".weight": ("F8_E4M3", codes), ".weight_scale_inv": ("F32", scale)}


def mxfp4(w: np.ndarray) -> Parts:
    """e2m1 codes in groups of 32; of the two powers of two near the largest / 6, the one with less squared error."""
    rows, cols = w.shape
    groups = w.reshape(rows, -1, 32)
    _, exponent = np.frexp(abs(groups).max(axis=2))  # largest = f 2^exponent, 1/2 <= f < 1
    best, least = None, np.full(exponent.shape, np.inf)
    for more in (0, 1):
        power = np.clip(exponent - 3 + more, -126, 125)
        scaled = np.ldexp(abs(groups), -power[:, :, None]).astype(np.float32)
        codes = nearest_code(scaled, *_E2M1)
        error = ((scaled - _E2M1_VALUES[codes]).astype(np.float64) ** 2).sum(axis=2) * 4.0 ** more
        better = error < least
        least = np.where(better, error, least)
        chosen = (np.where(better, power, best[0]) if best else power,
                  np.where(better[:, :, None], codes, best[1]) if best else codes)  # fmt: skip
        best = chosen
    power, codes = best  # type: ignore[misc]
    codes = codes.reshape(rows, cols) | (np.signbit(w).astype(np.uint8) << 3)
    return {".weight_packed": ("U8", codes[:, 0::2] | codes[:, 1::2] << 4),
            ".weight_scale": ("U8", (power + 127).astype(np.uint8))}  # fmt: skip


def plain(w: np.ndarray) -> Parts:
    """bfloat16."""
    return {".weight": ("BF16", f32_to_bf16(w))}
