"""Routers: R01 to R22."""

import dataclasses

import numpy as np

from refmoe.verifier.balls import Ball, nearest
from refmoe.verifier.bounds.routes import pick
from refmoe.verifier.mutations import mutation, symptom

SOFTMAX = ("route_softmax_topk", "route_softmax_topk_renorm")
FACTORS = (2.0, 0.5, 2.5, 1 / 2.5, 2.446, 1 / 2.446, 2.827, 16.0, 1 / 16.0)


def weighed(routing, change):
    """A routing whose weights go through `change(ids, weights)`."""
    return dataclasses.replace(routing, weigh=lambda ids: change(ids, routing.weigh(ids)))


@mutation("R06", "route_softmax_topk")
def softmax_of_the_chosen(m):
    yield "", m.given(op="route_softmax_topk_renorm")


@mutation("R07", *SOFTMAX)
def raw_logits(m):
    logits = m.a.value(m.logits)
    yield "", lambda: weighed(m.run(), lambda ids, w: m.a.out(pick(logits, ids)))


@mutation("R08", *SOFTMAX)
def renormalised_or_not(m):
    twin = SOFTMAX[1] if m.op == SOFTMAX[0] else SOFTMAX[0]
    yield f"as {twin}", m.given(op=twin)


@mutation("R11", *SOFTMAX)
def sigmoid(m):
    p = m.a.sigmoid(m.a.value(m.logits))
    yield "", lambda: weighed(m.run(), lambda ids, w: m.a.out(pick(p, ids)))
    yield "renormalised", lambda: weighed(m.run(), lambda ids, w: m.a.out(pick(p, ids) / m.a.sum(pick(p, ids))))


@mutation("R12", *SOFTMAX)
def narrow_logits(m):
    for kind in ("bf16", "f16", "tf32"):
        yield f"logits in {kind}", m.given(logits=nearest(m.logits, kind))


@mutation("R15", *SOFTMAX)
def higher_index(m):
    yield "the higher index", lambda: dataclasses.replace(m.run(), tie="higher")
    yield "any index", lambda: dataclasses.replace(m.run(), tie="any")


@symptom("R16", *SOFTMAX)
def not_distinct(question, misses):
    ids = misses.get("ids")
    if ids is None or ids.choice is None:
        return None
    odd = [reason for _, reason in ids.choice.bad if "distinct" in reason or "outside" in reason]
    return odd[0] if odd and len(odd) == len(ids.choice.bad) else None


@mutation("R17", *SOFTMAX)
def first_experts_only(m):
    for count in (256, 128, 64):
        if m.logits.shape[1] > count >= m.k:
            yield f"only the first {count}", m.given(logits=m.logits[:, :count])


@mutation("R19", *SOFTMAX)
def padding_wins(m):
    for width in (16, 32, 64, 128, 256):
        if m.logits.shape[1] % width:
            padded = np.pad(m.logits, ((0, 0), (0, -m.logits.shape[1] % width)))
            yield f"experts padded to a multiple of {width} with logit 0", m.given(logits=padded)


@mutation("R22", *SOFTMAX)
def over_tokens(m):
    def change(ids, w):
        return Ball(w.v / w.v.sum(axis=0, keepdims=True), 4 * w.e / abs(w.v).sum(axis=0, keepdims=True) + 1e-6 * w.v)

    yield "", lambda: weighed(m.run(), change)


@mutation("factor", *SOFTMAX, title="all weights times a factor")
def factor(m):
    for value in FACTORS:
        yield f"{value:g}", lambda value=value: weighed(m.run(), lambda ids, w: w * value)
