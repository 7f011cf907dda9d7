"""vec_panels - the codes of 32 rows of W side by side, and their exact dot products with rows of x (JIT only).

A panel vector holds 64 bytes: four codes of each of 16 rows, as vec_dots multiplies them.
"""

from functools import reduce
from itertools import chain

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default

from refmoe.jit import intrinsic
from refmoe.numerics.vec_codes import (
    _I8,
    _I32,
    _I64,
    _llvm,
    _read,
    _shuffle,
    _splat,
    _write,
    bytes64,
    ints16,
)
from refmoe.numerics.vec_dots import (
    _BYTES,
    _SHORTS,
    PAIRS,
    VNNI,
    multiplied,
    neighbours,
    pairs,
    quads,
    twos,
    widened,
)


class Unit(types.Type):
    """`count` panel vectors in registers."""

    def __init__(self, count):
        self.count = count
        super().__init__(name=f"Unit({count})")


@register_default(Unit)
class _UnitModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(_llvm(bytes64), fe_type.count))


# ---- memory --------------------------------------------------------------------------------------------------------

@intrinsic
def store_panel(typingctx, kind, where, codes):
    """64 codes as products take them."""
    def codegen(context, builder, signature, args):
        _write(builder, args[1], multiplied(builder, signature.args[0], args[2]))
        return context.get_dummy_value()

    return types.none(kind, types.int64, bytes64), codegen


@intrinsic
def store_codes(typingctx, where, codes):
    """16 codes of x (i32 lanes) as signed bytes."""
    def codegen(context, builder, signature, args):
        _write(builder, args[0], builder.trunc(args[1], ir.VectorType(_I8, 16)))
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

def _panel(builder, where, i, half):
    """Four codes of 16 rows: vector i of the first or the second rows of a unit at address `where`."""
    return _read(builder, builder.add(where, ir.Constant(_I64, 64 * (2 * i + half))), _llvm(bytes64))


def _codes(builder, where, i):
    """Four codes of a row of x, in all lanes alike."""
    word = _read(builder, builder.add(where, ir.Constant(_I64, 4 * i)), _I32)
    return builder.bitcast(_splat(builder, word, 16), _llvm(bytes64))


@intrinsic
def hold_unit(typingctx, kind, where):
    """The panel vectors of a unit: in registers where there are enough of them, else where they are."""
    if not VNNI:
        return types.int64(kind, types.int64), lambda context, builder, signature, args: args[1]
    held = Unit(kind.unit // 2)

    def codegen(context, builder, signature, args):
        unit = ir.Constant(ir.ArrayType(_llvm(bytes64), held.count), ir.Undefined)
        for i in range(held.count):
            unit = builder.insert_value(unit, _panel(builder, args[1], i // 2, i % 2), i)
        return unit

    return held(kind, types.int64), codegen


def _by_quads(builder, kind, unit, rows, starts):
    """For each of some rows of x: its dot products with the first and with the last 16 rows of W, added to a start."""
    sums = [[start, start] for start in starts]
    for i in range(kind.unit // 4):
        for old, where in zip(sums, rows, strict=True):
            codes = _codes(builder, where, i)
            old[:] = [quads(builder, old[half], builder.extract_value(unit, 2 * i + half), codes) for half in (0, 1)]
    return sums


def _by_twos(builder, kind, unit, rows, starts):
    """The same."""
    sums = []
    for start, where in zip(starts, rows, strict=True):
        products = [[twos(builder, _panel(builder, unit, i, half), _codes(builder, where, i))
                     for i in range(kind.unit // 4)] for half in (0, 1)]  # fmt: skip
        sums.append([builder.add(start, neighbours(builder, reduce(builder.add, half))) for half in products])
    return sums


def _by_pairs(builder, kind, unit, rows, starts):
    """The same. Sums of two products are added in 16 bits as long as they fit. Loops keep the compiler from changing
    the order, in which sixteen registers are enough."""
    steps = kind.unit // 4
    run = max(n for n in (1, 2, 4, 8) if n <= min(kind.fits // 2, steps))
    wide = [_variable(builder, _shuffle(builder, start, start, range(8))) for start in starts for _ in range(4)]
    with cgutils.for_range(builder, _unknown(builder, steps // run)) as group:
        if run == 1:
            narrow = _products(builder, kind, unit, rows, group.index)
        else:
            parts = [_variable(builder, ir.Constant(_SHORTS, [0] * 16)) for _ in wide]
            with cgutils.for_range(builder, _unknown(builder, run)) as one:
                i = builder.add(builder.mul(group.index, ir.Constant(_I64, run)), one.index)
                for part, new in zip(parts, _products(builder, kind, unit, rows, i), strict=True):
                    builder.store(builder.add(builder.load(part), new), part)
            narrow = [builder.load(part) for part in parts]
        for total, new in zip(wide, narrow, strict=True):
            builder.store(builder.add(builder.load(total), widened(builder, new)), total)
    return [[_shuffle(builder, *map(builder.load, wide[at:at + 2]), range(16)) for at in (4 * t, 4 * t + 2)]
            for t in range(len(rows))]  # fmt: skip


def _products(builder, kind, unit, rows, i):
    """Sums of two products at step i: for each row of x four vectors, of eight rows of W each."""
    weights = builder.add(unit, builder.mul(i, ir.Constant(_I64, 128)))
    four = [_read(builder, builder.add(weights, ir.Constant(_I64, 32 * n)), _BYTES) for n in range(4)]
    found = []
    for where in rows:
        word = _read(builder, builder.add(where, builder.mul(i, ir.Constant(_I64, 4))), _I32)
        codes = builder.bitcast(_splat(builder, word, 8), _BYTES)
        found += [pairs(builder, kind, some, codes) for some in four]
    return found


def _variable(builder, value):
    place = cgutils.alloca_once(builder, value.type)
    builder.store(value, place)
    return place


def _unknown(builder, number):
    """A number that the compiler does not see through."""
    return builder.asm(ir.FunctionType(_I64, [_I64]), "", "=r,0", [ir.Constant(_I64, number)], False)


_multiply = _by_quads if VNNI else _by_pairs if PAIRS else _by_twos


@intrinsic
def unit_dots(typingctx, kind, unit, first, second, start, other):
    """Four vectors of 16 rows: start + the dot products of rows 0..15 and of rows 16..31 with the codes of x at address
    `first`, other + those with the codes at `second`."""
    def codegen(context, builder, signature, args):
        _, unit, first, second, *starts = args
        sums = _multiply(builder, signature.args[0], unit, (first, second), starts)
        return context.make_tuple(builder, signature.return_type, list(chain(*sums)))

    return types.UniTuple(ints16, 4)(kind, unit, types.int64, types.int64, ints16, ints16), codegen
