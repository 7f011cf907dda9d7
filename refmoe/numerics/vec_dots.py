"""vec_dots - exact dot products of codes, and how codes must stand for them (JIT only).

A panel vector holds 64 bytes: for each of 16 rows of W four codes as unsigned bytes (code + 128) where the processor
multiplies those (VNNI), else two codes as signed 16-bit numbers. QUAD is how many codes a row has in it. Codes of x are
signed bytes, or 16-bit numbers. A `Unit` is a number of panel vectors in registers.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default

from refmoe.jit import intrinsic
from refmoe.numerics.vec import _FEATURES
from refmoe.numerics.vec_codes import (
    _I16,
    _I32,
    _I64,
    _const,
    _llvm,
    _read,
    _shuffle,
    _splat,
    _write,
    bytes16,
    bytes64,
    ints16,
)

VNNI = "+avx512vnni" in _FEATURES
QUAD = 4 if VNNI else 2
CODE_BYTES = 4 // QUAD  # of one code in a panel and in a quantised row of x


class Unit(types.Type):
    """`count` panel vectors in registers."""

    def __init__(self, count):
        self.count = count
        super().__init__(name=f"Unit({count})")


@register_default(Unit)
class _UnitModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(_llvm(ints16), fe_type.count))


# ---- memory --------------------------------------------------------------------------------------------------------

@intrinsic
def store_panel_row(typingctx, where, codes):
    """Signed codes of one row as panel vectors hold them: 64 * CODE_BYTES bytes."""
    def codegen(context, builder, signature, args):
        wide = builder.xor(args[1], _const(bytes64, 0x80)) if VNNI else builder.sext(args[1], ir.VectorType(_I16, 64))
        _write(builder, args[0], wide)
        return context.get_dummy_value()

    return types.none(types.int64, bytes64), codegen


@intrinsic
def nibble_columns(typingctx, words):
    """Eight nibbles of 16 words, one for each row: bytes of the first four and of the last four, row after row."""
    def codegen(context, builder, signature, args):
        low = builder.bitcast(builder.and_(args[0], _const(ints16, 0x0F0F0F0F)), _llvm(bytes64))  # nibbles 0, 2, 4, 6
        high = builder.lshr(args[0], _const(ints16, 4))
        high = builder.bitcast(builder.and_(high, _const(ints16, 0x0F0F0F0F)), _llvm(bytes64))
        parts = [_shuffle(builder, low, high, [4 * row + first + i + 64 * odd for row in range(16) for i in (0, 1)
                                               for odd in (0, 1)]) for first in (0, 2)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(bytes64, 2)(ints16), codegen


@intrinsic
def awq_rows(typingctx, c0, c1, c2, c3):
    """Four columns of 32 rows, 16 bytes each in the order of AWQ: bytes of the first 16 rows and of the last, row after
    row, four columns of each."""
    def codegen(context, builder, signature, args):
        pairs = [_shuffle(builder, args[i], args[i + 1], range(32)) for i in (0, 2)]
        both = _shuffle(builder, *pairs, range(64))
        low, high = builder.and_(both, _const(bytes64, 15)), builder.lshr(both, _const(bytes64, 4))
        place = (0, 2, 64, 66, 1, 3, 65, 67)  # of eight rows in a word: byte, and 64 for its high nibble
        parts = [_shuffle(builder, low, high, [16 * column + 4 * (row // 8) + place[row % 8]
                                               for row in range(first, first + 16) for column in range(4)])
                 for first in (0, 16)]  # fmt: skip
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(bytes64, 2)(*[bytes16] * 4), codegen


@intrinsic
def store_turned(typingctx, where, step, codes):
    """Signed codes of 16 rows, four of each: 1 panel vector at `where`, or 2 that are `step` bytes apart."""
    def codegen(context, builder, signature, args):
        where, step, codes = args
        if VNNI:
            _write(builder, where, builder.xor(codes, _const(bytes64, 0x80)))
            return context.get_dummy_value()
        for first in (0, 2):
            pairs = _shuffle(builder, codes, codes, [4 * row + first + i for row in range(16) for i in range(2)])
            _write(builder, where, builder.sext(pairs, ir.VectorType(_I16, 32)))
            where = builder.add(where, step)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, bytes64), codegen


@intrinsic
def store_codes(typingctx, where, codes):
    """16 codes of x (i32 lanes) as products take them: signed bytes, or 16-bit numbers."""
    def codegen(context, builder, signature, args):
        _write(builder, args[0], builder.trunc(args[1], ir.VectorType(ir.IntType(8 * CODE_BYTES), 16)))
        return context.get_dummy_value()

    return types.none(types.int64, ints16), codegen


@intrinsic
def transpose16(typingctx, source, source_step, target, step):
    """16 vectors of 16 words of 32 bits, at source + i * source_step; word j of all goes to target + j * step."""
    def codegen(context, builder, signature, args):
        source, source_step, target, step = args
        places = [builder.add(source, builder.mul(source_step, ir.Constant(_I64, i))) for i in range(16)]
        rows = [_read(builder, place, _llvm(ints16)) for place in places]
        for h in (1, 2, 4, 8):  # exchange the blocks off the diagonal, of 1, 2, 4, 8 words
            low = [lane if not lane & h else 16 + lane - h for lane in range(16)]
            high = [lane + h if not lane & h else 16 + lane for lane in range(16)]
            new = list(rows)
            for i in range(16):
                if not i & h:
                    new[i] = _shuffle(builder, rows[i], rows[i + h], low)
                    new[i + h] = _shuffle(builder, rows[i], rows[i + h], high)
            rows = new
        for j, row in enumerate(rows):
            _write(builder, builder.add(target, builder.mul(step, ir.Constant(_I64, j))), row)
        return context.get_dummy_value()

    return types.none(*[types.int64] * 4), codegen


# ---- exact products ------------------------------------------------------------------------------------------------

@intrinsic(prefer_literal=True)
def load_unit(typingctx, where, count):
    """`count` panel vectors, one after the other."""
    kind = Unit(count.literal_value)

    def codegen(context, builder, signature, args):
        unit = ir.Constant(ir.ArrayType(_llvm(ints16), kind.count), ir.Undefined)
        for i in range(kind.count):
            vector = _read(builder, builder.add(args[0], ir.Constant(_I64, 64 * i)), _llvm(ints16))
            unit = builder.insert_value(unit, vector, i)
        return unit

    return kind(types.int64, count), codegen


def _dot(builder, sums, weights, codes):
    """sums[r] + the products of the codes of row r with those of x, which are in all lanes alike."""
    if VNNI:
        vector = _llvm(bytes64)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(sums.type, [sums.type, vector, vector]), "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(function, [sums, builder.bitcast(weights, vector), builder.bitcast(codes, vector)])
    narrow, wide = ir.VectorType(_I16, 32), ir.VectorType(_I32, 32)
    products = builder.mul(*[builder.sext(builder.bitcast(v, narrow), wide) for v in (weights, codes)])
    even, odd = (_shuffle(builder, products, products, range(first, 32, 2)) for first in (0, 1))
    return builder.add(sums, builder.add(even, odd))


@intrinsic
def unit_dots(typingctx, unit, where, start):
    """Two vectors of 16 rows: start + the dot product of each row's codes with the codes of x at `where`. The vectors
    of a unit belong to the first and to the second 16 rows in turn."""
    def codegen(context, builder, signature, args):
        unit, where, start = args
        sums = [start, start]
        for i in range(signature.args[0].count):
            if i % 2 == 0:
                word = _read(builder, builder.add(where, ir.Constant(_I64, 2 * i)), _I32)
                codes = _splat(builder, word, 16)
            sums[i % 2] = _dot(builder, sums[i % 2], builder.extract_value(unit, i), codes)
        return context.make_tuple(builder, signature.return_type, sums)

    return types.UniTuple(ints16, 2)(unit, types.int64, ints16), codegen


@intrinsic
def row_dot(typingctx, weights, where):
    """Lane l is the sum of four products, codes 4l .. 4l+3 of one row (64 signed bytes) and of x at `where`. With VNNI
    codes + 128 are multiplied: 128 times the sum of the codes of x too much."""
    def codegen(context, builder, signature, args):
        weights, where = args
        zero = _const(ints16, 0)
        if VNNI:
            shifted = builder.xor(weights, _const(bytes64, 0x80))
            return _dot(builder, zero, shifted, _read(builder, where, _llvm(bytes64)))
        sums = []
        for first in (0, 32):
            half = _shuffle(builder, weights, weights, range(first, first + 32))
            codes = _read(builder, builder.add(where, ir.Constant(_I64, 2 * first)), ir.VectorType(_I16, 32))
            sums.append(_dot(builder, zero, builder.sext(half, codes.type), codes))
        return _fold(builder, sums, (1,))

    return ints16(bytes64, types.int64), codegen


def _fold(builder, level, halves):
    """Neighbours within runs of 2h lanes added, for each h; two vectors become one."""
    for h in halves:
        low = [i for i in range(32) if i % (2 * h) < h]
        level = [builder.add(_shuffle(builder, a, b, low), _shuffle(builder, a, b, [i + h for i in low]))
                 for a, b in zip(level[0::2], level[1::2], strict=True)]
    return level[0]


@intrinsic
def sums_of_8(typingctx, a0, a1, a2, a3, a4, a5, a6, a7):
    """Lane 2i + j is the sum of lanes 8j .. 8j+7 of vector i."""
    return ints16(*[ints16] * 8), lambda context, builder, signature, args: _fold(builder, args, (4, 2, 1))


@intrinsic
def sums_of_4(typingctx, a0, a1, a2, a3):
    """Lane 4i + j is the sum of lanes 4j .. 4j+3 of vector i."""
    return ints16(*[ints16] * 4), lambda context, builder, signature, args: _fold(builder, args, (2, 1))
