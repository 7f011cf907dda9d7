"""Block formats of GGUF files: Q06, Q07, Q17, Q18, minima. Bytes of blocks are changed, then decoded as they are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from refmoe.verifier.mutations import mutation
from refmoe.verifier.mutations.formats import result, stored


@dataclass(frozen=True)
class Block:
    """One format: elements and bytes of a block, bytes of scales, where the code of an element lies (bits, place(i) ->
    (byte, shift)), bytes and masks that exchange excess and two's complement, the byte with the sign of the minimum."""

    elements: int
    size: int
    scales: tuple[tuple[int, int], ...]
    bits: int
    place: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    flip: tuple[tuple[int, int, int], ...] = ()
    minimum: int = 0


def _halves(at):
    return lambda i: (at + i % 16, 4 * (i // 16))


def _of_64(at):
    return lambda i: (at + i // 64 * 32 + i % 32, 4 * (i // 32 % 2))


def _of_128(at):
    return lambda i: (at + i // 128 * 64 + i % 64, 4 * (i // 64 % 2))


def _twos(at):
    return lambda i: (at + i // 128 * 32 + i % 32, 2 * (i // 32 % 4))


def _bytes(at):
    return lambda i: (at + i, 0 * i)


BLOCKS = {
    "q4_0": Block(32, 18, ((0, 2),), 4, _halves(2), ((2, 18, 0x88),)),
    "q4_1": Block(32, 20, ((0, 4),), 4, _halves(4), (), 3),
    "q5_0": Block(32, 22, ((0, 2),), 4, _halves(6), ((2, 6, 0xFF),)),
    "q5_1": Block(32, 24, ((0, 4),), 4, _halves(8), (), 3),
    "q8_0": Block(32, 34, ((0, 2),), 8, _bytes(2), ((2, 34, 0x80),)),
    "iq4_nl": Block(32, 18, ((0, 2),), 4, _halves(2)),
    "mxfp4_halves": Block(32, 17, ((0, 1),), 4, _halves(1)),
    "q2_k": Block(256, 84, ((0, 16), (80, 84)), 2, _twos(16), (), 83),
    "q3_k": Block(256, 110, ((96, 110),), 2, _twos(32), ((0, 32, 0xFF),)),
    "q4_k": Block(256, 144, ((0, 16),), 4, _of_64(16), (), 3),
    "q5_k": Block(256, 176, ((0, 16),), 4, _of_64(48), (), 3),
    "q6_k": Block(256, 210, ((192, 210),), 4, _of_128(0), ((128, 192, 0xAA),)),
    "iq4_xs": Block(256, 136, ((0, 8),), 4, lambda i: (8 + i // 32 * 16 + i % 16, 4 * (i // 16 % 2))),
}
ALL = tuple(f"formats/{name}" for name in BLOCKS)


def blocks_of(m) -> tuple[Block, np.ndarray]:
    """The layout and the bytes [rows, blocks, size] of a case."""
    s = stored(m)
    layout = BLOCKS[s.format]
    raw = np.ascontiguousarray(s.parts["weight"]).view(np.uint8)
    return layout, raw.reshape(s.shape[0], -1, layout.size)


def decoded_of(m, raw):
    """The matrix of other bytes."""
    s = stored(m)
    return result(m, s.decode(weight=np.ascontiguousarray(raw).reshape(s.parts["weight"].shape)))


def codes(layout, raw, place):
    """The codes [rows, blocks, elements] as `place` finds them."""
    byte, shift = place(np.arange(layout.elements))
    return raw[..., byte] >> shift.astype(np.uint8) & np.uint8((1 << layout.bits) - 1)


def _packed(layout, raw, found):
    """Bytes in which the codes of the layout are those given."""
    byte, shift = layout.place(np.arange(layout.elements))
    new = raw.copy()
    mask = np.uint8((1 << layout.bits) - 1)
    for i in range(layout.elements):
        at, by = int(byte[i]), np.uint8(shift[i])
        new[..., at] = (new[..., at] & ~np.uint8(int(mask) << int(by))) | (found[..., i] << by)
    return new


def _readings(layout) -> Iterator[tuple[str, Callable]]:
    """Other places where a code may be looked for."""
    first = int(layout.place(np.zeros(1, int))[0][0])
    per = 8 // layout.bits
    if per == 1:
        return
    yield "neighbours in a byte, low bits first", lambda i: (first + i // per, layout.bits * (i % per))
    yield "neighbours in a byte, high bits first", lambda i: (first + i // per, layout.bits * (per - 1 - i % per))
    yield "high and low bits of a byte exchanged", lambda i: (layout.place(i)[0], 8 - layout.bits - layout.place(i)[1])
    if per == 2:
        half = layout.elements // 2
        yield "halves of the whole block", lambda i: (first + i % half, 4 * (i // half))
        yield "halves of 32", lambda i: (first + i // 32 * 16 + i % 16, 4 * (i // 16 % 2))
        yield "halves of 64", lambda i: (first + i // 64 * 32 + i % 32, 4 * (i // 32 % 2))


@mutation("Q17", *ALL)
@mutation("Q06", *ALL)
def other_order(m):
    layout, raw = blocks_of(m)
    for word, place in _readings(layout):
        yield word, lambda place=place: decoded_of(m, _packed(layout, raw, codes(layout, raw, place)))


@mutation("Q07", *ALL, whole=True)
def other_sign(m):
    layout, raw = blocks_of(m)
    if layout.flip:
        new = raw.copy()
        for low, high, mask in layout.flip:
            new[..., low:high] ^= np.uint8(mask)
        yield "excess and two's complement exchanged", lambda: decoded_of(m, new)


@mutation("Q07", "formats/mxfp4_halves", "formats/mxfp4")
def not_a_table(m):
    """The nibble as a signed integer instead of a small float; or as sign and magnitude of an integer."""
    s = stored(m)
    step = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float64)
    signed = np.array([*range(8), *range(-8, 0)], np.float64)
    layout, raw = blocks_of(m)
    code = codes(layout, raw, layout.place)
    scale = np.ldexp(1.0, raw[..., :1].astype(int) - 128)
    for word, table in (("two's complement", signed), ("sign and magnitude", np.sign(step) * (np.arange(16) % 8))):
        yield f"nibbles as integers, {word}", lambda table=table: result(m, (table[code] * scale).reshape(s.shape))


@mutation("Q18", *ALL)
def scales_of_other_rows(m):
    layout, raw = blocks_of(m)
    rows = np.arange(len(raw))
    places = {f"the first of every {n} rows": rows - rows % n for n in (2, 4, 8, 16, 32)}
    places |= {"the row before": np.maximum(rows - 1, 0), "the row after": np.minimum(rows + 1, len(rows) - 1)}
    for word, other in places.items():
        new = raw.copy()
        for low, high in layout.scales:
            new[..., low:high] = raw[other][..., low:high]
        yield f"scales of {word}", lambda new=new: decoded_of(m, new)
    for shift in (1, -1):
        new = raw.copy()
        for low, high in layout.scales:
            new[..., low:high] = np.roll(raw, shift, axis=1)[..., low:high]
        yield f"scales of the block {'before' if shift == 1 else 'after'}", lambda new=new: decoded_of(m, new)


@mutation("minimum_sign", *ALL, whole=True, title="the minimum added where it is subtracted, or the other way")
def other_minimum(m):
    layout, raw = blocks_of(m)
    if layout.minimum:
        new = raw.copy()
        new[..., layout.minimum] ^= np.uint8(0x80)
        yield "", lambda: decoded_of(m, new)
        none = raw.copy()
        none[..., layout.minimum - 1 : layout.minimum + 1] = 0
        yield "left out", lambda: decoded_of(m, none)
