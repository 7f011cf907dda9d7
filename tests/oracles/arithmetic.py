"""Binary32 arithmetic from exact rationals, and the error bounds the oracles share. Nothing from refmoe.

`rn32` rounds a Fraction once. `fma`, `dot` and `lane_sum` follow the written order of the one reduction; `exp32` and
`sincos32` round values of 50 decimal digits. gamma(n) = n u / (1 - n u), u = 2^-24, bounds the relative error of n
successive roundings (Higham, Accuracy and Stability, section 3.1); TINY is what one rounding may lose to underflow.
"""

import decimal
import math
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np

U = 2.0**-24
TINY = 2.0**-149
CONTEXT = decimal.Context(prec=50, Emin=-999999, Emax=999999)
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620900")


def gamma(n):
    """Bound of the relative error of n roundings."""
    return n * U / (1.0 - n * U)


def _round(n, d):
    """|n / d| rounded to binary32 by integer division, as a float with the sign of n."""
    size = abs(n)
    exponent = size.bit_length() - d.bit_length()
    if size << max(-exponent, 0) < d << max(exponent, 0):
        exponent -= 1
    unit = max(exponent, -126) - 23
    q, r = divmod(size << max(-unit, 0), d << max(unit, 0))
    q += 2 * r > d << max(unit, 0) or (2 * r == d << max(unit, 0) and q % 2 == 1)
    return math.copysign(math.inf if q.bit_length() + unit > 128 else math.ldexp(q, unit), n)


def rn32(value, zero=0.0):
    """The binary32 number nearest to a Fraction, ties to even, as a float; `zero` is returned for an exact 0."""
    return _round(value.numerator, value.denominator) if value else zero


def fma(a, b, c):
    """RN32(a b + c) for floats that are binary32 numbers."""
    plain = a * b + c  # decides inf and nan, and the sign of an exact zero
    if not math.isfinite(plain):
        return plain
    (an, ad), (bn, bd), (cn, cd) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    n, d = an * bn * cd + cn * ad * bd, ad * bd * cd
    return _round(n, d) if n else plain


def _add(a, b):
    return float(np.float32(a) + np.float32(b))


def tree(lanes):
    """Halving tree 8, 4, 2, 1."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [_add(lanes[i], lanes[i + half]) for i in range(half)]
    return lanes[0]


def _padded(values):
    values = [float(v) for v in values]
    return values + [0.0] * (-len(values) % 16)


def dot(a, b):
    """The one reduction of two vectors."""
    a, b = _padded(a), _padded(b)
    lanes = []
    for lane in range(16):
        acc = 0.0
        for x, y in zip(a[lane::16], b[lane::16], strict=True):
            acc = fma(x, y, acc)
        lanes.append(acc)
    return np.float32(tree(lanes))


def lane_sum(values):
    """The same lanes and tree without products."""
    values = _padded(values)
    lanes = []
    for lane in range(16):
        acc = 0.0
        for v in values[lane::16]:
            acc = _add(acc, v)
        lanes.append(acc)
    return np.float32(tree(lanes))


def dots(x, w):
    """y[t,n] = dot(w[n], x[t])."""
    return np.array([[dot(row, vector) for row in w] for vector in x], np.float32).reshape(len(x), len(w))


def exact_dots(x, w):
    """The same products without any rounding but the last, in binary64 (math.fsum of exact products)."""
    wide = np.array([[math.fsum(row.astype(float) * vector.astype(float)) for row in w] for vector in x])
    return wide.reshape(len(x), len(w))


def dot_bound(x, w):
    """|dot - exact| <= gamma(n + 4) sum |a||b|, n = ceil(K / 16) terms per lane and four levels of the tree."""
    count = -(-x.shape[-1] // 16)
    return gamma(count + 4) * (np.abs(x).astype(float) @ np.abs(w).astype(float).T) + (x.shape[-1] + 16) * TINY


@cache
def exp32(x):
    """RN32(e^x) of a binary32 number given as float."""
    if math.isnan(x) or x == math.inf:
        return np.float32(x)
    if x < -200:
        return np.float32(0.0)
    with np.errstate(over="ignore"):
        return np.float32(rn32(Fraction(CONTEXT.exp(Decimal(x)))) if x < 100 else math.inf)


@cache
def sincos32(x):
    """(RN32(sin x), RN32(cos x)) of a binary32 number given as float, |x| < 2^22, by a Taylor series."""
    with decimal.localcontext(CONTEXT):
        k = int((Decimal(x) / (PI / 2)).to_integral_value())
        r = Decimal(x) - k * (PI / 2)
        sums, term = [Decimal(0), Decimal(0)], Decimal(1)
        for n in range(40):
            sums[n % 2] += term * (-1) ** (n // 2)
            term = term * r / (n + 1)
        cosine, sine = sums
        for _ in range(k % 4):
            sine, cosine = cosine, -sine
    return np.float32(rn32(Fraction(sine))), np.float32(rn32(Fraction(cosine)))


def bf16(values):
    """f32 values rounded to bfloat16 and widened again, ties to even; for mutants."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def serial_dots(x, w):
    """y[t,n] summed one product after the other: a plausible order that is not ours."""
    y = np.zeros((x.shape[0], w.shape[0]), np.float32)
    for k in range(x.shape[1]):
        y += x[:, k, None] * w[None, :, k]
    return y


def halves_after(x, w, rows):
    """Rows from `rows` on are summed in two halves of K: an order chosen by the batch size."""
    y = dots(x, w)
    half = x.shape[1] // 2
    for t in range(rows, x.shape[0]):
        for n in range(w.shape[0]):
            y[t, n] = dot(w[n, :half], x[t, :half]) + dot(w[n, half:], x[t, half:])
    return y
