"""rope_half_partial: the oracle of rope_half on heads cut out of the rows, the rest put back."""

import numpy as np

from tests.oracles import rope_half as whole


def _parts(x, width, size):
    heads = x.reshape(len(x), -1, size)
    return heads[..., :width].reshape(len(x), -1), heads[..., width:]


def _joined(turned, rest):
    heads = turned.reshape(*rest.shape[:2], -1)
    return np.concatenate([heads, rest], axis=2).reshape(len(rest), -1)


def _turn(function, x, head_dim, inv_freq, **rest):
    turned, kept = _parts(x, 2 * len(inv_freq), head_dim)
    return _joined(function(x=turned, inv_freq=inv_freq, **rest)["y"], kept)


def bits(x, head_dim, **rest):
    """The result."""
    return {"y": _turn(whole.bits, x, head_dim, **rest)}


def reference(x, head_dim, inv_freq, **rest):
    """{name: (binary64 value, bound)}: as rope_half, exact for the rest."""
    turned, kept = _parts(x, 2 * len(inv_freq), head_dim)
    value, bound = whole.reference(x=turned, inv_freq=inv_freq, **rest)["y"]
    return {"y": (_joined(value, kept.astype(float)), _joined(bound, np.zeros(kept.shape)))}


def _last_part(x, head_dim, inv_freq, **rest):
    moved = np.roll(x.reshape(len(x), -1, head_dim), 2 * len(inv_freq), axis=2).reshape(x.shape)
    y = bits(moved, head_dim, inv_freq=inv_freq, **rest)["y"].reshape(len(x), -1, head_dim)
    return {"y": np.roll(y, -2 * len(inv_freq), axis=2).reshape(x.shape)}


def _head_apart(x, head_dim, inv_freq, **rest):
    """Pairs half a head apart, those without a frequency not turned."""
    longer = np.concatenate([inv_freq, np.zeros(head_dim // 2 - len(inv_freq), np.float32)])
    return whole.bits(x=x, inv_freq=longer, **rest)


def _whole_head(x, head_dim, inv_freq, **rest):
    """Everything turned, by the frequencies a whole head would have."""
    base = inv_freq[-1] ** (-len(inv_freq) / (len(inv_freq) - 1))
    table = base ** (-np.arange(head_dim // 2) / (head_dim // 2))
    return whole.bits(x=x, inv_freq=table.astype(np.float32), **rest)


def _frequencies_of_the_head(x, head_dim, inv_freq, **rest):
    """The first part turned, by frequencies spread over the whole head."""
    base = inv_freq[-1] ** (-len(inv_freq) / (len(inv_freq) - 1))
    table = base ** (-2 * np.arange(len(inv_freq)) / head_dim)
    return bits(x, head_dim, inv_freq=table.astype(np.float32), **rest)


def _all_scaled(x, head_dim, inv_freq, amplitude, **rest):
    turned, kept = _parts(x, 2 * len(inv_freq), head_dim)
    y = whole.bits(x=turned, inv_freq=inv_freq, amplitude=amplitude, **rest)["y"]
    return {"y": _joined(y, kept * np.float32(amplitude))}


def _rest_dropped(x, head_dim, inv_freq, **rest):
    turned, kept = _parts(x, 2 * len(inv_freq), head_dim)
    return {"y": _joined(whole.bits(x=turned, inv_freq=inv_freq, **rest)["y"], np.zeros_like(kept))}


def _other(name):
    def mutant(x, head_dim, **rest):
        return {"y": _turn(whole.MUTANTS[name], x, head_dim, **rest)}

    return mutant


MUTANTS = {
    "A04": _other("A04"),
    "A07": _other("A07"),
    "last_part_turned": _last_part,
    "pairs_of_the_whole_head": _head_apart,
    "whole_head_turned": _whole_head,
    "frequencies_of_the_head": _frequencies_of_the_head,
    "rest_dropped": _rest_dropped,
    "rest_scaled": _all_scaled,
    "angle_in_binary64": _other("angle_in_binary64"),
    "nan_lost": lambda x, **rest: bits(np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf), **rest),
}
