"""Prove exp32 and sincos32 of refmoe.numerics.elementary correctly rounded, for every binary32 input.

    python scripts/prove_elementary.py                     # every input: about 200 seconds on one core
    python scripts/prove_elementary.py --stride 101        # every 101st
    python scripts/prove_elementary.py --function sincos --range 8192 16384

Oracle: numpy's longdouble functions (x87 extended precision, 64-bit mantissa). An input whose oracle value lies within
2^-60 (relative) of a midpoint of two neighbours is decided by mpmath at 300 bits instead. The oracle's own error is
measured against mpmath on random inputs of the range and must stay below 2^-62. Needs mpmath. Exit status 1 on a miss.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np

from refmoe.jit import kernel
from refmoe.numerics.elementary import exp32, sincos32

CHUNK = 1 << 19
SIGN = 1 << 31
ONE = np.float32(1.0)
ORACLE = {"exp": (np.exp, mpmath.exp), "sin": (np.sin, mpmath.sin), "cos": (np.cos, mpmath.cos)}


@kernel
def fill_exp(x, out):
    for i in range(x.size):
        out[i] = exp32(x[i])


@kernel
def fill_sincos(x, sine, cosine):
    for i in range(x.size):
        sine[i], cosine[i] = sincos32(x[i])


def computed_exp(x):
    out = np.empty_like(x)
    fill_exp(x, out)
    return out


def computed_sincos(x):
    sine, cosine = np.empty_like(x), np.empty_like(x)
    fill_sincos(x, sine, cosine)
    return sine, cosine


def misses(got, want):
    """Number of unequal bit patterns (so -0 is not +0), with the nan patterns taken as one."""
    return int(np.count_nonzero((got.view(np.uint32) != want.view(np.uint32)) & ~(np.isnan(got) & np.isnan(want))))


def correctly_rounded(name, x):
    """RN32(function(x)) by the oracle, and how many values mpmath had to decide."""
    wide, exact = ORACLE[name]
    y = wide(x.astype(np.longdouble))
    margin = np.longdouble(2.0) ** -60
    low, high = (y - y * margin).astype(np.float32), (y + y * margin).astype(np.float32)
    close = np.flatnonzero(low != high)
    for i in close:
        a, b = mpmath.mpf(float(low[i])), mpmath.mpf(float(high[i]))
        value, middle = exact(mpmath.mpf(float(x[i]))), (a + b) / 2
        low[i] = low[i] if abs(value) < abs(middle) else high[i]
    return low, close.size


def check_exp(x):
    want, close = correctly_rounded("exp", x)
    return {"exp": (x.size, close, misses(computed_exp(x), want))}


def check_exp_saturated(x):
    """|x| < 2^-26 gives 1, since |e^x - 1| is below half a unit in the last place; |x| >= 128 gives inf or 0."""
    want = np.where(np.abs(x) < 2.0**-26, ONE, np.where(x > 0, np.float32(np.inf), np.float32(0.0)))
    return {"exp, saturated": (x.size, 0, misses(computed_exp(x), np.where(np.isnan(x), x, want)))}


def check_sincos(x):
    """Both functions at x against the oracle, and at -x against the symmetry."""
    got, mirrored = computed_sincos(x), computed_sincos(-x)
    rows = {}
    for name, value in zip(("sin", "cos"), got, strict=True):
        want, close = correctly_rounded(name, x)
        rows[name] = (x.size, close, misses(value, want))
    rows["sin, cos of -x"] = (x.size, 0, misses(mirrored[0], -got[0]) + misses(mirrored[1], got[1]))
    return rows


def check_sincos_saturated(x):
    """|x| < 2^-13 gives (x, 1): x - sin x < x 2^-28 and 1 - cos x < 2^-26; |x| >= 2^22 and nan give nan."""
    sine, cosine = computed_sincos(x)
    inside = np.abs(x) < 2.0**-13
    nan = np.float32(np.nan)
    wrong = misses(sine, np.where(inside, x, nan)) + misses(cosine, np.where(inside, ONE, nan))
    return {"sin, cos, saturated": (x.size, 0, wrong)}


def bits(value):
    return int(np.float32(value).view(np.uint32))


# function -> [(check, names of oracles, first bit pattern, end bit pattern)]
EXP = [
    (check_exp, ("exp",), bits(2.0**-26), bits(128.0)),
    (check_exp, ("exp",), SIGN + bits(2.0**-26), SIGN + bits(128.0)),
    (check_exp_saturated, (), 0, bits(2.0**-26)),
    (check_exp_saturated, (), bits(128.0), SIGN),
    (check_exp_saturated, (), SIGN, SIGN + bits(2.0**-26)),
    (check_exp_saturated, (), SIGN + bits(128.0), 1 << 32),
]
SINCOS = [
    (check_sincos, ("sin", "cos"), bits(2.0**-13), bits(2.0**22)),
    (check_sincos_saturated, (), 0, bits(2.0**-13)),
    (check_sincos_saturated, (), bits(2.0**22), SIGN),
    (check_sincos_saturated, (), SIGN, SIGN + bits(2.0**-13)),
    (check_sincos_saturated, (), SIGN + bits(2.0**22), 1 << 32),
]


def oracle_error(name, first, end):
    """log2 of the largest relative error of the longdouble function on 2000 random inputs, measured by mpmath."""
    x = np.random.default_rng(1).integers(first, end, 2000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    wide, exact = ORACLE[name]
    worst = mpmath.mpf(0)
    for value, y in zip(x, wide(x.astype(np.longdouble)), strict=True):
        high = np.float64(y)
        got = mpmath.mpf(float(high)) + mpmath.mpf(float(y - np.longdouble(high)))  # both parts are exact
        want = exact(mpmath.mpf(float(value)))
        worst = max(worst, abs(got / want - 1))
    return float(mpmath.log(worst, 2)) if worst else -300.0


def limited(job, limits):
    """The part of a job inside the asked range of |x|."""
    check, names, first, end = job
    sign = first & SIGN
    low, high = sign + bits(limits[0]), sign + bits(limits[1])
    return check, names, max(first, low), min(end, high)


def work(check, start, end, stride):
    patterns = np.arange(start, min(end, start + CHUNK * stride), stride, dtype=np.uint64).astype(np.uint32)
    with np.errstate(all="ignore"):
        return check(patterns.view(np.float32))


def run(job, stride, threads, totals):
    check, _, first, end = job
    starts = range(first, end, CHUNK * stride)
    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for done, rows in enumerate(pool.map(lambda start: work(check, start, end, stride), starts), 1):
            for name, row in rows.items():
                totals[name] = tuple(a + b for a, b in zip(totals.get(name, (0, 0, 0)), row, strict=True))
            left = (time.monotonic() - began) / done * (len(starts) - done)
            print(f"\r{check.__name__} {done}/{len(starts)}, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--function", choices=("exp", "sincos", "all"), default="all")
    parser.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="only LOW <= |x| < HIGH")
    parser.add_argument("--stride", type=int, default=1, help="every STRIDE-th bit pattern (1: all)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    mpmath.mp.prec = 300
    if np.finfo(np.longdouble).nmant < 63:
        sys.exit("this machine's longdouble has less than 64 bits of mantissa: no oracle")
    jobs = (EXP if options.function != "sincos" else []) + (SINCOS if options.function != "exp" else [])
    if options.range:
        jobs = [job for job in (limited(job, options.range) for job in jobs) if job[2] < job[3]]
    errors, totals = {}, {}
    began = time.monotonic()
    for job in jobs:
        for name in job[1]:
            errors[name] = max(errors.get(name, -300.0), oracle_error(name, *job[2:]))
        run(job, options.stride, options.threads, totals)
    print(f"{'function':22}{'inputs':>14}{'by mpmath':>12}{'misrounded':>12}")
    for name, row in totals.items():
        print(f"{name:22}{row[0]:14,}{row[1]:12,}{row[2]:12,}")
    for name, error in errors.items():
        print(f"oracle error of {name}: 2^{error:.2f} at most on the sample")
    print(f"stride {options.stride}, {time.monotonic() - began:.0f} s")
    sys.exit(any(row[2] for row in totals.values()) or any(error > -62 for error in errors.values()))


if __name__ == "__main__":
    main()
