"""fma - binary32 fused multiply-add: a*b + c with one rounding.

Signature   a f32, b f32, c f32 -> y f32
Semantics   y = RN32(a*b + c), the exact value rounded once (IEEE 754 fusedMultiplyAdd), subnormals kept
Origin      IEEE 754-2019 section 5.4.1

Compiled code uses the processor's instruction (or libm's exact fmaf where there is none). The Python version below is
the same function in exact steps: the product of two binary32 numbers is exact in binary64; the sum is rounded to odd
in binary64 (the error of the addition is known exactly, by Knuth's two-sum), so that the final rounding to binary32
sees on which side of a midpoint the exact value lies.
"""

import math

import numpy as np
from llvmlite import ir
from numba.core import types

from refmoe.jit import intrinsic, overload


def fma(a, b, c):
    """RN32(a*b + c) for np.float32 scalars."""
    product = float(a) * float(b)
    addend = float(c)
    total = product + addend
    if not math.isfinite(total):
        return np.float32(total)
    part = total - product
    error = (product - (total - part)) + (addend - part)
    if error != 0.0 and _is_even(total):
        total = math.nextafter(total, math.inf if error > 0.0 else -math.inf)
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(total)


def _is_even(value):
    """True when the last significand bit of a finite binary64 value is 0."""
    mantissa, _ = math.frexp(value)
    return int(mantissa * 9007199254740992.0) % 2 == 0  # 2**53


@intrinsic
def _fma_instruction(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        f32 = ir.FloatType()
        function = builder.module.declare_intrinsic("llvm.fma", [f32], ir.FunctionType(f32, [f32, f32, f32]))
        return builder.call(function, args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@overload(fma)
def _fma_compiled(a, b, c):
    if a == b == c == types.float32:
        return lambda a, b, c: _fma_instruction(a, b, c)
    return None
