"""vec_int - sixteen lanes of 32-bit integers and scalar loads of small types, for the fast schedules (JIT only).

Codes of quantised weights become integer lanes, are taken apart by masks and shifts, and end as f32 lanes
(numerics.vec), all of it exact. Addresses as in numerics.vec; nothing checks bounds.
"""

from llvmlite import ir
from numba.core import cgutils, types

from refmoe.jit import intrinsic
from refmoe.numerics.vec import _F32, _FEATURES, _I16, _I32, _I64, _V32, LANES, Vec, _binary, _const, _splat, v32

_I8 = ir.IntType(8)
_V8, _V16, _VI32 = (ir.VectorType(kind, LANES) for kind in (_I8, _I16, _I32))
SIXTEEN = -0x0123456789ABCDF0  # as sixteen nibbles, 0 to 15 (the pattern 0xFEDCBA9876543210)
_HALF = "+f16c" in _FEATURES or "+avx512f" in _FEATURES
_PERMUTE, _MULTISHIFT = "+avx512f" in _FEATURES, "+avx512vbmi" in _FEATURES
vi32 = Vec(types.int32)


def _scalar(kind, width, signed=False):
    """An intrinsic: the number of LLVM type `kind` at an address, as int64 (integers) or float32."""
    @intrinsic
    def load(typingctx, where):
        def codegen(context, builder, signature, args):
            value = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
            if kind == _F32:
                return value
            return value if width == 64 else (builder.sext if signed else builder.zext)(value, _I64)

        return (types.float32 if kind == _F32 else types.int64)(types.int64), codegen

    return load


load_u8, load_u16, load_i32, load_u32, load_i64 = (
    _scalar(_I8, 8), _scalar(_I16, 16), _scalar(_I32, 32, True), _scalar(_I32, 32), _scalar(_I64, 64))


@intrinsic
def float_of_bits(typingctx, bits):
    """The f32 whose pattern is the low half of an int64."""
    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.trunc(args[0], _I32), _F32)

    return types.float32(types.int64), codegen


@intrinsic
def load_codes(typingctx, where):
    """16 unsigned bytes at `where`, as integers."""
    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(builder.inttoptr(args[0], _V8.as_pointer()), align=1), _VI32)

    return vi32(types.int64), codegen


@intrinsic
def load_codes_partial(typingctx, where, count):
    """The first `count` (0..16) unsigned bytes at `where`, the other lanes 0; reads nothing beyond them."""
    def codegen(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", lanes, _splat(builder, args[1]))
        pointer = builder.inttoptr(args[0], _V8.as_pointer())
        kind = ir.FunctionType(_V8, [_V8.as_pointer(), _I32, mask.type, _V8])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16i8.p0")
        raw = builder.call(function, [pointer, ir.Constant(_I32, 1), mask, ir.Constant(_V8, [0] * LANES)])
        return builder.zext(raw, _VI32)

    return vi32(types.int64, types.int64), codegen


def _nibbles(builder, word, order):
    """Lane i begins with nibble order[i % 8] of half i // 8 of an int64."""
    if _MULTISHIFT:  # eight bits from any bit on
        single = builder.insert_element(ir.Constant(ir.VectorType(_I64, 8), ir.Undefined), word, ir.Constant(_I32, 0))
        words = builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(_I32, 8), [0] * 8))
        wide = ir.VectorType(_I8, 64)
        places = ir.Constant(wide, [4 * order[i // 4 % 8] + i // 32 * 32 for i in range(64)])
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [wide, wide]),
                                                  "llvm.x86.avx512.pmultishift.qb.512")  # fmt: skip
        return builder.bitcast(builder.call(function, [places, builder.bitcast(words, wide)]), _VI32)
    low, high = builder.trunc(word, _I32), builder.trunc(builder.lshr(word, ir.Constant(_I64, 32)), _I32)
    pair = ir.Constant(ir.VectorType(_I32, 2), ir.Undefined)
    for i, half in enumerate((low, high)):
        pair = builder.insert_element(pair, half, ir.Constant(_I32, i))
    halves = builder.shuffle_vector(pair, pair, ir.Constant(_VI32, [0] * 8 + [1] * 8))
    return builder.lshr(halves, ir.Constant(_VI32, [4 * nibble for nibble in order] * 2))


def _spread(order):
    @intrinsic
    def spread(typingctx, word):
        def codegen(context, builder, signature, args):
            return builder.and_(_nibbles(builder, args[0], order), _const(_VI32, 15))

        return vi32(types.int64), codegen

    return spread


spread4 = _spread(range(8))  # lane l is bits 4l .. 4l+3 of an int64


@intrinsic
def spread8(typingctx, low, high):
    """Lane l is byte l of two int64, the lowest byte first."""
    def codegen(context, builder, signature, args):
        pair = ir.Constant(ir.VectorType(_I64, 2), ir.Undefined)
        for i, half in enumerate(args):
            pair = builder.insert_element(pair, half, ir.Constant(_I32, i))
        return builder.zext(builder.bitcast(pair, _V8), _VI32)

    return vi32(types.int64, types.int64), codegen


vand = _binary(lambda builder, a, b: builder.and_(a, b))
vxor = _binary(lambda builder, a, b: builder.xor(a, b))
vor = _binary(lambda builder, a, b: builder.or_(a, b))
vshl = _binary(lambda builder, a, b: builder.shl(a, b))
vshr = _binary(lambda builder, a, b: builder.lshr(a, b))  # logical: zeros come in
viadd = _binary(lambda builder, a, b: builder.add(a, b))


@intrinsic
def to_float(typingctx, a):
    """Integer lanes as f32 lanes (exact below 2^24)."""
    return v32(vi32), lambda context, builder, signature, args: builder.sitofp(args[0], _V32)


@intrinsic
def as_float(typingctx, a):
    """The f32 lanes with these bit patterns."""
    return v32(vi32), lambda context, builder, signature, args: builder.bitcast(args[0], _V32)


@intrinsic
def put(typingctx, vector, index, value):
    """The vector with lane `index` replaced."""
    def codegen(context, builder, signature, args):
        return builder.insert_element(args[0], args[2], args[1])

    return vector(vector, types.int64, vector.element), codegen


@intrinsic
def keep(typingctx, vector, count):
    """The first `count` f32 lanes, +0 in the others."""
    def codegen(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", lanes, _splat(builder, args[1]))
        return builder.select(mask, args[0], _const(_V32, 0.0))

    return v32(v32, types.int64), codegen


def permute(builder, table, index):
    """Lane i is table[index[i] & 15], f32 lanes and LLVM's i32 lanes. With AVX-512 one instruction; elsewhere slow."""
    if _PERMUTE:
        kind = ir.FunctionType(_V32, [_V32, _VI32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.permvar.sf.512")
        return builder.call(function, [table, index])
    index, found = builder.and_(index, _const(_VI32, 15)), ir.Constant(_V32, ir.Undefined)
    for i in range(LANES):
        lane = ir.Constant(_I32, i)
        picked = builder.extract_element(table, builder.extract_element(index, lane))
        found = builder.insert_element(found, picked, lane)
    return found


@intrinsic
def choose_nibbles(typingctx, table, where):
    """Lane i is the entry of a table of 16 f32 lanes that nibble i of the 8 bytes at `where` names."""
    def codegen(context, builder, signature, args):
        word = builder.load(builder.inttoptr(args[1], _I64.as_pointer()), align=1)
        return permute(builder, args[0], _nibbles(builder, word, range(8)))

    return v32(v32, types.int64), codegen


@intrinsic
def nibble_words(typingctx, where):
    """Of the 64 nibbles of 32 bytes, lane i has nibbles i, 16 + i, 32 + i and 48 + i as lowest bits of its four bytes;
    the other bits are anything."""
    def codegen(context, builder, signature, args):
        kind = ir.VectorType(_I8, 32)
        raw = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        places = [i // 2 + 8 * n for i in range(LANES) for n in range(4)]
        words = builder.shuffle_vector(raw, raw, ir.Constant(ir.VectorType(_I32, 64), places))
        return builder.lshr(builder.bitcast(words, _VI32), ir.Constant(_VI32, [0, 4] * 8))

    return vi32(types.int64), codegen


@intrinsic(prefer_literal=True)
def local(typingctx, size):
    """Address of `size` bytes, a constant, that belong to the call of a kernel; 64-byte aligned."""
    count = size.literal_value

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once(builder, ir.ArrayType(_I8, count))
        place.align = 64
        return builder.ptrtoint(place, _I64)

    return types.int64(size), codegen


@intrinsic(prefer_literal=True)
def picked(typingctx, table, words, n):
    """Lane i is the entry of a table of 16 f32 lanes that the lowest bits of byte n of its word name."""
    shift = 8 * n.literal_value

    def codegen(context, builder, signature, args):
        return permute(builder, args[0], builder.lshr(args[1], _const(_VI32, shift)) if shift else args[1])

    return v32(v32, vi32, n), codegen


@intrinsic
def e4m3(typingctx, codes):
    """f32 lanes of e4m3 codes 0..255; exact."""
    def codegen(context, builder, signature, args):
        code = args[0]
        size = builder.and_(code, _const(_VI32, 0x7F))
        sign = builder.shl(builder.and_(code, _const(_VI32, 0x80)), _const(_VI32, 24))
        if _HALF:  # the fields of a binary16 with its exponent 8 too small: no slow subnormal binary32 appears
            half = builder.bitcast(builder.trunc(builder.shl(size, _const(_VI32, 7)), _V16),
                                   ir.VectorType(ir.HalfType(), LANES))
            value = builder.fmul(builder.fpext(half, _V32), _const(_V32, 256.0))
        else:
            fraction = builder.and_(size, _const(_VI32, 7))
            exponent = builder.lshr(size, _const(_VI32, 3))
            subnormal = builder.icmp_signed("==", exponent, _const(_VI32, 0))
            small = builder.fmul(builder.sitofp(fraction, _V32), _const(_V32, 2.0**-9))
            normal = builder.add(builder.shl(size, _const(_VI32, 20)), _const(_VI32, 120 << 23))
            value = builder.select(subnormal, small, builder.bitcast(normal, _V32))
        nan = builder.icmp_signed("==", size, _const(_VI32, 0x7F))
        bits = builder.select(nan, _const(_VI32, 0x7FC00000), builder.bitcast(value, _VI32))
        return builder.bitcast(builder.or_(bits, sign), _V32)

    return v32(vi32), codegen


@intrinsic
def e2m1(typingctx, codes):
    """f32 lanes of e2m1 codes 0..15; exact."""
    def codegen(context, builder, signature, args):
        size = builder.and_(args[0], _const(_VI32, 7))
        sign = builder.shl(builder.and_(args[0], _const(_VI32, 8)), _const(_VI32, 28))
        normal = builder.add(builder.shl(size, _const(_VI32, 22)), _const(_VI32, 126 << 23))
        half = builder.select(builder.icmp_signed("==", size, _const(_VI32, 1)), _const(_VI32, 0x3F000000),
                              _const(_VI32, 0))
        bits = builder.select(builder.icmp_signed("<", size, _const(_VI32, 2)), half, normal)
        return builder.bitcast(builder.or_(bits, sign), _V32)

    return v32(vi32), codegen


@intrinsic
def power(typingctx, codes):
    """f32 lanes of e8m0 codes 0..254: 2^(code - 127); exact, code 0 is subnormal."""
    def codegen(context, builder, signature, args):
        bits = builder.shl(args[0], _const(_VI32, 23))
        small = builder.icmp_signed("==", args[0], _const(_VI32, 0))
        return builder.bitcast(builder.select(small, _const(_VI32, 1 << 22), bits), _V32)

    return v32(vi32), codegen
