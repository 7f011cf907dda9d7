"""expert_linear_a8 - the matrices of the chosen experts, as codes of the weights times codes of the rows.

Signature   x f32[T,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], w matrix[E][F,I] -> y f32[T,K,F]
            | x f32[T,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U] -> y f32[T,K,F]
            | x f32[T,K,I], ids i64[T,K], q i64[E,F,I], scale f32[E,F,U], minimum f32[E,F,U] -> y f32[T,K,F]
Semantics   y[t,j] = the matrix of expert ids[t,j] times x[t], or x[t,j], as in linear_a8: with integer codes of w, and
            of x for groups of 32 columns; experts in formats that state no codes as in expert_linear
Order       activation_codes for every pair of rows, R1 to R9
Special     as linear_a8; an expert that nobody chose is not read
Errors      ids outside 0..E-1 cannot arise: routing writes them
Golden      expert_linear_a8: idle_experts, minima, permuted_experts, row_per_choice, several_units, units_of_16
Origin      as linear_a8. x is quantised once, whoever reads it
"""

import numpy as np

from refmoe import formats, jit
from refmoe.jit import kernel
from refmoe.numerics.activation_codes import GROUP, dot, quantise
from refmoe.numerics.reduce import dots

if jit.ENABLED:
    from refmoe.kernels.grouped import expert_products


@kernel
def expert_linear_a8(x, expert, ids, q, scale, minimum, y):
    """Plain kernel for the choices of one expert: x f32[T,J,I] with J = 1 (shared row) or K, ids i64[T,K], codes
    q i64[F,I], scale, minimum f32[F,U] -> their rows of y f32[T,K,F]."""
    p, s = np.empty(x.shape[2], np.int64), np.empty((x.shape[2] + GROUP - 1) // GROUP, np.float32)
    for t in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            if ids[t, j] == expert:
                quantise(x[t, min(j, x.shape[1] - 1)], p, s)
                for f in range(q.shape[0]):
                    y[t, j, f] = dot(p, s, q[f], scale[f], minimum[f])


def plain(x, ids, q, scale, minimum):
    """The op through the plain kernel; see Signature."""
    y = np.empty((*ids.shape, q.shape[1]), np.float32)
    for expert, codes in enumerate(zip(q, scale, minimum, strict=True)):
        expert_linear_a8(x if x.ndim == 3 else x[:, None, :], expert, ids, *codes, y)
    return y


def bind(weights, attrs, parts):
    """Engine call (x, ids) -> f32[T,K,F]."""
    call = bind_many([weights], parts)
    return lambda x, ids: call(x, ids)[0]


def bind_many(together, parts):
    """Engine call (x, ids) -> list of f32[T,K,F]: several matrices per expert (gate and up) in one launch."""
    kinds = [experts for (experts,) in together]
    if not jit.ENABLED:
        return lambda x, ids: [_plain_experts(x, ids, experts) for experts in kinds]
    operands = formats.operands(kinds, int8=True)
    return lambda x, ids: expert_products(operands, x, ids, parts)


def _plain_experts(x, ids, experts):
    rows = x if x.ndim == 3 else x[:, None, :]
    y = np.empty((*ids.shape, experts[0].rows), np.float32)
    for expert, weight in enumerate(experts):
        codes = formats.codes(weight)
        if codes is not None:
            expert_linear_a8(rows, expert, ids, *codes, y)
            continue
        w, (t, j) = formats.decode(weight), np.nonzero(ids == expert)
        chosen = np.empty((t.shape[0], weight.rows), np.float32)
        dots(np.ascontiguousarray(rows[t, np.minimum(j, rows.shape[1] - 1)]), w, chosen)
        y[t, j] = chosen
    return y
