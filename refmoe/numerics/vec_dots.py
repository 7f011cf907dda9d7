"""vec_dots - exact dot products of the codes of a row of W with those of a row of x (JIT only).

Codes of x are signed bytes above -128. A format gives the codes of W as bytes; a `Kind` says what they mean: signed
ones as they are, or small unsigned ones less an excess. There are three ways to the same sums: unsigned bytes
times signed ones, four products at a time (VNNI); the same with two products at a time (PAIRS, AVX2), where sums of
small codes stay in 16 bits as long as they fit; and 32-bit products anywhere else.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_constant
from numba.core.typing.typeof import typeof_impl

from refmoe.jit import intrinsic
from refmoe.numerics.vec import _FEATURES
from refmoe.numerics.vec_codes import (
    _I16,
    _I32,
    _I64,
    Ints,
    _const,
    _llvm,
    _read,
    _shuffle,
    bytes64,
    ints16,
)

VNNI = "+avx512vnni" in _FEATURES
PAIRS = "+avx2" in _FEATURES and not VNNI
ints8 = Ints(32, 8)
_WORDS, _BYTES, _SHORTS = _llvm(ints8), ir.VectorType(ir.IntType(8), 32), ir.VectorType(_I16, 16)  # of 32 bytes
_PART = ints8 if PAIRS else ints16


class Kind:
    """Codes in units of 32 or 16 columns: unsigned bytes up to `most`, `excess` more than the codes; most = 0: signed
    bytes. An argument of kernels that is known when they are compiled."""

    def __init__(self, unit, most=0, excess=0):
        self.unit, self.most, self.excess = unit, most, excess


class KindType(types.Type):
    """The type of one Kind."""

    def __init__(self, unit, most, excess):
        self.unit, self.most, self.fits = unit, most, 32767 // (127 * (most or 128))  # products in a sum of 16 bits
        self.excess = excess if most or not VNNI else 128  # of the bytes as they are multiplied
        super().__init__(name=f"Kind({unit},{most},{excess})")


register_default(KindType)(models.OpaqueModel)


@typeof_impl.register(Kind)
def _type_of_kind(value, context):
    return KindType(value.unit, value.most, value.excess)


@lower_constant(KindType)
def _constant_kind(context, builder, kind, value):
    return context.get_dummy_value()


def _number(name):
    @intrinsic
    def number(typingctx, kind):
        def codegen(context, builder, signature, args):
            return ir.Constant(_I64, getattr(signature.args[0], name))

        return types.int64(kind), codegen

    return number


unit_of, excess_of = _number("unit"), _number("excess")


def multiplied(builder, kind, codes):
    """64 bytes as the format gives them -> as they are multiplied."""
    return builder.xor(codes, _const(bytes64, 0x80)) if VNNI and not kind.most else codes


def _call(builder, name, result, *args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def quads(builder, sums, weights, codes):
    """VNNI: sums[l] + four products, of the unsigned bytes 4l .. 4l+3 of `weights` and the signed ones of `codes`."""
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", sums.type, sums, weights, codes)


def pairs(builder, kind, weights, codes):
    """PAIRS: of 32 bytes each, 16-bit sums of two products: at most 2 * 128 * 127."""
    if not kind.most:
        codes = _call(builder, "llvm.x86.avx2.psign.b", _BYTES, codes, weights)
        weights = _call(builder, "llvm.abs.v32i8", _BYTES, weights, ir.Constant(ir.IntType(1), 0))
    return _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, weights, codes)


def widened(builder, sums):
    """PAIRS: 16-bit sums added in twos, 32 bits."""
    return _call(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, sums, ir.Constant(_SHORTS, [1] * 16))


def twos(builder, weights, codes):
    """Of 64 signed bytes each, 32-bit sums of two products."""
    narrow, wide = ir.VectorType(_I16, 64), ir.VectorType(_I32, 64)
    products = builder.mul(*[builder.sext(builder.sext(v, narrow), wide) for v in (weights, codes)])
    return neighbours(builder, products)


def neighbours(builder, sums):
    """Lanes added in twos."""
    return builder.add(*[_shuffle(builder, sums, sums, range(first, sums.type.count, 2)) for first in (0, 1)])


@intrinsic
def row_dot(typingctx, kind, weights, where):
    """Partial sums of 64 columns of one row of W and of x at `where`, for sums_of_8 and sums_of_4: lane l is the sum of
    the four products 4l .. 4l+3. PAIRS: folded once more."""
    def codegen(context, builder, signature, args):
        kind, (_, weights, where) = signature.args[0], args
        codes = _read(builder, where, _llvm(bytes64))
        if VNNI:
            return quads(builder, _const(ints16, 0), multiplied(builder, kind, weights), codes)
        if not PAIRS:
            return neighbours(builder, twos(builder, weights, codes))
        halves = [pairs(builder, kind, *[_shuffle(builder, v, v, range(first, first + 32)) for v in (weights, codes)])
                  for first in (0, 32)]  # fmt: skip
        if kind.fits < 4:
            halves = [widened(builder, half) for half in halves]
        return _fold_words(builder, halves, kind.fits >= 4, *_INSIDE)[0]

    return _PART(kind, bytes64, types.int64), codegen


@intrinsic
def halves_dot(typingctx, kind, first, second, where):
    """VNNI: partial sums of four units of 32 columns of one row of W and of x at `where`, for sums_of_4. The first
    halves of the units come before the second ones, in W and in the 128 codes of x."""
    def codegen(context, builder, signature, args):
        sums = _const(ints16, 0)
        for weights, place in zip(args[1:3], (0, 64), strict=True):
            codes = _read(builder, builder.add(args[3], ir.Constant(_I64, place)), _llvm(bytes64))
            sums = quads(builder, sums, multiplied(builder, signature.args[0], weights), codes)
        return sums

    return ints16(kind, bytes64, bytes64, types.int64), codegen


# Words of two vectors that are added to those 1 or 4 further on. Inside both halves of a register, two neighbours:
# a0 a2 b0 b2, a4 a6 b4 b6; or the first half to the second.
_INSIDE, _ACROSS = ([0, 2, 8, 10, 4, 6, 12, 14], 1), ([0, 1, 2, 3, 8, 9, 10, 11], 4)


def _fold_words(builder, level, narrow, low, step):
    """Two vectors of 32 bytes become one; of 16-bit sums it is one of 16-bit sums."""
    found = []
    for two in zip(level[0::2], level[1::2], strict=True):
        words = [builder.bitcast(v, _WORDS) for v in two]
        parts = [_shuffle(builder, *words, [lane + more for lane in low]) for more in (0, step)]
        added = builder.add(*[builder.bitcast(part, _SHORTS) if narrow else part for part in parts])
        found.append(builder.bitcast(added, _WORDS))
    return found


def _sums_of_pairs(builder, kind, level, folds):
    """Sums of units after further folds, in 16 bits as long as they fit."""
    narrow = kind.fits >= 4
    for products, fold in zip((8, 16), folds, strict=False):
        if narrow and kind.fits < products:
            level, narrow = [widened(builder, builder.bitcast(v, _SHORTS)) for v in level], False
        level = _fold_words(builder, level, narrow, *fold)
    return [widened(builder, builder.bitcast(v, _SHORTS)) for v in level] if narrow else level


def _fold(builder, level, halves):
    """Neighbours within runs of 2h lanes added, for each h; two vectors become one."""
    for h in halves:
        low = [i for i in range(32) if i % (2 * h) < h]
        level = [builder.add(_shuffle(builder, a, b, low), _shuffle(builder, a, b, [i + h for i in low]))
                 for a, b in zip(level[0::2], level[1::2], strict=True)]
    return level[0]


@intrinsic
def sums_of_8(typingctx, kind, a0, a1, a2, a3, a4, a5, a6, a7):
    """Sums of 16 units of 32 columns from row_dot of 64 columns each."""
    def codegen(context, builder, signature, args):
        if not PAIRS:
            return _fold(builder, args[1:], (4, 2, 1))
        return _shuffle(builder, *_sums_of_pairs(builder, signature.args[0], args[1:], (_INSIDE, _ACROSS)), range(16))

    return ints16(kind, *[_PART] * 8), codegen


@intrinsic
def sums_of_4(typingctx, kind, a0, a1, a2, a3):
    """Sums of 16 units of 16 columns from row_dot of 64 columns each."""
    def codegen(context, builder, signature, args):
        if not PAIRS:
            return _fold(builder, args[1:], (2, 1))
        both = _sums_of_pairs(builder, signature.args[0], args[1:], (_INSIDE,))  # 0 2 4 6 1 3 5 7, each
        return _shuffle(builder, *both, [8 * (i // 8) + i % 8 // 2 + i % 2 * 4 for i in range(16)])

    return ints16(kind, *[_PART] * 4), codegen


@intrinsic
def no_part(typingctx):
    """Zeros like what row_dot returns."""
    return _PART(), lambda context, builder, signature, args: _const(_PART, 0)
