"""Packed integers with scales and zero points (gptq, awq, int_packed) and 4-bit floats: Q01, Q02, Q05 to Q07, Q16, Q19.

Codes, zero points and scales of each element are found by decoding with other codes: W = (q - z) s is 0 - z s for codes
of 0, and grows by s for codes of 1. What a wrong reading makes of them is then plain arithmetic.
"""

from dataclasses import dataclass

import numpy as np

from refmoe.verifier.bounds.formats import decoded
from refmoe.verifier.mutations import mutation
from refmoe.verifier.mutations.formats import stored

PACKED = ("formats/gptq", "formats/awq", "formats/int_packed")
FLOATS = ("formats/mxfp4_blocks", "formats/mxfp4_packed", "formats/nvfp4_packed", "formats/nvfp4_modelopt")
AWQ = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # nibble of row i
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass
class Affine:
    """W = (q - z) s, element by element."""

    q: np.ndarray
    z: np.ndarray
    s: np.ndarray
    bits: int

    def matrix(self, m, q=None, z=None, sign=-1):
        """The matrix with other codes or zero points; sums are formed from q s and z s."""
        q, z = self.q if q is None else q, self.z if z is None else z
        size = (abs(q) + abs(z)) * abs(self.s)
        return {"decoded": decoded(m.a, (q + sign * z) * self.s, size)}


def affine(m) -> Affine:
    """The parts of a case, found once."""
    if "affine" not in m.memo:
        s = stored(m)
        bits = int(s.attrs.get("bits", 4))
        words = s.parts[s.codes]
        none = s.decode(**{s.codes: np.zeros_like(words)})
        one = np.uint32(sum(1 << at for at in range(0, 32, bits)) & 0xFFFFFFFF)
        ones = np.full(words.shape, one, np.uint32) if 32 % bits == 0 else _stream_of_ones(words.shape, bits)
        scale = s.decode(**{s.codes: ones.view(words.dtype)}) - none
        with np.errstate(all="ignore"):
            z = np.rint(np.nan_to_num(-none / scale))
            q = np.rint(np.nan_to_num(s.y / scale)) + z
        m.memo["affine"] = Affine(q, z, scale, bits)
    return m.memo["affine"]


def _stream_of_ones(shape, bits):
    """Words of rows whose codes, `bits` bits each, are all 1."""
    stream = sum(1 << at for at in range(0, 32 * shape[-1], bits))
    row = [stream >> 32 * word & 0xFFFFFFFF for word in range(shape[-1])]
    return np.broadcast_to(np.array(row, np.uint32), shape).copy()


@mutation("Q01", *PACKED)
def zero_off_by_one(m):
    w = affine(m)
    top = 1 << w.bits
    for change in (1, -1):
        word = "one more" if change == 1 else "one less"
        yield f"zero points {word} than they are, wrapping", lambda c=change: w.matrix(m, z=(w.z + c) % top)
        yield f"zero points {word} than they are", lambda c=change: w.matrix(m, z=w.z + c)


@mutation("Q02", *PACKED)
def zero_wraps(m):
    w = affine(m)
    top = 1 << w.bits
    yield f"zero point 0 read as {top}", lambda: w.matrix(m, z=np.where(w.z == 0, top, w.z))
    yield f"zero point 0 read as {top - 1}", lambda: w.matrix(m, z=np.where(w.z == 0, top - 1, w.z))
    yield "zero point 0 read as -1", lambda: w.matrix(m, z=np.where(w.z == 0, -1, w.z))


@mutation("Q19", *PACKED)
def zero_added(m):
    w = affine(m)
    yield "zero points added", lambda: w.matrix(m, sign=1)


@mutation("zeros_ignored", *PACKED, title="zero points not subtracted")
def no_zero(m):
    w = affine(m)
    half = 1 << (w.bits - 1)
    yield "taken as 0", lambda: w.matrix(m, z=np.zeros_like(w.z))
    yield f"taken as {half}", lambda: w.matrix(m, z=np.full_like(w.z, half))


@mutation("Q07", *PACKED, whole=True)
def sign_of_codes(m):
    w = affine(m)
    half, top = 1 << (w.bits - 1), 1 << w.bits
    signed = np.where(w.q >= half, w.q - top, w.q)
    yield "codes as two's complement", lambda: w.matrix(m, q=signed, z=w.z - half)
    yield "codes as two's complement, zero points subtracted as they are", lambda: w.matrix(m, q=signed)
    yield "codes as two's complement, no zero points", lambda: w.matrix(m, q=signed, z=np.zeros_like(w.z))


def _moved(array, axis, order):
    """Within every eight along an axis, element i is what stands at order[i]."""
    count = array.shape[axis] // 8 * 8
    index = np.arange(array.shape[axis])
    index[:count] = (index[:count].reshape(-1, 8)[:, order]).reshape(-1)
    return np.take(array, index, axis=axis)


@mutation("Q05", *PACKED)
def order_of_nibbles(m):
    w = affine(m)
    if w.bits != 4:
        return
    orders = {"the order of AWQ": AWQ, "AWQ's order inverted": np.argsort(AWQ), "reversed": np.arange(8)[::-1]}
    axis = 0 if m.op.endswith("awq") else 1
    for word, order in orders.items():
        for along in (axis, 1 - axis):
            yield f"{word}, along the {'rows' if along == 0 else 'columns'}", lambda o=order, a=along: w.matrix(
                m, q=_moved(w.q, a, o))  # fmt: skip
            yield f"{word}, zero points too", lambda o=order, a=along: w.matrix(
                m, q=_moved(w.q, a, o), z=_moved(w.z, 0, o))  # fmt: skip


@mutation("Q05", "formats/awq")
def axis_of_gptq(m):
    """Words of [cols, rows / 8] taken for [cols / 8, rows]."""
    w, s = affine(m), stored(m)
    rows, cols = s.shape
    flat = np.ascontiguousarray(s.parts["qweight"]).view(np.uint32).reshape(-1).astype(np.int64)
    r, c = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    q = flat[(c // 8 * rows + r) % flat.size] >> 4 * (c % 8) & 15
    yield "codes packed along the columns, as in GPTQ", lambda: w.matrix(m, q=q.astype(float))
    same = flat[(c * (rows // 8) + r // 8) % flat.size] >> 4 * (r % 8) & 15
    yield "nibbles in plain order", lambda: w.matrix(m, q=same.astype(float), z=_moved(w.z, 0, np.argsort(AWQ)))


@mutation("Q16", *PACKED)
def order_of_bytes(m):
    w = affine(m)
    per = 32 // w.bits
    if w.bits not in (4, 8):
        return
    index = np.arange(per)
    size = per // 4  # codes in a byte
    big = index.reshape(4, size)[::-1].reshape(-1)
    swapped = index.reshape(4, size)[:, ::-1].reshape(-1)
    axis = 0 if m.op.endswith("awq") else 1
    for word, order in (("bytes of a word in the other order", big), ("nibbles of a byte exchanged", swapped)):
        count = w.q.shape[axis] // per * per
        if count and (order != index).any():
            at = np.arange(w.q.shape[axis])
            at[:count] = at[:count].reshape(-1, per)[:, order].reshape(-1)
            yield word, lambda at=at: w.matrix(m, q=np.take(w.q, at, axis=axis))


@mutation("group_index_ignored", "formats/gptq", "formats/int_packed", title="the group of a column from its place")
def group_index(m):
    s = stored(m)
    name = next((name for name in s.parts if name.endswith("g_idx")), None)
    if name is not None:
        group = int(s.attrs["group"]) or s.shape[1]
        plain = (np.arange(s.shape[1]) // group).astype(s.parts[name].dtype)
        yield "", lambda: {"decoded": decoded(m.a, s.decode(**{name: plain}))}


def nibbles(m):
    """Codes and scales of a matrix of 4-bit floats; the scale is what a code of 1.0 decodes to."""
    if "nibbles" not in m.memo:
        s = stored(m)
        raw = np.ascontiguousarray(s.parts[s.codes]).view(np.uint8)
        unit = s.decode(**{s.codes: np.full_like(s.parts[s.codes], 0x22)})
        pairs = raw.reshape(s.shape[0], -1)
        m.memo["nibbles"] = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(s.shape), unit
    return m.memo["nibbles"]


@mutation("Q07", *FLOATS)
def integers_for_floats(m):
    code, unit = nibbles(m)
    excess, signed = np.arange(16) - 8.0, np.array([*range(8), *range(-8, 0)], float)
    for word, table in (("excess 8", excess), ("two's complement", signed), ("floats without sign", abs(E2M1))):
        for factor in (1.0, 0.5, 2.0):
            yield f"nibbles as {word}" + ("" if factor == 1 else f" times {factor:g}"), lambda t=table, f=factor: {
                "decoded": decoded(m.a, (t[code] * unit * f).astype(np.float32))}  # fmt: skip


@mutation("Q17", *FLOATS)
@mutation("Q06", *FLOATS)
def order_of_elements(m):
    code, unit = nibbles(m)
    cols = code.shape[1]
    for group in (16, 32):
        if cols % group == 0:
            cut = np.arange(cols).reshape(-1, group)
            half = group // 2
            apart = np.concatenate([cut[:, ::2], cut[:, 1::2]], axis=1).reshape(-1)
            joined = np.stack([cut[:, :half], cut[:, half:]], axis=2).reshape(-1)
            for word, order in ((f"low nibbles first, in groups of {group}", apart),
                                (f"halves of {group} taken as neighbours", joined)):  # fmt: skip
                yield word, lambda o=order: {"decoded": decoded(m.a, (E2M1[code[:, o]] * unit).astype(np.float32))}
    order = np.arange(cols).reshape(-1, 2)[:, ::-1].reshape(-1)
    yield "high nibble first", lambda: {"decoded": decoded(m.a, (E2M1[code[:, order]] * unit).astype(np.float32))}


@mutation("Q13", "formats/nvfp4_packed", "formats/nvfp4_modelopt")
def global_scale(m):
    s = stored(m)
    for name in ("weight_global_scale", "weight_scale_2"):
        if name in s.parts:
            g = float(np.ascontiguousarray(s.parts[name]).view(np.float32).reshape(-1)[0])
            square = g * g if name == "weight_global_scale" else 1 / (g * g)
            once = g if name == "weight_global_scale" else 1 / g
            yield "multiplied by where it divides, or the other way", lambda f=square: {
                "decoded": decoded(m.a, s.y * f)}  # fmt: skip
            yield "left out", lambda f=once: {"decoded": decoded(m.a, s.y * f)}


@mutation("Q18", "formats/int8_scaled")
def scales_and_zeros_of_other_rows(m):
    """Scale and zero point come from the same wrong place."""
    s = stored(m)
    none = s.decode(**{s.codes: np.zeros_like(s.parts[s.codes])})
    scale = s.decode(**{s.codes: np.ones_like(s.parts[s.codes])}) - none
    with np.errstate(all="ignore"):
        z = np.rint(np.nan_to_num(-none / scale))
        w = Affine(np.rint(np.nan_to_num(s.y / scale)) + z, z, scale, 8)
    rows = np.arange(s.shape[0])
    places = {f"the first of every {n} rows": rows - rows % n for n in (2, 4, 8, 16, 32)}
    places |= {"the row before": np.maximum(rows - 1, 0), "the first row": 0 * rows}
    for word, other in places.items():
        yield f"those of {word}", lambda o=other: Affine(w.q, z[o], scale[o], 8).matrix(m)
