"""misses - which elements of a result lie outside their bounds, and by how much."""

from dataclasses import dataclass

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.question import Question, Real
from refmoe.verifier.routing import Choice, Routing, compare_ids
from refmoe.verifier.verdict import Place


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal values to the bit; any nan equals any nan. Wider or narrower types count if every value is equal."""
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind in "iu":
        return bool(np.array_equal(found, expected))
    left, right = found.astype(np.float64), expected.astype(np.float64)
    equal = (left == right) & (np.signbit(left) == np.signbit(right)) | (np.isnan(left) & np.isnan(right))
    return bool(equal.all())


@dataclass
class Misses:
    """What is outside the bounds: bool and error / budget, both of the shape of the output, and the ball."""

    wrong: np.ndarray
    load: np.ndarray
    ball: Ball
    choice: Choice | None = None
    skipped: np.ndarray | None = None  # rows about which nothing is said

    def rows(self, keep: np.ndarray) -> "Misses":
        """Only some rows."""
        skipped = None if self.skipped is None else self.skipped[keep]
        choice = self.choice and Choice(bad=[(int(np.flatnonzero(keep == t)[0]), reason) for t, reason in
                                             self.choice.bad if t in keep])  # fmt: skip
        return Misses(self.wrong[keep], self.load[keep], self.ball[keep], choice, skipped)


def misses_of(found: np.ndarray, ball: Ball, expected: np.ndarray | None) -> Misses:
    """Compare an array with a ball. The clause's own value is always inside."""
    found = found.astype(np.float64)
    v, e = ball.v, np.broadcast_to(ball.e, ball.v.shape)
    with np.errstate(all="ignore"):
        if expected is not None:
            expected = expected.astype(np.float64)
            e = np.where(np.isfinite(expected) & ~np.isfinite(v), np.inf, e)  # an operand overflows in its type
        else:
            expected = v
        error = abs(found - v)
        right = error <= e
        right |= found == expected
        right |= np.isnan(found) & np.isnan(expected)
        right &= np.isnan(found) == np.isnan(expected)
        right |= np.isposinf(e)  # no claim
        load = np.where(right & ~np.isfinite(error), 0.0, np.where(e > 0, error / np.where(e > 0, e, 1), np.inf))
        load = np.where(right & ((error == 0) | (found == expected)), 0.0, np.nan_to_num(load, nan=np.inf))
    return Misses(~right, np.where(np.isposinf(e), 0.0, load), Ball(v, e))


def misses(question: Question, real: Real, names: set[str]) -> dict[str, Misses]:
    """Compare all outputs with one evaluation."""
    if isinstance(real, Routing):
        return _routed(question, real, names)
    result = {}
    for name in names:
        value = real[name]
        if isinstance(value, Ball):
            result[name] = misses_of(question.found[name], value, question.expected.get(name))
        else:
            wrong = np.asarray(question.found[name] != value)
            result[name] = Misses(wrong, np.where(wrong, np.inf, 0.0), Ball(value))
    return result


def _routed(question: Question, routing: Routing, names: set[str]) -> dict[str, Misses]:
    found, expected = question.found, question.expected
    right = expected["ids"] if "ids" in expected else routing.ids()
    ids = found["ids"].astype(np.int64) if "ids" in names else right
    choice = compare_ids(routing, ids, right)
    rows = np.zeros(len(ids), bool)
    rows[[t for t, _ in choice.bad]] = True
    result = {}
    if "ids" in names:
        wrong = rows[:, None] & ~np.array([np.isin(ids[t], right[t]) for t in range(len(ids))]).reshape(ids.shape)
        wrong |= (rows & ~wrong.any(axis=1))[:, None]
        result["ids"] = Misses(wrong, np.where(wrong, np.inf, 0.0), Ball(right), choice)
    if "weights" in names:
        clipped = np.where(rows[:, None], right, ids)
        ball = routing.weigh(clipped)
        lost = np.isnan(routing.choice.v).any(axis=1)  # whether one nan spoils the others' weights, ports disagree
        ball = Ball(ball.v, np.where(lost[:, None], np.inf, ball.e))
        known = None
        if "weights" in expected and (np.sort(clipped, axis=1) == np.sort(right, axis=1)).all():
            order, back = np.argsort(right, axis=1, kind="stable"), np.argsort(np.argsort(clipped, axis=1), axis=1)
            known = np.take_along_axis(np.take_along_axis(expected["weights"], order, 1), back, 1)
        judged = misses_of(found["weights"], ball, known)
        judged.wrong[rows] = False  # weights of the wrong experts say nothing
        judged.load[rows] = 0.0
        judged.skipped = rows
        result["weights"] = judged
    return result


def place(at: tuple[int, ...], expected: np.ndarray, found: np.ndarray, ball: Ball | None) -> Place:
    """The facts of one element."""
    e, f = float(expected[at]), float(found[at])
    ulp = None
    if expected.dtype.kind == "f" and np.isfinite(e) and np.isfinite(f):
        ulp = int(abs(_order(np.float32(e)) - _order(np.float32(f))))
    return Place(at, e, f, ulp, abs(f - e), float(ball.e[at]) if ball is not None else 0.0)


def _order(values):
    """Integers in the order of binary32 values; neighbours differ by one."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
