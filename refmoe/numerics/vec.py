"""vec - sixteen-lane vectors and register tiles for the fast schedules (JIT only).

A `Vec` is one LLVM vector of 16 elements; a `Tile` is rows x cols such vectors, held in registers. LLVM maps a vector
to one AVX-512 register, two AVX, four SSE or four NEON registers: the same sixteen lanes and the same roundings
everywhere, so the processor decides speed and nothing else. Only explicit operations are emitted (no fast-math flags).

Addresses are int64 byte addresses. Nothing here checks bounds: the callers own and have checked every buffer.
A `tag` is an empty NumPy array whose dtype names the stored element: float32, uint16 for bfloat16, int16 for binary16
(Numba has no arrays of either).
"""

import platform

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.registry import cpu_target
from numba.np.arrayobj import populate_array

from refmoe.jit import intrinsic

LANES = 16
_F32, _F64, _I16, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_V32, _V64 = ir.VectorType(_F32, LANES), ir.VectorType(_F64, LANES)
_FEATURES = cpu_target.target_context.codegen()._tm_features.split(",")

# Register tile of the matrix product, rows of W x rows of x: what fits the register file. It decides speed only.
TILE_ROWS, TILE_COLS = (4, 4) if "+avx512f" in _FEATURES else (2, 3)


class Vec(types.Type):
    """16 lanes of float32, float64 or int32."""

    def __init__(self, element):
        self.element = element
        super().__init__(name=f"Vec16({element})")


class Tile(types.Type):
    """rows x cols vectors of 16 float32 lanes."""

    def __init__(self, rows, cols):
        self.rows, self.cols = rows, cols
        super().__init__(name=f"Tile({rows},{cols})")


@register_default(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = {types.float32: _F32, types.float64: _F64, types.int32: _I32}[fe_type.element]
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


@register_default(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(_V32, fe_type.rows * fe_type.cols))


v32, v64 = Vec(types.float32), Vec(types.float64)


def _pointer(builder, address, element, alignment=None):
    return builder.inttoptr(address, element.as_pointer())


def _const(vector_type, value):
    return ir.Constant(vector_type, [value] * LANES)


def _splat(builder, scalar):
    vector_type = ir.VectorType(scalar.type, LANES)
    single = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, ir.Constant(vector_type, ir.Undefined),
                                  ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _fma_vectors(builder, a, b, c):
    name = f"llvm.fma.v16{a.type.element.intrinsic_name}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
    return builder.call(function, [a, b, c])


def _widen(builder, raw, dtype):
    """Stored elements -> <16 x float>; exact."""
    if dtype == types.float32:
        return raw
    if dtype == types.uint16:  # bfloat16: the upper half of a binary32
        wide = builder.zext(raw, ir.VectorType(_I32, LANES))
        return builder.bitcast(builder.shl(wide, _const(wide.type, 16)), _V32)
    if "+f16c" in _FEATURES or "+avx512f" in _FEATURES:
        return builder.fpext(builder.bitcast(raw, ir.VectorType(ir.HalfType(), LANES)), _V32)
    # binary16 by integers: move the fields up, multiply by 2**112 (exact, subnormals included), mend inf and nan.
    wide = builder.zext(raw, ir.VectorType(_I32, LANES))
    sign = builder.shl(builder.and_(wide, _const(wide.type, 0x8000)), _const(wide.type, 16))
    field = builder.and_(wide, _const(wide.type, 0x7FFF))
    moved = builder.shl(field, _const(wide.type, 13))
    scaled = builder.fmul(builder.bitcast(moved, _V32), _const(_V32, float(2.0**112)))
    special = builder.or_(moved, _const(wide.type, 0x7F800000))
    is_special = builder.icmp_unsigned(">=", field, _const(wide.type, 0x7C00))
    value = builder.select(is_special, special, builder.bitcast(scaled, wide.type))
    return builder.bitcast(builder.or_(value, sign), _V32)


def _raw_type(dtype):
    return {types.float32: _F32, types.uint16: _I16, types.int16: _I16}[dtype]


def _load(builder, address, dtype):
    element = _raw_type(dtype)
    pointer = builder.inttoptr(address, ir.VectorType(element, LANES).as_pointer())
    return _widen(builder, builder.load(pointer, align=element.width // 8 if element != _F32 else 4), dtype)


def _load_partial(builder, address, dtype, count):
    """The first `count` elements, the other lanes +0; reads nothing beyond them."""
    element = _raw_type(dtype)
    vector = ir.VectorType(element, LANES)
    lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
    mask = builder.icmp_signed("<", lanes, _splat(builder, count))
    kind = "f32" if element == _F32 else "i16"
    pointer = builder.inttoptr(address, vector.as_pointer())
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector.as_pointer(), _I32, mask.type, vector]),
        f"llvm.masked.load.v16{kind}.p0")
    zero = ir.Constant(vector, [0.0 if element == _F32 else 0] * LANES)
    align = ir.Constant(_I32, element.width // 8 if element != _F32 else 4)
    return _widen(builder, builder.call(function, [pointer, align, mask, zero]), dtype)


def _trees(builder, vectors):
    """Up to 16 vectors -> one vector whose lane i is the halving tree (8, 4, 2, 1) of vector i."""
    zero = _const(_V32, 0.0)
    level = list(vectors) + [zero] * (LANES - len(vectors))
    for h in (8, 4, 2, 1):
        low = [i for i in range(2 * LANES) if i % (2 * h) < h]
        high = [i + h for i in low]
        index = [ir.Constant(ir.VectorType(_I32, LANES), side) for side in (low, high)]
        level = [builder.fadd(builder.shuffle_vector(a, b, index[0]), builder.shuffle_vector(a, b, index[1]))
                 for a, b in zip(level[0::2], level[1::2], strict=True)]
    return level[0]


def _int64(*arguments):
    return all(isinstance(argument, types.Integer) for argument in arguments)


# ---- addresses and memory ------------------------------------------------------------------------------------------

@intrinsic
def address(typingctx, array):
    """Byte address of element 0 of a C-contiguous array."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        raise TypeError("address() needs a C-contiguous array")

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _I64)

    return types.int64(array), codegen


@intrinsic
def load16(typingctx, tag, where):
    """16 stored elements at `where`, widened exactly to f32."""
    def codegen(context, builder, signature, args):
        return _load(builder, args[1], signature.args[0].dtype)

    return v32(tag, types.int64), codegen


@intrinsic
def load_partial(typingctx, tag, where, count):
    """The first `count` (0..16) stored elements at `where`; the other lanes are +0."""
    def codegen(context, builder, signature, args):
        return _load_partial(builder, args[1], signature.args[0].dtype, args[2])

    return v32(tag, types.int64, types.int64), codegen


@intrinsic
def store16(typingctx, where, vector):
    """Store 16 f32 lanes at `where`."""
    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], _V32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(types.int64, v32), codegen


@intrinsic
def store_partial(typingctx, where, vector, count):
    """Store the first `count` (0..16) lanes at `where`; writes nothing beyond them."""
    def codegen(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", lanes, _splat(builder, args[2]))
        pointer = builder.inttoptr(args[0], _V32.as_pointer())
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [_V32, _V32.as_pointer(), _I32, mask.type]),
            "llvm.masked.store.v16f32.p0")
        builder.call(function, [args[1], pointer, ir.Constant(_I32, 4), mask])
        return context.get_dummy_value()

    return types.none(types.int64, v32, types.int64), codegen


@intrinsic
def load1(typingctx, where):
    """One f32 at `where`."""
    def codegen(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], _F32.as_pointer()), align=4)

    return types.float32(types.int64), codegen


@intrinsic
def store1(typingctx, where, value):
    """Store one f32 at `where`."""
    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], _F32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(types.int64, types.float32), codegen


@intrinsic
def prefetch(typingctx, where):
    """Ask for the cache line at `where`; never faults."""
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32]), "llvm.prefetch.p0")
        builder.call(function, [pointer] + [ir.Constant(_I32, v) for v in (0, 3, 1)])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


def _view(element, size):
    @intrinsic
    def view(typingctx, where, count):
        def codegen(context, builder, signature, args):
            array = context.make_array(signature.return_type)(context, builder)
            stride, data = context.get_constant(types.intp, size), context.get_data_type(element).as_pointer()
            populate_array(array, data=builder.inttoptr(args[0], data), shape=[args[1]], strides=[stride],
                           itemsize=stride, meminfo=None)
            return array._getvalue()

        return types.Array(element, 1, "C")(types.int64, types.int64), codegen

    return view


# int64[count], f32[count], u16[count] over the memory at an address; nothing owns it.
view64, view32, view16 = _view(types.int64, 8), _view(types.float32, 4), _view(types.uint16, 2)


# ---- between threads: sequentially consistent, on int64 ------------------------------------------------------------

@intrinsic
def atomic_add(typingctx, where, amount):
    """Add to the int64 at `where`; the value before."""
    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], _I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx, where):
    """The int64 at `where`."""
    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(typingctx, where, value):
    """Set the int64 at `where`."""
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the processor that this is a waiting loop."""
    def codegen(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def call_item(typingctx, function, block, item, slot):
    """Call the C function void(i64 block, i64 item, i64 slot) at address `function`."""
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_I64, _I64, _I64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.none(*[types.int64] * 4), codegen


# ---- arithmetic on vectors -----------------------------------------------------------------------------------------

def _binary(emit):
    @intrinsic
    def operation(typingctx, a, b):
        if not (isinstance(a, Vec) and a == b):
            raise TypeError("two vectors of one kind expected")
        return a(a, b), lambda context, builder, signature, args: emit(builder, *args)

    return operation


vadd = _binary(lambda builder, a, b: builder.fadd(a, b))
vsub = _binary(lambda builder, a, b: builder.fsub(a, b))
vmul = _binary(lambda builder, a, b: builder.fmul(a, b))
vdiv = _binary(lambda builder, a, b: builder.fdiv(a, b))
# Larger and smaller of two; when either is nan the second argument is returned.
vmax = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
vmin = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@intrinsic
def splat(typingctx, value):
    """All 16 lanes equal to a f32 or f64 scalar."""
    return Vec(value)(value), lambda context, builder, signature, args: _splat(builder, args[0])


@intrinsic
def vfma(typingctx, a, b, c):
    """a*b + c per lane, one rounding."""
    return a(a, b, c), lambda context, builder, signature, args: _fma_vectors(builder, *args)


@intrinsic
def widen(typingctx, a):
    """f32 lanes to f64 lanes, exact."""
    return v64(v32), lambda context, builder, signature, args: builder.fpext(args[0], _V64)


@intrinsic
def narrow(typingctx, a):
    """f64 lanes to f32 lanes, rounded to nearest even."""
    return v32(v64), lambda context, builder, signature, args: builder.fptrunc(args[0], _V32)


@intrinsic
def scale_exponent(typingctx, a, shifted):
    """a * 2**n per f64 lane for a normal result; n is read from `shifted` = n + 1.5 * 2**52."""
    def codegen(context, builder, signature, args):
        integers = ir.VectorType(_I64, LANES)
        count = builder.shl(builder.bitcast(args[1], integers), _const(integers, 52))
        return builder.bitcast(builder.add(builder.bitcast(args[0], integers), count), _V64)

    return v64(v64, v64), codegen


@intrinsic
def lane(typingctx, vector, index):
    """Lane `index` as a scalar."""
    def codegen(context, builder, signature, args):
        return builder.extract_element(args[0], args[1])

    return vector.element(vector, types.int64), codegen


@intrinsic
def tree(typingctx, vector):
    """Halving tree 8, 4, 2, 1 over the 16 lanes."""
    def codegen(context, builder, signature, args):
        return builder.extract_element(_trees(builder, [args[0]]), ir.Constant(_I32, 0))

    return types.float32(v32), codegen


# ---- tiles ---------------------------------------------------------------------------------------------------------

@intrinsic(prefer_literal=True)
def tile_zero(typingctx, rows, cols):
    """A tile of +0; rows and cols are compile-time constants."""
    kind = Tile(rows.literal_value, cols.literal_value)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.ArrayType(_V32, kind.rows * kind.cols), [_const(_V32, 0.0)] * (kind.rows * kind.cols))

    return kind(rows, cols), codegen


def _vectors(builder, tile, count):
    return [builder.extract_value(tile, i) for i in range(count)]


def _pack(builder, vectors):
    tile = ir.Constant(ir.ArrayType(_V32, len(vectors)), ir.Undefined)
    for i, vector in enumerate(vectors):
        tile = builder.insert_value(tile, vector, i)
    return tile


def _stepped(builder, start, step, count):
    return [start if i == 0 else builder.add(start, builder.mul(step, ir.Constant(_I64, i))) for i in range(count)]


def _outer(builder, tile, kind, left, right):
    """tile[r][c] = fma(left[r], right[c], tile[r][c])."""
    old = _vectors(builder, tile, kind.rows * kind.cols)
    return _pack(builder, [_fma_vectors(builder, left[r], right[c], old[r * kind.cols + c])
                           for r in range(kind.rows) for c in range(kind.cols)])


@intrinsic
def tile_fma(typingctx, tile, tag, a, a_step, b, b_step):
    """tile[r][c] += A_r * B_c lane by lane: rows A of `tag` elements at a + r*a_step, rows B of f32 at b + c*b_step."""
    def codegen(context, builder, signature, args):
        kind, dtype = signature.args[0], signature.args[1].dtype
        left = [_load(builder, p, dtype) for p in _stepped(builder, args[2], args[3], kind.rows)]
        right = [_load(builder, p, types.float32) for p in _stepped(builder, args[4], args[5], kind.cols)]
        return _outer(builder, args[0], kind, left, right)

    return tile(tile, tag, *[types.int64] * 4), codegen


@intrinsic
def tile_fma_partial(typingctx, tile, tag, a, a_step, b, b_step, count):
    """tile_fma with only the first `count` lanes loaded; the others are multiplied as +0."""
    def codegen(context, builder, signature, args):
        kind, dtype = signature.args[0], signature.args[1].dtype
        left = [_load_partial(builder, p, dtype, args[6])
                for p in _stepped(builder, args[2], args[3], kind.rows)]
        right = [_load_partial(builder, p, types.float32, args[6])
                 for p in _stepped(builder, args[4], args[5], kind.cols)]
        return _outer(builder, args[0], kind, left, right)

    return tile(tile, tag, *[types.int64] * 5), codegen


@intrinsic
def tile_scale_add(typingctx, tile, tag, scalars, vectors):
    """tile[r][c] += s_r * V_c: f32 scalars s at `scalars`, consecutive vectors V of `tag` elements at `vectors`."""
    def codegen(context, builder, signature, args):
        kind, dtype = signature.args[0], signature.args[1].dtype
        size = ir.Constant(_I64, LANES * (_raw_type(dtype).width // 8 if dtype != types.float32 else 4))
        left = [_splat(builder, builder.load(builder.inttoptr(p, _F32.as_pointer()), align=4))
                for p in _stepped(builder, args[2], ir.Constant(_I64, 4), kind.rows)]
        right = [_load(builder, p, dtype) for p in _stepped(builder, args[3], size, kind.cols)]
        return _outer(builder, args[0], kind, left, right)

    return tile(tile, tag, types.int64, types.int64), codegen


@intrinsic
def tile_add(typingctx, a, b):
    """a + b, element by element."""
    def codegen(context, builder, signature, args):
        count = signature.return_type.rows * signature.return_type.cols
        pairs = zip(_vectors(builder, args[0], count), _vectors(builder, args[1], count), strict=True)
        return _pack(builder, [builder.fadd(left, right) for left, right in pairs])

    return a(a, a), codegen


@intrinsic
def tile_trees(typingctx, tile):
    """One vector: lane r*cols + c is the halving tree of tile[r][c]."""
    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        return _trees(builder, _vectors(builder, args[0], kind.rows * kind.cols))

    return v32(tile), codegen


@intrinsic
def tile_load(typingctx, like, where):
    """A tile spilled by tile_store; `like` gives the shape."""
    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        places = _stepped(builder, args[1], ir.Constant(_I64, 64), kind.rows * kind.cols)
        return _pack(builder, [_load(builder, p, types.float32) for p in places])

    return like(like, types.int64), codegen


@intrinsic
def tile_store(typingctx, where, tile):
    """Spill a tile: rows*cols consecutive vectors at `where`."""
    def codegen(context, builder, signature, args):
        kind = signature.args[1]
        places = _stepped(builder, args[0], ir.Constant(_I64, 64), kind.rows * kind.cols)
        for place, vector in zip(places, _vectors(builder, args[1], kind.rows * kind.cols), strict=True):
            builder.store(vector, builder.inttoptr(place, _V32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(types.int64, tile), codegen


F32 = np.empty(0, np.float32)
F16 = np.empty(0, np.int16)
BF16 = np.empty(0, np.uint16)
