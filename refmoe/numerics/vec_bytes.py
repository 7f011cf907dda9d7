"""vec_bytes - sixteen bytes at a time: nibbles, bits and tables of quantised blocks, for the fast schedules (JIT only).

A `Bytes` is one LLVM vector of 16 x i8. Everything here is exact integer work; `signed` and `unsigned` end in f32 lanes
(numerics.vec), exactly. Addresses as in numerics.vec; nothing checks bounds.
"""

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models, register_default

from refmoe.jit import intrinsic
from refmoe.numerics.vec import _F32, _FEATURES, _I16, _I32, _I64, _V32, LANES, _splat, _widen, v32
from refmoe.numerics.vec_int import permute

WIDE = "+avx512f" in _FEATURES  # tables of sixteen f32 in a register
_I8 = ir.IntType(8)
_V8 = ir.VectorType(_I8, LANES)


class Bytes(types.Type):
    """16 lanes of one byte."""

    def __init__(self):
        super().__init__(name="Bytes16")


@register_default(Bytes)
class _BytesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _V8)


v8 = Bytes()


def _pointed(builder, where, kind):
    return builder.load(builder.inttoptr(where, kind.as_pointer()), align=1)


@intrinsic
def load_bytes(typingctx, where):
    """16 bytes at `where`."""
    return v8(types.int64), lambda context, builder, signature, args: _pointed(builder, args[0], _V8)


@intrinsic
def load_byte(typingctx, where):
    """One unsigned byte at `where`."""
    def codegen(context, builder, signature, args):
        return builder.zext(_pointed(builder, args[0], _I8), _I64)

    return types.int64(types.int64), codegen


@intrinsic
def load_short(typingctx, where):
    """One unsigned 16-bit number at `where`, low byte first."""
    def codegen(context, builder, signature, args):
        return builder.zext(_pointed(builder, args[0], _I16), _I64)

    return types.int64(types.int64), codegen


@intrinsic
def load_word(typingctx, where):
    """One unsigned 32-bit number at `where`, lowest byte first."""
    def codegen(context, builder, signature, args):
        return builder.zext(_pointed(builder, args[0], _I32), _I64)

    return types.int64(types.int64), codegen


@intrinsic
def join_words(typingctx, low, high):
    """Lanes 0..7 are the bytes of `low`, lowest first, lanes 8..15 those of `high`."""
    def codegen(context, builder, signature, args):
        words = ir.Constant(ir.VectorType(_I64, 2), ir.Undefined)
        for i in range(2):
            words = builder.insert_element(words, args[i], ir.Constant(_I32, i))
        return builder.bitcast(words, _V8)

    return v8(types.int64, types.int64), codegen


@intrinsic
def splat_half(typingctx, where):
    """16 f32 lanes with the binary16 number at `where`."""
    def codegen(context, builder, signature, args):
        return _widen(builder, _splat(builder, _pointed(builder, args[0], _I16)), types.int16)

    return v32(types.int64), codegen


@intrinsic
def spread_bits(typingctx, word):
    """Lane i is bit i of a number: 0 or 1."""
    def codegen(context, builder, signature, args):
        bits = builder.bitcast(builder.trunc(args[0], _I16), ir.VectorType(ir.IntType(1), LANES))
        return builder.zext(bits, _V8)

    return v8(types.int64), codegen


def _with_number(emit):
    @intrinsic
    def operation(typingctx, a, number):
        def codegen(context, builder, signature, args):
            return emit(builder, args[0], _splat(builder, builder.trunc(args[1], _I8)))

        return v8(v8, types.int64), codegen

    return operation


b_and = _with_number(lambda builder, a, b: builder.and_(a, b))
b_shr = _with_number(lambda builder, a, b: builder.lshr(a, b))
b_shl = _with_number(lambda builder, a, b: builder.shl(a, b))
b_sub = _with_number(lambda builder, a, b: builder.sub(a, b))


@intrinsic
def b_or(typingctx, a, b):
    """a | b, lane by lane."""
    return v8(v8, v8), lambda context, builder, signature, args: builder.or_(*args)


@intrinsic
def b_lookup(typingctx, table, index):
    """Lane i is table[index[i] & 15]; one instruction where the processor has one."""
    def codegen(context, builder, signature, args):
        found = ir.Constant(_V8, ir.Undefined)
        inside = builder.and_(args[1], ir.Constant(_V8, [15] * LANES))
        for i in range(LANES):
            at = ir.Constant(_I32, i)
            picked = builder.extract_element(args[0], builder.zext(builder.extract_element(inside, at), _I32))
            found = builder.insert_element(found, picked, at)
        return found

    return v8(v8, v8), codegen


@intrinsic
def signed(typingctx, a):
    """Bytes -128..127 as f32 lanes."""
    return v32(v8), lambda context, builder, signature, args: builder.sitofp(args[0], _V32)


@intrinsic
def unsigned(typingctx, a):
    """Bytes 0..255 as f32 lanes."""
    return v32(v8), lambda context, builder, signature, args: builder.uitofp(args[0], _V32)


@intrinsic
def small_e4m3(typingctx, where):
    """32 e4m3 codes at `where` as two vectors of f32 lanes, each number a 256th of its value; exact."""
    def codegen(context, builder, signature, args):
        half = ir.VectorType(_I16, 2 * LANES)  # the fields of a binary16 whose exponent is 8 too small

        def number(value):
            return ir.Constant(half, [value] * 2 * LANES)

        codes = _pointed(builder, args[0], ir.VectorType(_I8, 2 * LANES))
        field = builder.and_(builder.shl(builder.sext(codes, half), number(7)), number(0xBFFF))
        nan = builder.and_(builder.add(field, number(0x80)), number(0x4000))
        both = builder.or_(field, nan)
        places = [ir.Constant(ir.VectorType(_I32, LANES), list(range(first, first + LANES))) for first in (0, LANES)]
        parts = [_widen(builder, builder.shuffle_vector(both, both, some), types.int16) for some in places]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(v32, 2)(types.int64), codegen


@intrinsic
def upper_bytes(typingctx, a):
    """f32 lanes of the binary16 numbers with these upper bytes, and lower bytes of 0."""
    def codegen(context, builder, signature, args):
        half = ir.VectorType(_I16, LANES)
        wide = builder.shl(builder.zext(args[0], half), ir.Constant(half, [8] * LANES))
        return _widen(builder, wide, types.int16)

    return v32(v8), codegen


def _zipped(first):
    @intrinsic
    def zipped(typingctx, a, b):
        def codegen(context, builder, signature, args):
            order = [i // 2 + first + LANES * (i % 2) for i in range(LANES)]
            return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(_I32, LANES), order))

        return v8(v8, v8), codegen

    return zipped


zip_low, zip_high = _zipped(0), _zipped(8)  # bytes 0..7, or 8..15, of both, in turns


@intrinsic
def splat_number(typingctx, number):
    """16 f32 lanes with an integer below 2^24."""
    def codegen(context, builder, signature, args):
        return _splat(builder, builder.sitofp(args[0], _F32))

    return v32(types.int64), codegen


@intrinsic
def splat_bits(typingctx, bits):
    """16 f32 lanes with the pattern `bits` (its lower 32 bits)."""
    def codegen(context, builder, signature, args):
        return _splat(builder, builder.bitcast(builder.trunc(args[0], _I32), _F32))

    return v32(types.int64), codegen


@intrinsic
def pick(typingctx, table, index, shift):
    """Lane i is table[(index[i] >> shift) & 15], f32 lanes. With AVX-512 sixteen lanes take one instruction; elsewhere
    this is slow, and codes are better computed with (WIDE says which)."""
    def codegen(context, builder, signature, args):
        wide = ir.VectorType(_I32, LANES)
        at = builder.lshr(builder.zext(args[1], wide), _splat(builder, builder.trunc(args[2], _I32)))
        return permute(builder, args[0], at)

    return v32(v32, v8, types.int64), codegen
