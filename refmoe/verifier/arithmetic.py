"""arithmetic - the operations of a profile on balls, and the ways in which a port may hold its operands.

One rounding of binary32 for each elementary step; gamma_K of the declared accumulator times the sum of |a||b| for a sum
of K products in whatever order; the declared rounding of operands, intermediate values and results. Operands that the
profile rounds to nearest are rounded here too, so their rounding costs no radius. Since a port may hold some operands
unrounded (norm weights in binary32, say), each role (activation, weight, vector; angle: the rounded product of position
and frequency) is tried both ways. Attention may apply its scale to the scores, or to operands that are rounded behind
it: each of SCALED is tried.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from refmoe.verifier.balls import UNIT, Ball, claimed, gamma, into, nearest
from refmoe.verifier.profiles import SUMS, TYPES, Profile

SCALED = ("e4m3", "int8")  # types that share scales
ROLES = ("activation", "weight", "vector", "angle")
LOG2E = 1.4426950408889634
# What queries and keys are multiplied by before they are rounded, as powers of the scale, and times log2(e) or not.
PLACES = {"scores": (0.0, 0.0, 1.0), "q": (1.0, 0.0, 1.0), "k": (0.0, 1.0, 1.0), "both": (0.5, 0.5, 1.0),
          "q log2": (1.0, 0.0, LOG2E)}  # fmt: skip


class Arithmetic:
    """The operations of one profile. `rounded` are the roles whose operands are held in the input type; `stored` says
    that the results to be judged are all numbers of the output type, and not wider ones."""

    def __init__(self, profile: Profile, rounded: tuple[str, ...] = ROLES, stored: bool = False,
                 scaled: str = "scores"):  # fmt: skip
        self.profile, self.rounded, self.stored, self.scaled = profile, rounded, stored, scaled
        self.asked = False  # whether it mattered where the scale is applied
        # the weights of attention are operands of a product
        self.weight_unit = 0.0 if profile.input == "f32" else TYPES["bf16" if profile.input in SCALED else
                                                                    profile.input].unit  # fmt: skip
        self.mid_unit = TYPES[profile.intermediate].unit if profile.intermediate != "f32" else 0.0
        self.changed: set[str] = set()  # roles in which rounding changed an operand

    def operand(self, values, role: str = "activation") -> Ball:
        """An operand of a product with a matrix, as the port may hold it."""
        kind, any_way = self.profile.input, self.profile.input_rounding == "any"
        return self._held(values, "f32" if kind == "int8" and role != "activation" else kind, role, any_way)

    def state(self, values) -> Ball:
        """An operand of attention: as `operand`, but never in a type that shares scales."""
        if self.profile.input in SCALED:
            return self.value(values)
        return self.operand(values)

    def scored(self, q: Ball, k: Ball, scale: float) -> tuple[Ball, Ball, float]:
        """Operands of the scores, and what their products are still multiplied by."""
        self.asked = bool(self.mid_unit) and scale > 0
        if not self.asked or self.scaled == "scores":
            return q, k, scale
        mine, theirs, base = PLACES[self.scaled]
        return self._scaled(q, scale**mine * base), self._scaled(k, scale**theirs), 1 / base

    def _scaled(self, value: Ball, factor: float) -> Ball:
        """Times a factor that is itself rounded, then rounded to the intermediate type; times 1 is nothing."""
        if factor == 1.0:
            return value
        return into(value * Ball(factor, 2 * UNIT * factor), self.profile.intermediate, surely=True)

    def value(self, values, role: str = "activation") -> Ball:
        """An input of anything else, which comes out of storage in the intermediate type."""
        return self._held(values, self.profile.intermediate, role, False)

    def _held(self, values, kind, role, any_way) -> Ball:
        if isinstance(values, Ball):  # a result that was not recorded: as it may have been held
            rounding = self._radius(abs(values.v) + values.e, kind, role) if any_way and kind != "f32" else 0.0
            return Ball(values.v, values.e + rounding) if any_way else into(values, kind, surely=False)
        values = np.asarray(values)
        flushed = np.where(abs(values) < TYPES["f32"].normal, abs(values), 0.0)
        if kind == "f32":
            return Ball(values, flushed)
        if any_way:
            return Ball(values, flushed + self._radius(np.asarray(values, np.float64), kind, role))
        return Ball(self.either(nearest(values, kind), values, role), flushed)

    def either(self, rounded, exact, role: str):
        """The rounded values or the exact ones, as this arithmetic has it for that role."""
        if not np.array_equal(rounded, exact, equal_nan=True):
            self.changed.add(role)
        return rounded if role in self.rounded else exact

    def _radius(self, values, kind, role):
        size = np.where(np.isfinite(values), abs(values), 0.0)
        if kind not in ("e4m3", "int8"):
            return 2 * TYPES[kind].unit * size + TYPES[kind].step
        size = np.where(np.isfinite(values), size, np.inf)  # one inf or nan spoils the scale of its group
        width = values.shape[-1] if values.ndim else 1
        group = min(self.profile.input_group or width, width) or 1
        if role == "activation" and size.ndim:
            top = np.maximum.reduceat(size, np.arange(0, width, group), axis=-1)
            top = np.repeat(top, group, axis=-1)[..., :width]
        else:
            top = size.max(initial=0.0)
        if kind == "int8":
            return top * (1.01 / 254) + size * 2.0**-10  # half a step of max/127; the scale itself in 16 bits
        # a scale that is a power of two may be twice as large as needed: subnormal steps double
        return (TYPES[kind].unit + 2.0**-9) * size + top * (2 * TYPES[kind].step / TYPES[kind].largest)

    def mid(self, value: Ball) -> Ball:
        """A value between two elementary steps of an op, in the intermediate type or unrounded."""
        return into(value, self.profile.intermediate, surely=False)

    def out(self, value: Ball) -> Ball:
        """A result, in the output type, unless it is judged unrounded."""
        if self.profile.output_rounding == "any":
            value = Ball(value.v, value.e + 2 * TYPES[self.profile.output].unit * (abs(value.v) + value.e))
        return into(value, self.profile.output, surely=self.stored and self.profile.output_rounding == "nearest")

    def gamma(self, terms: int) -> float:
        """gamma of a sum of that many products in the declared accumulator, in any order."""
        unit, block = SUMS[self.profile.accumulate], self.profile.accumulate_block
        if block and terms > block:
            return gamma(block + 2, unit) + gamma(-(-terms // block) + 2, UNIT)
        return gamma(terms + 2, unit)

    def mid_gamma(self, terms: int) -> float:
        """gamma of a sum whose partial sums may be in the intermediate type."""
        return gamma(terms, max(self.mid_unit, UNIT))

    def dot(self, x: Ball, w: Ball) -> Ball:
        """x[..., K] times w[..., N, K]: y[..., N] = sum over k."""
        sizes = _product(abs(x.v), abs(w.v))
        e = self.gamma(x.v.shape[-1]) * sizes + x.v.shape[-1] * TYPES["f32"].normal
        if x.e.any() or w.e.any():
            e = e * 1.01 + _product(abs(x.v), w.e) + _product(x.e, abs(w.v) + w.e)
        v = _product(x.v, w.v)
        e = claimed(v, sizes, e)
        if np.isinf(x.e).any() or np.isinf(w.e).any():
            e = np.where(np.isinf(x.e).any(axis=-1)[..., None] | np.isinf(w.e).any(axis=-1), np.inf, e)
        return Ball(v, e)

    def sum(self, value: Ball, axis: int = -1) -> Ball:
        """A sum in binary32, in any order, its axis kept."""
        count = value.v.shape[axis]
        sizes = (abs(value.v) + value.e).sum(axis=axis, keepdims=True)
        e = value.e.sum(axis=axis, keepdims=True) + gamma(count + 2, UNIT) * sizes + count * TYPES["f32"].normal
        v = value.v.sum(axis=axis, keepdims=True)
        return Ball(v, claimed(v, sizes, e))

    def exp(self, value: Ball) -> Ball:
        """exp with the declared error; the argument may be multiplied by log2(e) and rounded again."""
        v = np.exp(value.v)
        relative = np.expm1(value.e + 2 * UNIT * abs(value.v)) * 1.01 + 2 * UNIT * self.profile.exp_ulp
        relative = np.where(np.isfinite(value.v), relative, 0.0)  # exp of -inf is 0, of +inf is inf
        return _flush(Ball(v, np.where(v == 0, 0.0, v * relative)))

    def sigmoid(self, value: Ball) -> Ball:
        """1 / (1 + exp(-x)), however arranged."""
        v, low, high = (_sigmoid(x) for x in (value.v, value.v - value.e, value.v + value.e))
        size = np.minimum(abs(value.v), 90.0)
        return _flush(Ball(v, np.maximum(high - v, v - low) + v * UNIT * (2 * self.profile.exp_ulp + 2 * size + 4)))

    def inverse_root(self, value: Ball) -> Ball:
        """1 / sqrt(x), two roundings."""
        low = np.maximum(value.v - value.e, 0.0)
        v = 1 / np.sqrt(value.v)
        e = np.where(low > 0, 1 / np.sqrt(np.where(low > 0, low, 1.0)) - v, np.where(value.v > 0, np.inf, 0.0))
        over = np.isfinite(value.v) & (abs(value.v) + value.e > TYPES["f32"].largest)
        return Ball(v, np.where(over, np.inf, e + 4 * UNIT * v))

    def softmax(self, value: Ball) -> Ball:
        """Softmax over the last axis, with or without the largest subtracted."""
        top = np.max(value.v, axis=-1, keepdims=True)
        e = self.exp(Ball(value.v - top, value.e + UNIT * abs(value.v - top)))
        return e / self.sum(e)


def _product(x, w):
    return np.matmul(x[..., None, :], np.swapaxes(w, -1, -2))[..., 0, :] if w.ndim > 2 else x @ w.T


def _sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-abs(x))), np.exp(-abs(x)) / (1 + np.exp(-abs(x))))


def _flush(value: Ball) -> Ball:
    return Ball(value.v, value.e + TYPES["f32"].normal)


def arithmetics(profile: Profile, stored: bool) -> Iterator[Arithmetic]:
    """One arithmetic for each way of holding the operands. After the first is used, those that differ from it."""
    first = Arithmetic(profile, stored=stored)
    yield first
    roles = sorted(first.changed)
    for place in PLACES if first.asked else ("scores",):
        for kept in product((True, False), repeat=len(roles)):
            if place != "scores" or not all(kept):
                rounded = tuple(role for role, held in zip(roles, kept, strict=True) if held)
                yield Arithmetic(profile, rounded, stored, place)
