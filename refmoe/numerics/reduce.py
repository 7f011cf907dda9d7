"""reduce - the one reduction: the order in which every long sum of the engine is taken.

Signature   a f32[K], b f32[K] -> y f32
Semantics   y = sum over k of a[k]*b[k]
Order       R1 sixteen lanes; lane l owns k = l mod 16 and starts at +0. For k ascending: lane = fma(a[k], b[k], lane),
               one rounding each.
            R2 K is padded with +0 to a multiple of 16; the padding takes part in R1 (it turns a lane of -0 into +0).
            R3 the lanes are added as a halving tree: for h = 8, 4, 2, 1: lane[l] = lane[l] + lane[l+h] for l < h, each
               sum rounded once. y = lane[0].
Special     inf and nan follow IEEE 754; no element is skipped
Errors      K = 0 is refused by the callers
Golden      exercised by linear, rms_norm, attention, route_softmax_topk
Origin      one AVX-512 register, four NEON registers or half a warp do it naturally. Sum of squares is dot(a, a).
            Plain sums (softmax denominators) use the same lanes and tree with lane = lane + a[k] (R1 without product).
"""

import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.fma import fma

LANES = 16


@kernel
def tree(lanes):
    """R3: halving tree over f32[16]; overwrites its argument, returns lane 0."""
    h = 8
    while h > 0:
        for i in range(h):
            lanes[i] = np.float32(lanes[i] + lanes[i + h])
        h //= 2
    return lanes[0]


@kernel
def dot(a, b):
    """Dot product of two f32[K] in the order R1-R3."""
    lanes = np.zeros(16, np.float32)
    size = a.shape[0]
    for k in range(size):
        lanes[k % 16] = fma(a[k], b[k], lanes[k % 16])
    for k in range(size, (size + 15) // 16 * 16):
        lanes[k % 16] = fma(np.float32(0.0), np.float32(0.0), lanes[k % 16])
    return tree(lanes)


@kernel
def dots(x, w, y):
    """y[t,n] = dot(w[n], x[t]) for x f32[T,K], w f32[N,K], y f32[T,N]."""
    for t in range(x.shape[0]):
        for n in range(w.shape[0]):
            y[t, n] = dot(w[n], x[t])


@kernel
def lane_sum(a):
    """Sum of f32[K] in the lanes and tree of R1-R3, without products."""
    lanes = np.zeros(16, np.float32)
    size = a.shape[0]
    for k in range(size):
        lanes[k % 16] = np.float32(lanes[k % 16] + a[k])
    for k in range(size, (size + 15) // 16 * 16):
        lanes[k % 16] = np.float32(lanes[k % 16] + np.float32(0.0))
    return tree(lanes)
