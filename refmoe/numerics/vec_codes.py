"""vec_codes - vectors of integers for the fast schedules (JIT only): codes of weights, exact dot products of codes.

An `Ints` is one LLVM vector of `lanes` integers of `bits` bits; whether they are signed is a matter of the operation.
As in vec, LLVM maps it to the registers of the processor, everything is exact, and nothing here checks bounds.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default

from refmoe.jit import intrinsic
from refmoe.numerics.vec import v32

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


class Ints(types.Type):
    """`lanes` integers of `bits` bits."""

    def __init__(self, bits, lanes):
        self.bits, self.lanes = bits, lanes
        super().__init__(name=f"Ints({bits},{lanes})")


@register_default(Ints)
class _IntsModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _llvm(fe_type))


bytes16, bytes32, bytes64, ints16 = Ints(8, 16), Ints(8, 32), Ints(8, 64), Ints(32, 16)


def _llvm(kind):
    return ir.VectorType(ir.IntType(kind.bits), kind.lanes)


def _const(kind, value):
    return ir.Constant(_llvm(kind), [value] * kind.lanes)


def _shuffle(builder, a, b, places):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), list(places)))


def _splat(builder, scalar, lanes):
    kind = ir.VectorType(scalar.type, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return _shuffle(builder, single, ir.Constant(kind, ir.Undefined), [0] * lanes)


def _read(builder, where, kind):
    return builder.load(builder.inttoptr(where, kind.as_pointer()), align=1)


def _write(builder, where, value):
    builder.store(value, builder.inttoptr(where, value.type.as_pointer()), align=1)


# ---- memory, at any address ----------------------------------------------------------------------------------------

def _loader(kind):
    @intrinsic
    def load(typingctx, where):
        return kind(types.int64), lambda context, builder, signature, args: _read(builder, args[0], _llvm(kind))

    return load


load_bytes16, load_bytes32, load_bytes64, load_ints = map(_loader, (bytes16, bytes32, bytes64, ints16))


@intrinsic
def load_some_ints(typingctx, where, count):
    """The first `count` (0..16) of 16 words of 32 bits, 0 for the others; reads nothing beyond them."""
    def codegen(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(_I64, 16), list(range(16)))
        inside = builder.icmp_signed("<", lanes, _splat(builder, args[1], 16))
        pointer = builder.inttoptr(args[0], _llvm(ints16).as_pointer())
        kind = ir.FunctionType(_llvm(ints16), [pointer.type, _I32, inside.type, _llvm(ints16)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16i32.p0")
        return builder.call(function, [pointer, ir.Constant(_I32, 1), inside, _const(ints16, 0)])

    return ints16(types.int64, types.int64), codegen


@intrinsic
def copy_byte(typingctx, source, target):
    """One byte from one address to another."""
    def codegen(context, builder, signature, args):
        _write(builder, args[1], _read(builder, args[0], _I8))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


@intrinsic
def load_int(typingctx, where):
    """One i32."""
    return types.int32(types.int64), lambda context, builder, signature, args: _read(builder, args[0], _I32)


@intrinsic
def store_ints(typingctx, where, values):
    """16 words of 32 bits."""
    def codegen(context, builder, signature, args):
        _write(builder, *args)
        return context.get_dummy_value()

    return types.none(types.int64, ints16), codegen


@intrinsic
def store_int(typingctx, where, value):
    """Store the lower 32 bits of an integer."""
    def codegen(context, builder, signature, args):
        value = args[1] if args[1].type == _I32 else builder.trunc(args[1], _I32)
        _write(builder, args[0], value)
        return context.get_dummy_value()

    return types.none(types.int64, value), codegen


# ---- arithmetic ----------------------------------------------------------------------------------------------------

def _binary(name):
    @intrinsic
    def operation(typingctx, a, b):
        if not (isinstance(a, Ints) and a == b):
            raise TypeError("two vectors of one kind expected")
        return a(a, b), lambda context, builder, signature, args: getattr(builder, name)(*args)

    return operation


iadd, isub, ior = map(_binary, ("add", "sub", "or_"))


@intrinsic
def imax(typingctx, a, b):
    """The larger of two signed integers, lane by lane."""
    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed(">", *args), *args)

    return ints16(ints16, ints16), codegen


def _with_number(name):
    @intrinsic
    def operation(typingctx, a, number):
        def codegen(context, builder, signature, args):
            kind = signature.args[0]
            scalar = builder.trunc(args[1], ir.IntType(kind.bits))
            return getattr(builder, name)(args[0], _splat(builder, scalar, kind.lanes))

        return a(a, types.int64), codegen

    return operation


# The same number for every lane.
shift_left, shift_right, mask, minus, times = map(_with_number, ("shl", "lshr", "and_", "sub", "mul"))


@intrinsic
def first_lanes(typingctx, a, b, count):
    """The first `count` f32 lanes of a, the others of b."""
    def codegen(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(_I64, 16), list(range(16)))
        return builder.select(builder.icmp_signed("<", lanes, _splat(builder, args[2], 16)), args[0], args[1])

    return v32(v32, v32, types.int64), codegen


@intrinsic
def isplat(typingctx, value):
    """All 16 lanes equal to an i32."""
    def codegen(context, builder, signature, args):
        return _splat(builder, args[0] if args[0].type == _I32 else builder.trunc(args[0], _I32), 16)

    return ints16(value), codegen


@intrinsic
def join(typingctx, low, high):
    """Both vectors, one after the other."""
    kind = Ints(low.bits, 2 * low.lanes)
    return kind(low, high), lambda context, builder, signature, args: _shuffle(builder, *args, range(kind.lanes))


@intrinsic
def bits(typingctx, a):
    """The patterns of 16 f32 lanes."""
    return ints16(v32), lambda context, builder, signature, args: builder.bitcast(args[0], _llvm(ints16))


@intrinsic
def to_bytes(typingctx, words):
    """The bytes of 16 words, lowest first."""
    return bytes64(ints16), lambda context, builder, signature, args: builder.bitcast(args[0], _llvm(bytes64))


@intrinsic
def to_float(typingctx, a):
    """i32 lanes as f32 lanes; exact below 2^24."""
    return v32(ints16), lambda context, builder, signature, args: builder.sitofp(args[0], ir.VectorType(_F32, 16))


def _reduction(name):
    @intrinsic
    def reduced(typingctx, a):
        def codegen(context, builder, signature, args):
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_I32, [_llvm(ints16)]), f"llvm.vector.reduce.{name}.v16i32")
            return builder.call(function, args)

        return types.int32(ints16), codegen

    return reduced


largest, total = _reduction("smax"), _reduction("add")  # of 16 i32 lanes
