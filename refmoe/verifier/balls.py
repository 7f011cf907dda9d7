"""balls - binary64 values with an error bound beside each: what a conforming port may compute.

A Ball is an array of centres `v` (the op evaluated in binary64, independent of the kernels) and of radii `e`. Every
operation adds to the radius what rounding can do. A radius of inf means: no claim. gamma_n(u) = n u / (1 - n u) bounds
n successive roundings (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
"""

import numpy as np

from refmoe.numerics import codecs
from refmoe.verifier.profiles import TYPES

UNIT = 2.0**-24


class Ball:
    """Centres and radii; + - * / between balls round once in binary32."""

    __array_ufunc__ = None  # ndarray + Ball is left to Ball
    __slots__ = ("e", "v")

    def __init__(self, v, e=0.0):
        self.v = np.asarray(v, np.float64)
        self.e = np.broadcast_to(np.asarray(e, np.float64), self.v.shape)

    def __getitem__(self, key):
        return Ball(self.v[key], self.e[key])

    def __len__(self):
        return len(self.v)

    @property
    def shape(self):
        """Of both arrays."""
        return self.v.shape

    def reshape(self, *shape):
        """The same values in another shape."""
        return Ball(self.v.reshape(*shape), self.e.reshape(*shape))

    def __add__(self, other):
        other = ball(other)
        return _once(self.v + other.v, self.e + other.e)

    def __sub__(self, other):
        other = ball(other)
        return _once(self.v - other.v, self.e + other.e)

    def __neg__(self):
        return Ball(-self.v, self.e)

    def __mul__(self, other):
        other = ball(other)
        y = _once(self.v * other.v, _times(abs(self.v), self.e, abs(other.v), other.e))
        unsure = _endless(self, other) | _endless(other, self)
        return Ball(y.v, np.where(unsure, np.inf, y.e)) if unsure.any() else y

    def __truediv__(self, other):
        other = ball(other)
        v = self.v / other.v
        room = abs(other.v) - other.e
        e = np.where(room > 0, (self.e + abs(v) * other.e) / np.where(room > 0, room, 1.0), np.inf)
        return _once(v, e)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return ball(other) - self

    def __rtruediv__(self, other):
        return ball(other) / self


def _endless(a, b):
    """inf times what may be 0."""
    return np.isinf(a.v) & (b.e > 0) & (abs(b.v) <= b.e)


def ball(value) -> Ball:
    """A Ball as it is, anything else as an exact value."""
    return value if isinstance(value, Ball) else Ball(value)


def _times(a, ea, b, eb):
    """|a| eb + |b| ea + ea eb, where 0 times an unknown is 0."""
    return _none(a, eb) + _none(b, ea) + _none(ea, eb)


def _none(x, y):
    return np.where((x == 0) | (y == 0), 0.0, x * y)


def _once(v, e) -> Ball:
    """One rounding in binary32, subnormals flushed or kept."""
    return Ball(v, claimed(v, abs(v) + e, e + UNIT * (abs(v) + e) + TYPES["f32"].normal))


def claimed(v, size, e):
    """Radii e; none (inf) where a value of that size may overflow binary32, 0 where the value is inf or nan."""
    known = np.where(np.isnan(e) | (size > TYPES["f32"].largest), np.inf, e)
    return np.where(np.isfinite(v), known, 0.0)


def gamma(n: float, unit: float) -> float:
    """Bound of the relative error of n roundings, inf where there is none."""
    return n * unit / (1 - n * unit) if n * unit < 1 else np.inf


def nearest(values: np.ndarray, kind: str) -> np.ndarray:
    """Binary32 values rounded to a narrower type, to nearest even."""
    values = np.ascontiguousarray(values, np.float32)
    if kind == "bf16":
        return codecs.bf16_to_f32(codecs.f32_to_bf16(values))
    if kind == "f16":
        return codecs.f16_to_f32(codecs.f32_to_f16(values))
    if kind == "tf32":
        bits = values.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)
        return np.where(np.isfinite(values), rounded, values)
    return values


def into(value: Ball, kind: str, surely: bool) -> Ball:
    """Stored in a narrower type to nearest. Rounding is monotone, so the ends of the interval are rounded, and most
    often fall on one number; if not `surely`, the port may also keep the value as it is. What may pass the largest
    number of the type has no bound."""
    if kind == "f32":
        return value
    form = TYPES[kind]
    low, high = _outward(value.v - value.e, -np.inf), _outward(value.v + value.e, np.inf)
    below, above = nearest(low, kind).astype(np.float64), nearest(high, kind).astype(np.float64)
    low, high = (below, above) if surely else (np.minimum(low, below), np.maximum(high, above))
    if form.normal <= TYPES["f32"].normal:  # subnormals may be flushed
        low = np.where((low > 0) & (low < form.normal), 0.0, low)
        high = np.where((high < 0) & (high > -form.normal), 0.0, high)
    v, e = (low + high) / 2, (high - low) / 2 * (1 + 2.0**-50)
    known, lost = np.isfinite(low) & np.isfinite(high), np.isfinite(value.v) | np.isinf(value.e)
    return Ball(np.where(known, v, value.v), np.where(known, e, np.where(lost, np.inf, 0.0)))


def _outward(values, limit):
    """Binary64 to binary32, away from the inside of an interval."""
    narrow = values.astype(np.float32)
    inside = narrow > values if limit < 0 else narrow < values
    return np.where(inside, np.nextafter(narrow, np.float32(limit)), narrow)
