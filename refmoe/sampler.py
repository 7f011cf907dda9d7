"""sampler - choose the next token from a row of logits; the same seed gives the same text on every machine.

Signature   logits f32[V], seen bool[V], position i64, temperature f32, top_k i64, top_p f32, min_p f32,
            repetition_penalty f32, seed u64 -> id i64
Semantics   Penalise seen ids, rank, cut the ranking (top-k, top-p, min-p), draw from what is left. `seen` marks the ids
            of the prompt and of all tokens generated so far; `position` is 0 for the first generated token.
            Options are rounded to binary32 first.
Order       R1 repetition_penalty p != 1: x[i] = RN32(x[i] / p) where x[i] > 0, else RN32(x[i] * p), for each seen i
               once. Other x[i] are the logits.
            R2 rank: larger x first. x_r is the value of rank r, x_0 the largest.
            R3 temperature 0 (greedy): the id of rank 0; nothing below happens.
            R4 top_k > 0: ranks from top_k on are dropped.
            R5 e_r = exp32(RN32(RN32(x_r - x_0) / temperature)); e_0 = 1.
            R6 c_r = RN32(c_(r-1) + e_r) in rank order from +0; S is the last one.
            R7 top_p: only the shortest beginning of the ranking with c_r >= RN32(top_p * S) is kept.
            R8 min_p: ranks with e_r < min_p are dropped (e_r is the probability relative to the largest).
            R9 t = RN32(u * c_n), u = uniform32(seed, position, stream 0), n the last rank left.
               The id of the first rank with c_r > t.
Special     nan is never chosen and has no rank; -inf has e_r = 0 and is never chosen by R9
Ties        equal values (-0 equals +0) rank by lower id
Errors      x_0 not finite (all nan, all -inf, or +inf)
Golden      tests/test_sampler.py holds draws; tests/oracles/sampler.py recomputes them without this file
Origin      top-p: arXiv:1904.09751; repetition penalty: arXiv:1909.05858. Dissent: several engines divide by the
            temperature before subtracting the maximum, apply min-p before the temperature, or draw after sorting by id.

log_probabilities (the model's own, before R1): m = largest logit, s = lane_sum (numerics.reduce) over ascending ids of
exp32(RN32(x[i] - m)), nan counts as 0; logprob[i] = RN64((x[i] - m) - ln s), the bracket exact to 60 decimal digits.
"""

import decimal
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refmoe.errors import RefmoeError, UsageError
from refmoe.jit import kernel
from refmoe.numerics import counter
from refmoe.numerics.elementary import exp32
from refmoe.numerics.reduce import lane_sum

STREAM = 0  # R9
LARGEST = float(np.finfo(np.float32).max)
NO_EFFECT = 17.0  # e^-17 < 2^-24: such an e_r changes no c_r, because c_r >= 1


@dataclass(frozen=True)
class Settings:
    """Options of the clause above; UsageError names the one that is out of range."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, "temperature", "a number from 0 to 3.4e38", lambda v: 0.0 <= v <= LARGEST)
        _check(self, "top_p", "a number above 0 and up to 1", lambda v: 0.0 < v <= 1.0)
        _check(self, "min_p", "a number from 0 to 1", lambda v: 0.0 <= v <= 1.0)
        _check(self, "repetition_penalty", "a number from 1e-37 to 1e37", lambda v: 1e-37 <= v <= 1e37)
        _check(self, "top_k", "an integer from 0 (off) to 2^31 - 1", lambda v: type(v) is int and 0 <= v < 2**31)
        _check(self, "seed", "an integer from 0 to 2^64 - 1", lambda v: type(v) is int and 0 <= v < 2**64)


def _check(settings: "Settings", name: str, expected: str, holds: Callable[[Any], bool]) -> None:
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):  # nan fails every comparison
        raise UsageError(f"{name}: expected {expected}, found {value!r}")


class Sampler:
    """One sequence's state: which ids were seen, and the position of the next token."""

    def __init__(self, settings: Settings, vocab: int, prompt: Sequence[int]):
        self.settings, self.position = settings, 0
        self._seen = np.zeros(vocab, np.bool_)
        self._seen[np.asarray(prompt, np.int64)] = True

    def next(self, logits: np.ndarray) -> int:
        """Id for one row of logits f32[V]; remembers it and moves to the next position."""
        token = choose(logits, self._seen, self.position, self.settings)
        self._seen[token] = True
        self.position += 1
        return token


def choose(logits: np.ndarray, seen: np.ndarray, position: int, settings: Settings) -> int:
    """The clause: one id from logits f32[V], with seen bool[V]."""
    x = _penalised(logits, seen, np.float32(settings.repetition_penalty))
    largest = _largest(x)
    temperature = np.float32(settings.temperature)
    if temperature == 0:
        return int(np.argmax(x == largest))  # the first id that holds the maximum
    least = max(float(largest) - NO_EFFECT * float(temperature), -LARGEST)
    ids = np.flatnonzero(x >= least)  # all others change no c_r
    ids = _ranked(x, ids, settings.top_k or ids.size)
    e, c = _weights(x[ids], largest, temperature)
    last = int(np.searchsorted(c, np.float32(settings.top_p) * c[-1]))
    last = min(last, int(np.count_nonzero(e >= np.float32(settings.min_p))) - 1)
    u = counter.uniform32(settings.seed, position, STREAM)
    return int(ids[np.searchsorted(c[: last + 1], np.float32(u * c[last]), side="right")])


def log_probabilities(logits: np.ndarray, ids: Sequence[int]) -> list[float]:
    """Log-softmax of logits f32[V] at some ids, as the clause above defines it."""
    largest = _largest(logits)
    terms = np.empty(logits.shape[0], np.float32)
    _exponentials(logits, largest, terms)
    with decimal.localcontext(decimal.Context(prec=60)):
        log_sum = decimal.Decimal(float(lane_sum(terms))).ln()
        base = decimal.Decimal(float(largest))
        return [float(decimal.Decimal(float(logits[i])) - base - log_sum) for i in ids]


def best(logits: np.ndarray, count: int) -> list[int]:
    """The first `count` ids of the model's own ranking (R2 without R1), without -inf and nan."""
    return _ranked(logits, np.flatnonzero(logits > -np.inf), count).tolist()


def _ranked(x: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of ascending ids in the order of R2; none of their values is nan."""
    values = x[ids] + np.float32(0.0)  # makes -0 +0
    if 0 < count < ids.size:
        keep = values >= np.partition(values, ids.size - count)[ids.size - count]
        ids, values = ids[keep], values[keep]
    bits = values.view(np.int32)
    # Unsigned keys that ascend where values descend, then two stable 16-bit radix sorts, low half first.
    key = np.where(bits >= 0, 0x7FFFFFFF - bits, bits & 0x7FFFFFFF | -0x80000000).view(np.uint32)
    order = np.argsort(key.astype(np.uint16), kind="stable")
    order = order[np.argsort((key >> 16).astype(np.uint16)[order], kind="stable")]
    return ids[order[:count]]


def _penalised(logits: np.ndarray, seen: np.ndarray, penalty: np.float32) -> np.ndarray:
    if penalty == 1:
        return logits
    x = logits.copy()
    ids = np.flatnonzero(seen)
    values = x[ids]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x[ids] = np.where(values > 0, values / penalty, values * penalty)
    return x


def _largest(x: np.ndarray) -> np.float32:
    largest = np.fmax.reduce(x)  # ignores nan
    if not math.isfinite(largest):
        raise RefmoeError(f"the logits have no finite maximum (found {largest}): the weights or the state are broken")
    return largest


def _weights(x: np.ndarray, largest: np.float32, temperature: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """R5, R6: (e f32[n], c f32[n]) for ranked values x f32[m]. n < m where an e_r changes no sum: later ones, being
    smaller, change none either, so they can neither move S nor be drawn."""
    e, c = np.empty(x.size, np.float32), np.empty(x.size, np.float32)
    count = _accumulate(x, largest, temperature, e, c)
    return e[:count], c[:count]


@kernel
def _accumulate(x, largest, temperature, e, c):
    total = np.float32(0.0)
    for r in range(x.shape[0]):
        e[r] = exp32(np.float32(np.float32(x[r] - largest) / temperature))
        c[r] = np.float32(total + e[r])
        if c[r] == total:
            return r
        total = c[r]
    return x.shape[0]


@kernel
def _exponentials(x, largest, out):
    for i in range(x.shape[0]):
        value = x[i]
        out[i] = exp32(np.float32(value - largest)) if value == value else np.float32(0.0)
