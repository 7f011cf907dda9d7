"""Weight formats, whatever their layout: Q03, Q05 to Q09, Q12, Q13, Q15, Q16, Q18, Q19.

A mutation changes the stored parts and decodes them with our own decoder, or changes the decoded matrix.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refmoe.verifier.balls import Ball, nearest
from refmoe.verifier.bounds.formats import decoded
from refmoe.verifier.mutations import Maker, mutation, symptom
from refmoe.verifier.stored import Stored

ANY = "formats/*"
FP8 = ("formats/fp8_block", "formats/fp8_scaled")
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def stored_of(question) -> Stored:
    """The stored form of a question about a format."""
    return Stored(question.op.partition("/")[2], question.inputs, question.expected["decoded"])


def stored(m) -> Stored:
    """The stored form of a maker's case."""
    if "stored" not in m.memo:
        m.memo["stored"] = stored_of(m.question)
    return m.memo["stored"]


def result(m: Maker, y):
    """A decoded matrix."""
    return {"decoded": decoded(m.a, np.asarray(y, np.float64))}


@mutation("Q13", ANY)
def scale_inverted(m):
    for y in stored(m).rescaled(lambda s: 1 / np.where(s == 0, np.inf, s)):
        yield "divided by the scale", lambda y=y: result(m, y)
    for y in stored(m).rescaled(np.ones_like):
        yield "not scaled", lambda y=y: result(m, y)


@mutation("Q15", ANY)
def narrow_scales(m):
    for kind in ("f16", "bf16"):
        for y in stored(m).rescaled(lambda s, kind=kind: nearest(s, kind)):
            yield f"scales in {kind}", lambda y=y: result(m, y)
    for y in stored(m).rescaled(lambda s: np.where(abs(s) < 2.0**-14, 0, s)):
        yield "small scales flushed to zero", lambda y=y: result(m, y)


@mutation("Q08", ANY)
def bias_of_exponent(m):
    y = stored(m).y
    words = {127: "without the bias", -127: "with the bias taken twice", 1: "with bias 126", -1: "with bias 128"}
    for power, word in words.items():
        yield f"power-of-two scales {word}", lambda power=power: result(m, _scaled(y, power))


@mutation("Q09", ANY)
def exponent_not_rebiased(m):
    y = stored(m).y
    for power in (-112, 112, -120, 120, -8, 8):
        yield f"times 2^{power}", lambda power=power: result(m, _scaled(y, power))


def _scaled(y, power):
    """As binary32 has it: overflowing and underflowing."""
    with np.errstate(all="ignore"):
        return np.ldexp(y, power).astype(np.float32)


def _e4m3(code, bias, last_is_nan):
    sign, exponent, fraction = np.where(code & 128, -1.0, 1.0), (code >> 3 & 15).astype(int), code & 7
    small, normal = np.ldexp(fraction * 1.0, -bias - 2), np.ldexp(8.0 + fraction, exponent - bias - 3)
    value = sign * np.where(exponent == 0, small, normal)
    return np.where(code & 127 == 127, np.nan, value) if last_is_nan else np.where(code == 128, np.nan, value)


@mutation("Q12", *FP8)
def other_e4m3(m):
    s = stored(m)
    code = s.parts[s.codes].astype(np.int64).reshape(s.shape)
    unit = s.decode(**{s.codes: np.full_like(s.parts[s.codes], 0x38)})
    yield "read as e4m3fnuz", lambda: result(m, (_e4m3(code, 8, False) * unit).astype(np.float32))
    yield "half of it", lambda: result(m, s.y / 2)
    yield "twice of it", lambda: result(m, s.y * 2)
    top = np.where(code >> 3 & 15 == 15, np.where(code & 7 == 0, np.where(code & 128, -np.inf, np.inf), np.nan),
                   _e4m3(code, 7, True))  # fmt: skip
    yield "the largest exponent read as inf and nan", lambda: result(m, (top * unit).astype(np.float32))
    wide = (code.astype(np.uint16) << 8).view(np.float16).astype(np.float64)
    yield "read as e5m2", lambda: result(m, (wide * unit).astype(np.float32))


@mutation("Q03", ANY)
def zeros_of_symmetric(m):
    s = stored(m)
    if s.attrs.get("symmetric") and s.zeros():
        yield "", lambda: result(m, s.decode({"symmetric": 0}))


@mutation("Q19", ANY)
def zeros_added(m):
    s = stored(m)
    for name in s.zeros() if not s.attrs.get("symmetric") else ():
        without = s.decode(**{name: np.zeros_like(s.parts[name])})
        size = abs(without) + abs(s.y)
        yield "zero points added", lambda without=without, size=size: {
            "decoded": decoded(m.a, 2 * without - s.y, size)}  # fmt: skip


@mutation("zeros_ignored", ANY, title="zero points not subtracted")
def zeros_ignored(m):
    s = stored(m)
    for name in s.zeros():
        yield "", lambda name=name: result(m, s.decode(**{name: np.zeros_like(s.parts[name])}))


@mutation("Q07", ANY, whole=True)
def sign_of_codes(m):
    s = stored(m)
    raw = s.parts[s.codes]
    size = raw.size * raw.itemsize / max(1, int(np.prod(s.shape)))  # bytes for each weight
    for mask, word in ((0x88, "nibbles: excess 8 and two's complement exchanged"),) if size < 1 else (
            (0x80, "bytes: excess 128 and two's complement exchanged"),) if size == 1 else ():  # fmt: skip
        flipped = (np.ascontiguousarray(raw).view(np.uint8) ^ np.uint8(mask)).view(raw.dtype).reshape(raw.shape)
        yield word, lambda flipped=flipped: result(m, s.decode(**{s.codes: flipped}))


@mutation("Q06", ANY)
def order_in_blocks(m):
    s = stored(m)
    cols = s.shape[1]
    for block in (16, 32, 64, 128, 256):
        if cols % block == 0:
            cut = np.arange(cols).reshape(-1, block)
            half = block // 2
            joined = np.stack([cut[:, :half], cut[:, half:]], axis=2).reshape(-1)
            apart = np.concatenate([cut[:, ::2], cut[:, 1::2]], axis=1).reshape(-1)
            yield f"blocks of {block}: halves read as neighbours", lambda o=joined: result(m, s.y[:, o])
            yield f"blocks of {block}: neighbours read as halves", lambda o=apart: result(m, s.y[:, o])
            moved = np.roll(cut, half, axis=1).reshape(-1)
            yield f"blocks of {block}: halves exchanged", lambda o=moved: result(m, s.y[:, o])
    if cols % 2 == 0:
        order = np.arange(cols).reshape(-1, 2)[:, ::-1].reshape(-1)
        yield "neighbours exchanged", lambda: result(m, s.y[:, order])


@mutation("bf16_product", ANY, title="decoded weights rounded to a 16-bit type")
def rounded_weights(m):
    for kind in ("bf16", "f16"):
        if m.a.profile.output != kind:
            yield kind, lambda kind=kind: {"decoded": Ball(nearest(stored(m).y.astype(np.float32), kind))}


@mutation("E06", ANY)
def transposed(m):
    s = stored(m)
    rows, cols = s.shape
    yield "the whole matrix", lambda: result(m, s.y.reshape(cols, rows).T if rows != cols else s.y.T)


def block_scales(question, miss):
    """(scale of each element that explains what was found, the right one, the table of scales) or None."""
    s = stored_of(question)
    tables = [scale for _, scale in s.scales()]
    if len(tables) != 1 or tables[0].size < 2:
        return None
    name = next(name for name, _ in s.scales())
    unit = s.decode({f".{name}": "F32"}, **{name: np.ones(tables[0].shape, np.float32)})
    found = question.found["decoded"].astype(np.float64)
    with np.errstate(all="ignore"):
        used, right = found / unit, s.y / unit
    known = np.isfinite(used) & np.isfinite(right) & (unit != 0)
    table = tables[0].reshape(-1).astype(np.float64)
    nearest_one = np.abs(used[..., None] - table).argmin(axis=-1)
    slack = 2.0**-7 if question.profile.output != "f32" else 2.0**-22
    if not known.any() or (abs(used - table[nearest_one]) > slack * abs(table[nearest_one]))[known].any():
        return None
    return np.where(known, table[nearest_one], np.nan), np.where(known, right, np.nan), tables[0]


@symptom("Q18", ANY)
def scales_of_other_rows(question, misses):
    """Every weight has a scale of the table, but some rows that of another row; transposed tables are Q19."""
    facts = block_scales(question, misses["decoded"])
    if facts is None or facts[2].ndim < 2:
        return None
    used, right, table = facts
    wrong = ~(np.isclose(used, right, rtol=2.0**-6) | np.isnan(used))
    rows = np.flatnonzero(wrong.any(axis=1))
    if not len(rows) or _is_transposed(used, right, table):
        return None
    return f"rows {', '.join(str(int(r)) for r in rows[:6])} have scales of other blocks"


@symptom("Q04", "formats/gptq", "formats/awq", "formats/int_packed")
def scales_of_wrong_width(question, misses):
    """The same in a format of groups along a row: the table was read with another number of groups."""
    return scales_transposed(question, misses)


@symptom("Q19", ANY)
def scales_transposed(question, misses):
    """The table of scales read column by column."""
    facts = block_scales(question, misses["decoded"])
    return "scales read column by column" if facts is not None and _is_transposed(*facts) else None


def _is_transposed(used, right, table) -> bool:
    """Is the scale of block (i, j) the one at place i + j * rows of the table?"""
    if table.ndim < 2 or 1 in table.shape:
        return False
    turned = table.reshape(-1).reshape(table.shape[::-1]).T
    mapping: dict[float, set[float]] = {}
    for mine, theirs in zip(table.reshape(-1), turned.reshape(-1), strict=True):
        mapping.setdefault(float(mine), set()).add(float(theirs))
    good = ~np.isnan(used)
    return all(any(np.isclose(u, t, rtol=2.0**-6) for t in mapping.get(float(_closest(r, table)), ()))
               for u, r in zip(used[good], right[good], strict=True))  # fmt: skip


def _closest(value, table):
    flat = table.reshape(-1)
    return flat[int(np.argmin(abs(flat - value)))]


def quantised_like(w: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A matrix as the usual quantisations would leave it, the codes found in binary32 or in binary64."""
    for kind in (np.float32, np.float64):
        wide: Any = w.astype(kind)
        rows: Any = abs(wide).max(axis=-1, keepdims=True)
        for word, size in (("by rows", rows), ("as a whole", np.full_like(rows, rows.max()))):
            scale: Any = (np.where(size > 0, size, 1) / 127).astype(kind)
            yield f"int8 {word}", (np.rint(wide / scale) * scale).astype(np.float32)
            scale = (np.where(size > 0, size, 1) / 448).astype(kind)
            exponent = np.frexp(abs(wide / scale))[1]
            step = np.ldexp(1.0, np.maximum(exponent - 1, -6) - 3)
            yield f"e4m3 {word}", (np.rint(wide / scale / step) * step * scale).astype(np.float32)
