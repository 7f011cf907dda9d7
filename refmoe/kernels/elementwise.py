"""Sixteen-lane schedules of the row-wise ops: exp, both SwiGLUs, RMSNorm. Bits as in the plain kernels of the ops."""

import numpy as np

from refmoe.jit import item_kernel, kernel
from refmoe.kernels import team
from refmoe.numerics.elementary import EXP_COEFFICIENTS, LN2_HI, LN2_LO, LOG2E, MAGIC
from refmoe.numerics.vec import (
    F32,
    address,
    load1,
    load16,
    load_partial,
    narrow,
    scale_exponent,
    splat,
    store16,
    store_partial,
    tree,
    vadd,
    vdiv,
    vfma,
    view64,
    vmax,
    vmin,
    vmul,
    vsub,
    widen,
)

SMALL = 1 << 13  # elements below which sharing costs more than it gains
STRETCH = 1 << 12  # elements of a work item
EXP_HIGH, EXP_LOW = np.float32(89.0), np.float32(-104.0)  # beyond these the rounded result is inf, or +0


@kernel
def exp16(x):
    """numerics.elementary.exp32 of 16 lanes. Clamping first is exact: the clamped ends round to inf and to +0."""
    d = widen(vmax(splat(EXP_LOW), vmin(splat(EXP_HIGH), x)))
    shifted = vadd(vmul(d, splat(LOG2E)), splat(MAGIC))
    k = vsub(shifted, splat(MAGIC))
    r = vsub(vsub(d, vmul(k, splat(LN2_HI))), vmul(k, splat(LN2_LO)))
    p = splat(EXP_COEFFICIENTS[0])
    for c in EXP_COEFFICIENTS[1:]:
        p = vadd(vmul(p, r), splat(c))
    y = vadd(splat(1.0), vadd(r, vmul(vmul(r, r), p)))
    return narrow(scale_exponent(y, shifted))


@kernel
def _swiglu16(gate, up):
    one = splat(np.float32(1.0))
    return vmul(vdiv(gate, vadd(one, exp16(vsub(splat(np.float32(-0.0)), gate)))), up)


@kernel
def _swiglu(g, u, y, first, last):
    """y = silu(g) * u for elements first..last of contiguous f32 at three addresses."""
    whole = first + max(last - first, 0) // 16 * 16
    for i in range(first, whole, 16):
        store16(y + i * 4, _swiglu16(load16(F32, g + i * 4), load16(F32, u + i * 4)))
    if whole < last:
        rest = last - whole
        x = _swiglu16(load_partial(F32, g + whole * 4, rest), load_partial(F32, u + whole * 4, rest))
        store_partial(y + whole * 4, x, rest)


@item_kernel
def _swiglu_item(block, item, slot):
    """STRETCH consecutive elements; block: addresses of gate, up, out, and the number of elements."""
    b = view64(block, 4)
    first = item * STRETCH
    _swiglu(b[0], b[1], b[2], first, min(b[3], first + STRETCH))


@kernel
def _swiglu_rows(control, item, gate, up, out, shares):
    block = np.empty(4, np.int64)
    block[0], block[1], block[2], block[3] = address(gate), address(up), address(out), gate.shape[0]
    team.run(control, item, block, (gate.shape[0] + STRETCH - 1) // STRETCH, shares)


def swiglu_rows(gate, up, out, parts):
    """out = silu(gate) * up over flat contiguous f32[S], shared between `parts` threads."""
    shares = 1 if gate.shape[0] < SMALL else parts
    _swiglu_rows(team.gather(shares), _swiglu_item(), gate, up, out, shares)


@kernel
def _norm_row(x, w, size, eps, y):
    whole = size // 16 * 16
    rest = size - whole
    lanes = splat(np.float32(0.0))
    for i in range(0, whole, 16):
        v = load16(F32, x + i * 4)
        lanes = vfma(v, v, lanes)
    if rest:
        v = load_partial(F32, x + whole * 4, rest)
        lanes = vfma(v, v, lanes)
    mean = np.float32(tree(lanes) / np.float32(size))
    scale = splat(np.float32(np.float32(1.0) / np.float32(np.sqrt(np.float32(mean + eps)))))
    for i in range(0, whole, 16):
        store16(y + i * 4, vmul(vmul(load16(F32, x + i * 4), scale), load16(F32, w + i * 4)))
    if rest:
        v = vmul(vmul(load_partial(F32, x + whole * 4, rest), scale), load_partial(F32, w + whole * 4, rest))
        store_partial(y + whole * 4, v, rest)


@kernel
def norm_rows(x, w, eps, out):
    """RMSNorm of each run of len(w) values of contiguous x; w f32[S], out like x."""
    size = w.shape[0]
    for row in range(x.size // size):
        _norm_row(address(x) + row * size * 4, address(w), size, eps, address(out) + row * size * 4)


@kernel
def _clamped16(gate, up, limit, alpha):
    one = splat(np.float32(1.0))
    high, low = splat(limit), splat(np.float32(-limit))
    gate = vmin(high, gate)
    up = vmax(low, vmin(high, up))
    e = exp16(vsub(splat(np.float32(-0.0)), vmul(splat(alpha), gate)))
    return vmul(vadd(up, one), vdiv(gate, vadd(one, e)))


@item_kernel
def _clamped_item(block, item, slot):
    """STRETCH consecutive results; block: addresses of x, out, limit and alpha, and the number of results."""
    b = view64(block, 5)
    limit, alpha = load1(b[2]), load1(b[3])
    pair = np.zeros(32, np.float32)  # sixteen gates, sixteen ups
    for i in range(item * STRETCH, min(b[4], (item + 1) * STRETCH), 16):
        count = min(16, b[4] - i)
        for lane in range(count):
            pair[lane], pair[16 + lane] = load1(b[0] + (i + lane) * 8), load1(b[0] + (i + lane) * 8 + 4)
        y = _clamped16(load16(F32, address(pair)), load16(F32, address(pair) + 64), limit, alpha)
        store_partial(b[1] + i * 4, y, count)


@kernel
def _clamped(control, item, x, numbers, out, shares):
    block = np.empty(5, np.int64)
    block[0], block[1], block[4] = address(x), address(out), out.shape[0]
    block[2], block[3] = address(numbers), address(numbers) + 4
    team.run(control, item, block, (out.shape[0] + STRETCH - 1) // STRETCH, shares)
    return numbers.shape[0]  # in use through its address until here


def clamped_rows(x, limit, alpha, out, parts):
    """The clamped gated unit of interleaved flat contiguous x f32[2*S] -> out f32[S], shared by `parts` threads."""
    shares = 1 if out.shape[0] < SMALL else parts
    _clamped(team.gather(shares), _clamped_item(), x, np.array((limit, alpha), np.float32), out, shares)
