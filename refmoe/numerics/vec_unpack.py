"""vec_unpack - codes and scales out of blocks of bytes, for the fast schedules (JIT only); see vec_codes."""

from llvmlite import ir
from numba.core import cgutils, types

from refmoe.jit import intrinsic, kernel
from refmoe.numerics.vec import _FEATURES, _widen, v32
from refmoe.numerics.vec_codes import (
    _I16,
    _I32,
    _I64,
    _const,
    _llvm,
    _read,
    _shuffle,
    bytes16,
    bytes32,
    bytes64,
    ior,
    join,
    load_bytes16,
    mask,
    shift_right,
)
from refmoe.numerics.vec_int import load_u32


@intrinsic
def look_up(typingctx, table, index):
    """Lane i is table[index[i] & 15], 16 bytes looked up by 64."""
    def codegen(context, builder, signature, args):
        if "+avx512bw" in _FEATURES:
            tables = _shuffle(builder, args[0], args[0], [i % 16 for i in range(64)])
            index = builder.and_(args[1], _const(bytes64, 15))
            kind = ir.FunctionType(index.type, [index.type, index.type])
            shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pshuf.b.512")
            return builder.call(shuffle, [tables, index])
        parts = []
        for first in range(0, 64, 16):
            found = ir.Constant(_llvm(bytes16), ir.Undefined)
            inside = _shuffle(builder, args[1], args[1], range(first, first + 16))
            inside = builder.and_(inside, _const(bytes16, 15))
            for i in range(16):  # a pattern that becomes one instruction where the processor has it
                at = ir.Constant(_I32, i)
                place = builder.zext(builder.extract_element(inside, at), _I32)
                found = builder.insert_element(found, builder.extract_element(args[0], place), at)
            parts.append(found)
        pairs = [_shuffle(builder, parts[i], parts[i + 1], range(32)) for i in (0, 2)]
        return _shuffle(builder, *pairs, range(64))

    return bytes64(bytes16, bytes64), codegen


@intrinsic
def fifth_bits(typingctx, low, high):
    """64 bytes, 0 or 16: the bits of two 32-bit numbers, lowest first."""
    def codegen(context, builder, signature, args):
        parts = []
        for number in args:  # the byte with the bit in each place, then the bit alone
            four = builder.bitcast(builder.trunc(number, _I32), ir.VectorType(ir.IntType(8), 4))
            spread = _shuffle(builder, four, four, [i // 8 for i in range(32)])
            alone = ir.Constant(_llvm(bytes32), [1 << i % 8 for i in range(32)])
            there = builder.icmp_unsigned("==", builder.and_(spread, alone), alone)
            parts.append(builder.and_(builder.sext(there, _llvm(bytes32)), _const(bytes32, 16)))
        return _shuffle(builder, *parts, range(64))

    return bytes64(types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def halves(typingctx, where, first, step):
    """The 16 binary16 numbers at where + first + i * step as f32 lanes; first and step are even compile-time constants.
    Reads nothing beyond where + 16 * step."""
    start, apart = first.literal_value, step.literal_value
    each = next(n for n in (8, 4, 2, 1) if (n - 1) * apart + start + 2 <= 64)  # numbers in one vector that is read
    size = next(n for n in (2, 4, 8, 16, 32, 64) if (each - 1) * apart + start + 2 <= n)

    def codegen(context, builder, signature, args):
        if each < 4:  # one by one; shuffles of wide vectors would cost more
            found = ir.Constant(ir.VectorType(_I16, 16), ir.Undefined)
            for i in range(16):
                number = _read(builder, builder.add(args[0], ir.Constant(_I64, start + i * apart)), _I16)
                found = builder.insert_element(found, number, ir.Constant(_I32, i))
            return _widen(builder, found, types.int16)
        kind = ir.VectorType(_I16, size // 2)
        places = [(start + i * apart) // 2 for i in range(each)]
        level = [_read(builder, builder.add(args[0], ir.Constant(_I64, i * apart)), kind) for i in range(0, 16, each)]
        while len(level) > 1:
            pick = places + [level[0].type.count + place for place in places]
            level = [_shuffle(builder, a, b, pick) for a, b in zip(level[0::2], level[1::2], strict=True)]
            places = list(range(len(pick)))
        return _widen(builder, level[0], types.int16)

    return v32(types.int64, first, step), codegen


def _halves_of_two(which):
    @intrinsic
    def halves_of_two(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return _shuffle(builder, *args, [*range(which, which + 8), *range(which + 16, which + 24)])

        return v32(v32, v32), codegen

    return halves_of_two


lower_halves, upper_halves = _halves_of_two(0), _halves_of_two(8)  # lanes 0..7, or 8..15, of both f32 vectors


def _repeated(times):
    @intrinsic
    def repeated(typingctx, a):
        def codegen(context, builder, signature, args):
            return _shuffle(builder, args[0], args[0], [lane // times for lane in range(16)])

        return v32(v32), codegen

    return repeated


repeat_2, repeat_4 = _repeated(2), _repeated(4)  # the first f32 lanes, each 2 or 4 times


@intrinsic
def nibble_neighbours(typingctx, a):
    """64 nibbles of 32 bytes, of each byte the low one first."""
    def codegen(context, builder, signature, args):
        words = ir.VectorType(_I16, 32)
        wide = builder.zext(args[0], words)
        both = builder.or_(wide, builder.shl(wide, ir.Constant(words, [4] * 32)))
        return builder.bitcast(builder.and_(both, ir.Constant(words, [0x0F0F] * 32)), _llvm(bytes64))

    return bytes64(bytes32), codegen


@kernel
def four_apart(where, step):
    """Four times 16 bytes, `step` from one to the next."""
    first, second = load_bytes16(where), load_bytes16(where + step)
    return join(join(first, second), join(load_bytes16(where + 2 * step), load_bytes16(where + 3 * step)))


@kernel
def nibbles_apart(where, step):
    """The lower nibbles of four times 16 bytes, and the upper ones."""
    q = four_apart(where, step)
    return mask(q, 15), shift_right(q, 4)


@kernel
def fives_apart(where, step):
    """Numbers of five bits: those of nibbles_apart behind four bytes, with the fifth bits in these, one for each."""
    low, high = nibbles_apart(where + 4, step)
    a, b, c, d = load_u32(where), load_u32(where + step), load_u32(where + 2 * step), load_u32(where + 3 * step)
    return (ior(low, fifth_bits(a & 65535 | b << 16, c & 65535 | d << 16)),
            ior(high, fifth_bits(a >> 16 | b >> 16 << 16, c >> 16 | d >> 16 << 16)))  # fmt: skip


@kernel
def nibble_halves(a, b):
    """64 nibbles of twice 16 bytes, each time the low ones first."""
    return join(join(mask(a, 15), shift_right(a, 4)), join(mask(b, 15), shift_right(b, 4)))
