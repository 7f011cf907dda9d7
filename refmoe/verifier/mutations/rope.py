"""Rotary embedding: A03 to A08."""

import numpy as np

from refmoe.verifier.balls import Ball, nearest
from refmoe.verifier.bounds.rope import halves, neighbours, rotation, turned
from refmoe.verifier.mutations import mutation

ROPES, PARTIAL = ("rope_half", "rope_pairs"), "rope_half_partial"
BASES = (10000.0, 50000.0, 100000.0, 150000.0, 500000.0, 1e6, 5e6, 8e6, 1e7)
SCALES = (2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 64.0)


def pairs_of(m):
    """The pairing of the op, and the other one."""
    return (halves, neighbours) if m.op == "rope_half" else (neighbours, halves)


def by_angle(m, angle, pairs=None):
    """The op with other angles [T,D/2]."""
    return {"y": turned(m.a, m.a.value(m.x), np.asarray(angle, np.float64), m.amplitude, pairs or pairs_of(m)[0])}


def frequencies(m, base):
    """base^(-2d/D)."""
    half = len(m.inv_freq)
    return float(base) ** (-np.arange(half) / half)


@mutation("A03", *ROPES, PARTIAL)
def amplitude_applied(m):
    for factor in SCALES:
        yarn = 0.1 * np.log(factor) + 1
        for value, word in ((yarn, "0.1 ln s + 1"), (1 / yarn, "its inverse")):
            if abs(value - m.amplitude) > 1e-6:
                yield f"amplitude {value:.4f} ({word}, s {factor:g})", m.given(amplitude=float(value))


@mutation("A07", *ROPES, PARTIAL)
def amplitude_forgotten(m):
    if m.amplitude != 1:
        yield f"amplitude {m.amplitude:.4f} forgotten", m.given(amplitude=1.0)
        yield f"amplitude {m.amplitude:.4f} squared", m.given(amplitude=float(m.amplitude) ** 2)


@mutation("A04", *ROPES)
def other_pairing(m):
    other = pairs_of(m)[1]
    words = {halves: "half-split pairs", neighbours: "neighbours"}
    yield words[other], lambda: rotation(m.a, m.x, m.positions, m.inv_freq, m.amplitude, other)

    def mixed(pairs_in, pairs_out):
        size = 2 * len(m.inv_freq)
        order = np.empty(size, np.int64)
        for one, two in zip(pairs_in(size), pairs_out(size), strict=True):
            order[two] = one
        many = np.concatenate([head * size + order for head in range(m.x.shape[1] // size)])
        return rotation(m.a, m.x[:, many], m.positions, m.inv_freq, m.amplitude, pairs_out)

    yield "moved to the other layout and left there", lambda: mixed(*pairs_of(m))


@mutation("A05", *ROPES)
def permuted_for_other_heads(m):
    """Rows moved between the layouts as if there were another number of heads."""
    width, size = m.x.shape[1], 2 * len(m.inv_freq)
    mine, other = pairs_of(m)

    def order(count):
        one = np.empty(width // count, np.int64)
        for source, target in zip(mine(width // count), other(width // count), strict=True):
            one[target] = source
        return np.concatenate([head * (width // count) + one for head in range(count)])

    def make(count):
        y = rotation(m.a, m.x[:, order(count)], m.positions, m.inv_freq, m.amplitude, other)["y"]
        back = np.empty(width, np.int64)
        back[order(width // size)] = np.arange(width)
        return {"y": y[:, back]}

    for count in range(1, width // 2 + 1):
        if width % (2 * count) == 0 and count != width // size and count <= 256:
            yield f"rows permuted for {count} heads where there are {width // size}", lambda count=count: make(count)


@mutation("A06", *ROPES)
def not_rotated(m):
    yield "nothing is rotated", lambda: {"y": m.a.out(m.a.value(m.x))}
    half = len(m.inv_freq)
    for part in (2, 4):
        if half % part == 0:
            kept = m.inv_freq * (np.arange(half) < half // part)
            yield f"only the first {half // part} of {half} pairs", lambda kept=kept: by_angle(
                m, m.positions[:, None] * kept)  # fmt: skip


@mutation("A07", *ROPES)
def default_base(m):
    for base in BASES:
        found = frequencies(m, base)
        if abs(found - m.inv_freq).max() > 1e-6 * found.max():
            yield f"base {base:g}, no scaling", lambda found=found: by_angle(m, m.positions[:, None] * found)


@mutation("A08", *ROPES)
def inverted_scale(m):
    for base in (*BASES, m.inv_freq[1] ** -len(m.inv_freq) if len(m.inv_freq) > 1 else 1.0):
        default = frequencies(m, base)
        ratio = default / m.inv_freq
        if ((ratio > 0.999) & (ratio < 1000)).all() and ratio.max() > 1.001:
            yield f"frequencies multiplied where they are divided (base {base:g})", lambda f=default * ratio: by_angle(
                m, m.positions[:, None] * f)  # fmt: skip
    for factor in SCALES:
        yield f"frequencies times {factor:g}", lambda factor=factor: by_angle(
            m, m.positions[:, None] * m.inv_freq.astype(float) * factor)  # fmt: skip
        yield f"frequencies divided by {factor:g}", lambda factor=factor: by_angle(
            m, m.positions[:, None] * m.inv_freq.astype(float) / factor)  # fmt: skip


@mutation("positions_moved", *ROPES, PARTIAL, title="positions counted in another way")
def positions_moved(m):
    for change in (1, -1, 2, -2):
        yield f"{change:+d}", m.given(positions=m.positions + change)
    yield "all 0", m.given(positions=m.positions * 0)
    yield "the first row's for all", m.given(positions=np.repeat(m.positions[:1], len(m.positions)))
    yield "counted from the first row", m.given(positions=m.positions - m.positions[0])
    yield "rotated backwards", m.given(positions=-m.positions)
    yield "row numbers", m.given(positions=np.arange(len(m.positions)))


@mutation("narrow_positions", *ROPES, title="positions or angles in a narrow type")
def narrow_positions(m):
    for kind in ("bf16", "f16", "tf32"):
        p = nearest(m.positions.astype(np.float32), kind)
        yield f"positions in {kind}", lambda p=p: by_angle(m, p[:, None] * m.inv_freq)
        yield f"frequencies in {kind}", lambda kind=kind: by_angle(m, m.positions[:, None] * nearest(m.inv_freq, kind))
        yield f"angles in {kind}", lambda kind=kind: by_angle(
            m, nearest((m.positions[:, None] * m.inv_freq).astype(np.float32), kind))  # fmt: skip
        yield f"positions and frequencies in {kind}", lambda p=p, kind=kind: by_angle(
            m, p[:, None] * nearest(m.inv_freq, kind))  # fmt: skip


@mutation("frequency_exponent", *ROPES, PARTIAL, title="frequencies at other exponents")
def other_exponent(m):
    f = m.inv_freq
    yield "in reverse order", m.given(inv_freq=f[::-1].copy())
    yield "moved by one", m.given(inv_freq=np.roll(f, 1))
    if len(f) % 2 == 0:
        yield "every pair of neighbours shares one", m.given(inv_freq=np.repeat(f[::2], 2))
    yield "sine and cosine exchanged", lambda: by_angle(m, np.pi / 2 - m.positions[:, None] * f.astype(float))


@mutation("A04", PARTIAL)
def other_pairing_of_part(m):
    yield "neighbours", m.given(pairs=neighbours)
    half = m.head_dim // 2

    def far():
        """Pairs half a head apart, the first of which turn."""
        y = m.a.value(m.x).reshape(len(m.x), -1, m.head_dim)
        count = len(m.inv_freq)
        index = np.concatenate([np.arange(count), half + np.arange(count)])
        part = turned(m.a, y[..., index].reshape(len(m.x), -1), m.positions[:, None] * m.inv_freq.astype(float),
                      m.amplitude, halves).reshape(*y.v.shape[:2], 2 * count)  # fmt: skip
        v, e = m.a.out(y).v.copy(), m.a.out(y).e.copy()
        v[..., index], e[..., index] = part.v, part.e
        return {"y": Ball(v, e).reshape(*m.x.shape)}

    yield "half a head apart", far


@mutation("A06", PARTIAL)
def other_part(m):
    yield "nothing is rotated", lambda: {"y": m.a.out(m.a.value(m.x))}
    yield "the last part of each head is rotated", m.given(start=m.head_dim - 2 * len(m.inv_freq))
    whole = np.resize(m.inv_freq, m.head_dim // 2)
    whole[len(m.inv_freq):] = 0
    yield "the whole head, later frequencies 0", lambda: {"y": turned(
        m.a, m.a.value(m.x), m.positions[:, None] * whole.astype(float), m.amplitude, halves)}  # fmt: skip


@mutation("A07", PARTIAL)
def base_of_part(m):
    for base in BASES:
        for width, word in ((len(m.inv_freq), "of the part"), (m.head_dim // 2, "of the whole head")):
            found = (float(base) ** (-np.arange(len(m.inv_freq)) / width)).astype(np.float32)
            if abs(found - m.inv_freq).max() > 1e-6:
                yield f"base {base:g}, exponents {word}", m.given(inv_freq=found)
