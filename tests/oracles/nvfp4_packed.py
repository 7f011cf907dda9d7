"""nvfp4_packed: one element after the other; the scale of a group is divided by the tensor's, rounded."""

from fractions import Fraction

import numpy as np

from tests.oracles.arithmetic import rn32
from tests.oracles.formats import FP4_MUTANTS, e4m3, fp4, ieee, rounded


def _scale(s, g):
    return rn32(Fraction(s) / Fraction(g), zero=s) if s == s else s


def _decode(rows, cols, params, *, code8=e4m3, scale_by=_scale, **stored):
    changes = {key: stored.pop(key) for key in list(stored) if key in ("half", "code", "scale", "product")}
    whole = ieee(int(np.ascontiguousarray(stored["weight_global_scale"]).reshape(-1).view(np.uint32)[0]), 8, 23)
    scales = [scale_by(code8(int(code)), whole) for code in stored["weight_scale"].reshape(-1)]
    return fp4(rows, cols, stored["weight_packed"], scales, 16, **changes)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


def _exponent_kept(code):
    """The exponent field moved to binary32 without its new bias."""
    return ieee((code & 128) << 24 | (code & 127) << 20, 8, 23)


def _once(a, s):
    return np.float32(rn32(Fraction(a) * s)) if a and s else np.float32(a * float(s))


MUTANTS = {key: _with(**changes) for key, changes in FP4_MUTANTS.items()} | {
    "Q09": _with(code8=_exponent_kept),
    "Q13": _with(scale_by=lambda s, g: float(np.float32(s * g))),
    "global_left_out": _with(scale_by=lambda s, g: s),
    "scale_in_bf16": _with(scale_by=lambda s, g: rounded("BF16", _scale(s, g))),
    "one_rounding": _with(scale_by=lambda s, g: Fraction(s) / Fraction(g), product=_once),
}
