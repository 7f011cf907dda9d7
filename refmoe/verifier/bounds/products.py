"""Products with a matrix: |y - y'| <= gamma_K(u_acc) sum |a||b| + what the rounded operands move + u_out |y|."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound


@bound("linear", "logits")
def linear(a, x, w):
    """y = x W^T."""
    return {"y": a.out(a.dot(a.operand(x), a.operand(w, "weight")))}


@bound("linear_bias")
def linear_bias(a, x, w, b):
    """The sum may be rounded before the bias is added, or begin with the bias."""
    return {"y": a.out(a.mid(a.dot(a.operand(x), a.operand(w, "weight"))) + a.value(b, "vector"))}


@bound("expert_linear")
def expert_linear(a, x, ids, w):
    """Expert by expert, the rows that chose it."""
    x = a.operand(x)
    shape = (*ids.shape, w.shape[1])
    v, e = np.empty(shape), np.empty(shape)
    for expert in np.unique(ids):
        t, j = np.nonzero(ids == expert)
        y = a.dot(x[t] if x.v.ndim == 2 else x[t, j], a.operand(w[expert], "weight"))
        v[t, j], e[t, j] = y.v, y.e
    return {"y": a.out(Ball(v, e))}


@bound("embedding")
def embedding(a, ids, w):
    """A copy; the matrix may be stored in the intermediate type."""
    return {"y": a.out(a.value(w[ids], "weight"))}
