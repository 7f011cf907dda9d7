"""counter - random numbers as a function of (seed, stream, position): Philox4x32-10.

Signature   philox(key_low u32, key_high u32, c0 u32, c1 u32, c2 u32, c3 u32) -> (u32, u32, u32, u32)
            uniform32(seed u64, position u64, stream u32) -> f32
            fill_uniform(seed, stream, count) -> f32[count];  fill_normal(seed, stream, count, scale) -> f32[count]
            fill_bf16(seed, stream, count, scale) -> u16[count];  stream_of(name) -> u32
Semantics   A block is four 32-bit words w0..w3 = philox(key, counter) with key = (seed mod 2^32, seed div 2^32) and
            counter = (position mod 2^32, position div 2^32, stream, 0).
            philox: ten rounds on (x0, x1, x2, x3) = counter with (k0, k1) = key. One round, in integers:
              p = 0xD2511F53 x0;  q = 0xCD9E8D57 x2  (64-bit products, hi and lo their halves)
              (x0, x1, x2, x3) = (hi q ^ x1 ^ k0, lo q, hi p ^ x3 ^ k1, lo p)
              k0 = k0 + 0x9E3779B9, k1 = k1 + 0xBB67AE85 (mod 2^32)
            uniform32 = (w0 div 2^8) 2^-24 of the block at `position`: in [0, 1), exact.
            fill_uniform: value i uses word i mod 4 of block i div 4: (w div 2^8) 2^-23 - 1, in [-1, 1), exact.
            fill_normal: value i uses words a = w0, b = w1 (i even) or a = w2, b = w3 (i odd) of block i div 2. The sum
              of their four 16-bit halves less its mean is
              n = (a div 2^16) + (a mod 2^16) + (b div 2^16) + (b mod 2^16) - 131070,
              with standard deviation sqrt((2^32 - 1) / 3). Value = n step: bell-shaped, |value| < 3.47 scale.
            fill_bf16: the same value rounded to bf16.
            stream_of(name) = the first four bytes of SHA-256 of the UTF-8 name, as a little-endian number.
Order       fill_normal: R1 scale to f32; R2 step = RN32(scale C), C = RN32(1 / sqrt((2^32 - 1) / 3)) = 0x37DDB3D7;
            R3 RN32(n step) (n is exact). fill_bf16: R4 rounded to bf16, ties to even.
Errors      a seed outside 0 <= seed < 2^64 is refused
Golden      sampler: uniform32 with stream 0 and position = index of the token drawn, so a draw does not depend on
            earlier ones. Golden and synthetic weights: stream = stream_of(full tensor name), i in row-major order.
Origin      Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), with the known answers
            of its library Random123
"""

import hashlib

import numpy as np

from refmoe.errors import UsageError
from refmoe.jit import kernel
from refmoe.numerics.codecs import bf16_bits

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
UNIT = np.float32(float.fromhex("0x1.bb67aep-16"))  # C of R2


@kernel
def philox(key_low, key_high, c0, c1, c2, c3):
    """Ten rounds; every argument and result is a u64 below 2^32."""
    for _ in range(10):
        p = MULTIPLIER_0 * c0
        q = MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (q >> HALF) ^ c1 ^ key_low, q & LOW, (p >> HALF) ^ c3 ^ key_high, p & LOW
        key_low = (key_low + WEYL_0) & LOW
        key_high = (key_high + WEYL_1) & LOW
    return c0, c1, c2, c3


@kernel
def _block(seed, stream, position):
    return philox(seed & LOW, seed >> HALF, position & LOW, position >> HALF, stream, np.uint64(0))


@kernel
def _signed_uniform(word):
    return np.float32((np.int64(word >> np.uint64(8)) - 8388608) * 2.0**-23)  # exact


@kernel
def _centred(a, b):
    """Sum of the four 16-bit halves of two words, less its mean: an integer in [-131070, 131070], as f32."""
    a, b = np.int64(a), np.int64(b)
    return np.float32((a >> 16) + (a & 0xFFFF) + (b >> 16) + (b & 0xFFFF) - 131070)


@kernel
def _fill_uniform(seed, stream, out):
    for i in range(0, out.size, 4):
        words = _block(seed, stream, np.uint64(i // 4))
        for j in range(min(4, out.size - i)):
            out[i + j] = _signed_uniform(words[j])


@kernel
def _fill_normal(seed, stream, step, out):
    for i in range(0, out.size, 2):
        w0, w1, w2, w3 = _block(seed, stream, np.uint64(i // 2))
        out[i] = np.float32(_centred(w0, w1) * step)
        if i + 1 < out.size:
            out[i + 1] = np.float32(_centred(w2, w3) * step)


@kernel
def _fill_bf16(seed, stream, step, out):
    for i in range(0, out.size, 2):
        w0, w1, w2, w3 = _block(seed, stream, np.uint64(i // 2))
        out[i] = bf16_bits(np.float32(_centred(w0, w1) * step))
        if i + 1 < out.size:
            out[i + 1] = bf16_bits(np.float32(_centred(w2, w3) * step))


def _seed(seed):
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"seed: expected 0 <= seed < 2^64, found {seed}")
    return np.uint64(seed)


def _step(scale):
    return np.float32(np.float32(scale) * UNIT)


def uniform32(seed, position, stream):
    """One np.float32 in [0, 1): the draw of `stream` at `position`."""
    w0, _, _, _ = _block(_seed(seed), np.uint64(stream), np.uint64(position))
    return np.float32((int(w0) >> 8) * 2.0**-24)


def fill_uniform(seed, stream, count):
    """f32[count] in [-1, 1)."""
    out = np.empty(count, np.float32)
    _fill_uniform(_seed(seed), np.uint64(stream), out)
    return out


def fill_normal(seed, stream, count, scale=1.0):
    """f32[count], bell-shaped with mean 0 and standard deviation `scale`."""
    out = np.empty(count, np.float32)
    _fill_normal(_seed(seed), np.uint64(stream), _step(scale), out)
    return out


def fill_bf16(seed, stream, count, scale=1.0):
    """u16[count]: the values of fill_normal as bf16 codes."""
    out = np.empty(count, np.uint16)
    _fill_bf16(_seed(seed), np.uint64(stream), _step(scale), out)
    return out


def stream_of(name):
    """The stream of a named tensor."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
