"""Products of integer codes: how a row becomes codes, and which scales and minima belong to them (E08, Q18)."""

import numpy as np

from refmoe.verifier.mutations import mutation

ONE, EXPERTS = ("linear_a8", "linear_bias_a8"), ("expert_linear_a8", "expert_linear_bias_a8")
BOTH = (*ONE, *EXPERTS)


@mutation("row_codes", *BOTH, title="the row turned into other codes")
def other_codes(m):
    for group in (16, 64, 128, 1 << 20):
        yield f"groups of {group}" if group < 1 << 20 else "one scale for a row", m.given(group=group)
    yield "codes cut, not rounded", m.given(integer=np.trunc)
    yield "half away from zero", m.given(integer=lambda v: np.sign(v) * np.floor(abs(v) + 0.5))
    yield "half upwards", m.given(integer=lambda v: np.floor(v + 0.5))


@mutation("row_codes", *ONE, title="the row turned into other codes")
def scale_of_batch(m):
    top = np.repeat(abs(m.x).max(axis=0, keepdims=True), len(m.x), axis=0)
    yield "one scale for all rows", m.given(top=top)


@mutation("minima", *BOTH, title="minima of the weights used in another way")
def other_minima(m):
    yield "left out", m.given(minimum=np.zeros_like(m.minimum))
    yield "subtracted", m.given(minimum=-m.minimum)


@mutation("Q18", *BOTH)
def scales_elsewhere(m):
    pairs = np.arange(m.scale.shape[-1])
    other = np.minimum(pairs ^ 1, len(pairs) - 1)
    yield "scales of neighbouring units exchanged", m.given(scale=m.scale[..., other])
    for axis, word in ((-1, "unit"), (-2, "row")):
        yield f"scales of the next {word}", m.given(scale=np.roll(m.scale, -1, axis=axis))
        yield f"scales of the {word} before", m.given(scale=np.roll(m.scale, 1, axis=axis))
        yield f"minima of the {word} before", m.given(minimum=np.roll(m.minimum, 1, axis=axis))


@mutation("E08", *EXPERTS)
def other_experts(m):
    count = len(m.q)
    for shift in (1, -1):
        yield f"each computed with the one {shift:+d}", m.given(ids=(m.ids + shift) % count)
    yield "scales of the next expert", m.given(scale=np.roll(m.scale, 1, axis=0))
    yield "minima of the next expert", m.given(minimum=np.roll(m.minimum, 1, axis=0))
    if "b" in m.inputs:
        yield "bias of the next expert", m.given(b=np.roll(m.b, 1, axis=0))
    if m.x.ndim == 3:
        yield "the token's first row for all its experts", m.given(x=np.repeat(m.x[:, :1], m.x.shape[1], axis=1))


@mutation("tail_dropped", *BOTH, title="the last terms of the sums are missing")
def last_unit(m):
    units = m.scale.shape[-1]
    keep = (np.arange(units) < units - 1).astype(np.float32)
    yield "the last unit", m.given(scale=m.scale * keep, minimum=m.minimum * keep)


@mutation("W02", "linear_bias_a8", "expert_linear_bias_a8")
def bias_left_out(m):
    yield "the bias is 0", m.given(b=np.zeros_like(m.b))
