"""rope_half: sine and cosine from decimals, each operation rounded; rope_pairs shares everything but the pairing."""

import numpy as np

from tests.oracles.arithmetic import TINY, bf16, gamma, sincos32


def half_split(size):
    """Indices of the two members of every pair."""
    return np.arange(size // 2), np.arange(size // 2) + size // 2


def neighbours(size):
    """Indices of the two members of every pair."""
    return np.arange(0, size, 2), np.arange(1, size, 2)


def rotate(pairing, x, cosines, sines):
    """x [T, heads*D] turned by cosines, sines [T, D/2], every operation rounded to the type of x."""
    size = 2 * cosines.shape[1]
    first, second = pairing(size)
    heads = x.reshape(x.shape[0], -1, size)
    c, s = cosines[:, None], sines[:, None]
    a, b = heads[..., first], heads[..., second]
    y = np.empty_like(heads)
    y[..., first], y[..., second] = a * c - b * s, b * c + a * s
    return y.reshape(x.shape)


def angles(positions, inv_freq):
    """RN32(position * inv_freq)."""
    return positions.astype(np.float32)[:, None] * inv_freq


def bits_of(pairing, x, positions, inv_freq, amplitude):
    """The result."""
    pairs = np.array([[sincos32(float(a)) for a in row] for row in angles(positions, inv_freq)])
    scaled = pairs * np.float32(amplitude)
    return {"y": rotate(pairing, x, scaled[..., 1], scaled[..., 0])}


def reference_of(pairing, x, positions, inv_freq, amplitude):
    """{name: (binary64 value, bound)}, from the rounded angle (R2) on: sine, amplitude, product and sum are four
    roundings of |a c| + |b s|."""
    turn = angles(positions, inv_freq).astype(float)
    c, s = np.cos(turn) * amplitude, np.sin(turn) * amplitude
    wide = x.astype(float)
    ceiling = rotate(pairing, np.abs(wide), np.abs(c), -np.abs(s))  # the difference becomes a sum
    other = rotate(pairing, np.abs(wide), np.abs(c), np.abs(s))
    bound = gamma(4) * np.maximum(ceiling, other) + 4 * TINY
    return {"y": (rotate(pairing, wide, c, s), bound)}


def _default(inv_freq):
    return 10000.0 ** (-np.arange(len(inv_freq)) / len(inv_freq))


def _with_angle(pairing, angle):
    def mutant(x, positions, inv_freq, amplitude):
        turn = angle(positions, inv_freq).astype(float)
        c, s = (f(turn) * amplitude for f in (np.cos, np.sin))
        return {"y": rotate(pairing, x.astype(float), c, s).astype(np.float32)}

    return mutant


def _order(pairing, other, size, heads):
    """Where each element of the other layout comes from, head by head."""
    order = np.empty(size, np.int64)
    for source, target in zip(pairing(size), other(size), strict=True):
        order[target] = source
    return np.concatenate([head * size + order for head in range(heads)])


def _permuted_for(pairing, other, query_heads):
    """Permuted to the other layout as if there were `query_heads` heads, turned there, and back as there are."""
    def mutant(x, positions, inv_freq, amplitude):
        width, size = x.shape[1], 2 * len(inv_freq)
        wrong = _order(pairing, other, width // query_heads, query_heads)
        y = bits_of(other, x[:, wrong], positions, inv_freq, amplitude)["y"]
        result = np.empty_like(y)
        result[:, _order(pairing, other, size, width // size)] = y
        return {"y": result}

    return mutant


def _yarn(base, factor, fast, whole):
    """Float64 frequencies of YaRN, original context 4096: the ramp ends at `fast` turns and at 1."""
    def table(inv_freq):
        size = 2 * len(inv_freq)
        first, last = (size * np.log(4096 / (2 * np.pi * turns)) / (2 * np.log(base)) for turns in (fast, 1))
        first, last = (np.floor(first), np.ceil(last)) if whole else (first, last)
        plain = base ** (-np.arange(size // 2) / (size // 2))
        share = np.clip((np.arange(size // 2) - first) / (last - first), 0, 1)
        return plain * (1 - share) + plain / factor * share

    return table


def _some_pairs(pairing):
    """The second half of the frequencies is 0."""
    def mutant(x, positions, inv_freq, amplitude):
        kept = np.where(np.arange(len(inv_freq)) < len(inv_freq) / 2, inv_freq, np.float32(0))
        return bits_of(pairing, x, positions, kept, amplitude)

    return mutant


def mutants_of(pairing, other):
    """The mutants of one pairing."""
    return {
        "A03": lambda x, positions, inv_freq, amplitude: bits_of(pairing, x, positions, inv_freq, 1 + 0.1 * np.log(40)),
        "A04": lambda **inputs: bits_of(other, **inputs),
        "A05": _permuted_for(pairing, other, 6),
        "A06": (lambda x, **rest: {"y": x}, _some_pairs(pairing)),
        "A07": _with_angle(pairing, lambda p, f: p[:, None] * _default(f)),
        "A08": _with_angle(pairing, lambda p, f: p[:, None] * (_default(f) ** 2 / f)),
        "one_based": lambda x, positions, **rest: bits_of(pairing, x, positions + 1, **rest),
        "angle_in_binary64": _with_angle(pairing, lambda p, f: p[:, None] * f.astype(float)),
        "position_in_bf16": _with_angle(pairing, lambda p, f: angles(bf16(p.astype(np.float32)), f)),
        "ramp_not_a_step": _with_angle(pairing, lambda p, f: p[:, None] * _yarn(50000.0, 32.0, 32, True)(f)),
        "ramp_of_whole_pairs": _with_angle(pairing, lambda p, f: p[:, None] * _yarn(150000.0, 32.0, 32, True)(f)),
        "no_amplitude": lambda x, positions, inv_freq, amplitude: bits_of(pairing, x, positions, inv_freq, 1.0),
    }


def bits(**inputs):
    """The result."""
    return bits_of(half_split, **inputs)


def reference(**inputs):
    """{name: (binary64 value, bound)}."""
    return reference_of(half_split, **inputs)


MUTANTS = mutants_of(half_split, neighbours)
