"""mxfp4_blocks: one element after the other."""

import math

from tests.oracles.formats import FP4_MUTANTS, e8m0, fp4


def _decode(rows, cols, params, *, power=e8m0, **stored):
    changes = {key: stored.pop(key) for key in list(stored) if key in ("half", "code", "scale", "product")}
    scales = [power(int(code)) for code in stored["_scales"].reshape(-1)]
    return fp4(rows, cols, stored["_blocks"], scales, 32, **changes)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


MUTANTS = {key: _with(**changes) for key, changes in FP4_MUTANTS.items()} | {
    "Q08": (_with(power=lambda code: math.ldexp(1.0, code) if code != 255 else math.nan),
            _with(power=lambda code: math.ldexp(1.0, code - 254) if code != 255 else math.nan)),
    "scale_zero_is_zero": _with(power=lambda code: e8m0(code) if code else 0.0),
    "signed_exponent": _with(power=lambda code: math.ldexp(1.0, code - 256 * (code > 127))),
}
