"""split_heads - each head of a row cut in two.

Signature   x f32[T,N*D], left i64, right i64 -> a f32[T,N*left], b f32[T,N*right]
Semantics   D = left + right; for every head n: a[t, n*left + i] = x[t, n*D + i],
            b[t, n*right + i] = x[t, n*D + left + i]
Order       no rounding
Special     inf and nan are copied
Errors      D other than left + right is refused with the config
Golden      split_heads: one_head, several_heads, special_values
Origin      latent attention (arXiv:2405.04434): queries into a part without position and a rotated part; with one head,
            the compressed row into the latent and the rotated key
"""

import numpy as np

from refmoe.jit import kernel


@kernel
def split_heads(x, a, b):
    """Plain kernel: x f32[T,N,D] -> a f32[T,N,left], b f32[T,N,right]."""
    left = a.shape[2]
    for t in range(x.shape[0]):
        for n in range(x.shape[1]):
            for i in range(left):
                a[t, n, i] = x[t, n, i]
            for i in range(b.shape[2]):
                b[t, n, i] = x[t, n, left + i]


def plain(x, left, right, heads):
    """The op through the plain kernel; see Signature."""
    tokens = x.shape[0]
    a, b = np.empty((tokens, heads, left), np.float32), np.empty((tokens, heads, right), np.float32)
    split_heads(x.reshape(tokens, heads, left + right), a, b)
    return a.reshape(tokens, heads * left), b.reshape(tokens, heads * right)


def bind(weights, attrs, parts):
    """Engine call x -> (a, b); the plain kernel is fast enough."""
    left, right, heads = attrs["left"], attrs["right"], attrs["heads"]
    return lambda x: plain(x, left, right, heads)
