"""blocks - f32 matrices to the blocks of GGUF files: plain rounding, no calibration data.

q8_0   scale d = RN16(largest |w| / 127), codes the nearest to w / d
q4_0   d = RN16(v / -8), v the weight of largest magnitude (the first of equals), which gets code 0; codes 0 to 15 stand
       for -8 to 7
q4_k   for each 32 weights a line s q - m with s, m >= 0: nine steps s around (high - low) / 15, low at most 0, give
       codes; through the codes of each goes the line of least squares (m = 0 if it were below), the best is kept.
       d = RN16(largest s / 63) and dmin = RN16(largest m / 63) of 256 weights, s and m in units of them, then the
       nearest codes
Nearest is of ties the even one, then clamped to the range; a scale too large for binary16 is its largest number, and a
scale of 0 has codes 0. Operations are single ones of binary32, sums of 32 are a halving tree: files are the same on
every machine.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from refmoe.numerics.codecs import f16_to_f32, f32_to_f16
from refmoe.quantize.encoders import Parts

STEPS = tuple(np.float32(15.0 + step / 4) for step in range(-4, 5))
PIECE = 1 << 17  # weights that are worked on at once, by one of THREADS: they stay in a cache
THREADS = 4
_LARGEST = np.float32(65504)


def q8_0(w: np.ndarray) -> Parts:
    """Blocks of 32 with one scale."""
    return {".weight": ("Q8_0", _rows(_q8_0, w))}


def q4_0(w: np.ndarray) -> Parts:
    """Blocks of 32 nibbles with one scale."""
    return {".weight": ("Q4_0", _rows(_q4_0, w))}


def q4_k(w: np.ndarray) -> Parts:
    """Blocks of 256 nibbles with a scale and a minimum for each 32."""
    return {".weight": ("Q4_K", _rows(_q4_k, w))}


def _rows(encode: Callable[[np.ndarray], np.ndarray], w: np.ndarray) -> np.ndarray:
    """Blocks u8[rows, bytes] of f32[rows, cols]."""
    step = max(1, PIECE // w.shape[1])

    def encoded(first: int) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # sums of weights near 2^127: no line is taken then
            return encode(w[first : first + step])

    with ThreadPoolExecutor(THREADS) as pool:
        blocks = list(pool.map(encoded, range(0, len(w), step)))
    return np.concatenate(blocks).reshape(len(w), -1)


def _half(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(stored bytes u8[n,2], the stored number, or 1 where it is 0)."""
    stored = f32_to_f16(np.clip(scale, -_LARGEST, _LARGEST))
    back = f16_to_f32(stored)
    return stored.view(np.uint8).reshape(-1, 2), np.where(back == 0, np.float32(1), back)


def _nearest(scaled: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(np.rint(scaled), np.float32(low), np.float32(high))


def _q8_0(w: np.ndarray) -> np.ndarray:
    groups = w.reshape(-1, 32)
    stored, d = _half(abs(groups).max(axis=1) / np.float32(127))
    codes = _nearest(groups / d[:, None], -127, 127).astype(np.int8)
    return np.hstack([stored, codes.view(np.uint8)])


def _q4_0(w: np.ndarray) -> np.ndarray:
    groups = w.reshape(-1, 32)
    largest = np.take_along_axis(groups, abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    stored, d = _half(largest / np.float32(-8))
    codes = (_nearest(groups / d[:, None], -8, 7) + np.float32(8)).astype(np.uint8)
    return np.hstack([stored, codes[:, :16] | codes[:, 16:] << 4])


def _q4_k(w: np.ndarray) -> np.ndarray:
    groups = w.reshape(-1, 32)
    s, m = (part.reshape(-1, 8) for part in _lines(groups))
    stored_d, d = _half(s.max(axis=1) / np.float32(63))
    stored_m, dmin = _half(m.max(axis=1) / np.float32(63))
    scales, minima = _nearest(s / d[:, None], 0, 63), _nearest(m / dmin[:, None], 0, 63)
    step, shift = (scales * d[:, None]).reshape(-1, 1), (minima * dmin[:, None]).reshape(-1, 1)
    codes = _nearest((groups + shift) / np.where(step > 0, step, np.float32(np.inf)), 0, 15).astype(np.uint8)
    pairs = codes.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    packed = _packed(scales.astype(np.uint8), minima.astype(np.uint8))
    return np.hstack([stored_d, stored_m, packed, nibbles])


def _lines(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(s, m) of f32[n,32]."""
    x = np.ascontiguousarray(groups.T)
    low = np.minimum(x.min(axis=0), np.float32(0))
    width = x.max(axis=0) - low
    over = np.where(width > 0, width, np.float32(1))
    sum_x, count = _sum(x), np.float32(32)
    best_s, best_m = np.zeros_like(low), -low
    least = np.full_like(low, np.inf)
    for steps in STEPS:
        q = _nearest((x - low) * (steps / over), 0, 15)
        sum_q, sum_qq, sum_qx = _sum(q), _sum(q * q), _sum(q * x)
        spread = count * sum_qq - sum_q * sum_q
        spread, square = (np.where(part > 0, part, np.float32(1)) for part in (spread, sum_qq))
        s, m = (count * sum_qx - sum_q * sum_x) / spread, (sum_q * sum_qx - sum_qq * sum_x) / spread
        s, m = np.where(m < 0, sum_qx / square, s), np.maximum(m, np.float32(0))
        error = s * q - m - x
        error = _sum(error * error)
        better = (error < least) & (s > 0)
        best_s, best_m, least = (np.where(better, new, old) for new, old in
                                 ((s, best_s), (m, best_m), (error, least)))  # fmt: skip
    return best_s, best_m


def _sum(parts: np.ndarray) -> np.ndarray:
    """The sum over the first axis, of 32."""
    while len(parts) > 1:
        parts = parts[: len(parts) // 2] + parts[len(parts) // 2 :]
    total: np.ndarray = parts[0]
    return total


def _packed(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Six bits of each in twelve bytes, as numerics.k_scales draws them."""
    s, m = scales[:, :4] | scales[:, 4:] >> 4 << 6, minima[:, :4] | minima[:, 4:] >> 4 << 6
    return np.hstack([s, m, (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4])
