"""Routers, the choice: R02 to R05, R12, R13, R15 to R17, R19, R21."""

import dataclasses

import numpy as np

from refmoe.verifier.balls import Ball, nearest
from refmoe.verifier.bounds.routes import of_groups, pick
from refmoe.verifier.mutations import mutation, symptom
from refmoe.verifier.mutations.routers import ALL, GROUPS, SIGMOID, finished, scores, weighed


@mutation("R02", *SIGMOID)
def bias_unused(m):
    yield "", m.given(bias=np.zeros_like(m.bias))
    yield "subtracted", m.given(bias=-m.bias)


@mutation("R03", *SIGMOID)
def group_by_best(m):
    choice = scores(m) + m.bias
    for count, word in ((1, "the largest"), (m.logits.shape[1] // m.groups, "the sum of all"), (4, "the best four")):
        if m.groups > 1:
            yield word, lambda count=count: dataclasses.replace(m.run(), group=of_groups(choice, m.groups, count))


@mutation("group_score", "route_softmax_groups", title="groups compared by something else than their best")
def group_by_more(m):
    p = scores(m)
    for count, word in ((2, "the sum of two"), (m.logits.shape[1] // m.groups, "the sum of all")):
        yield word, lambda count=count: dataclasses.replace(m.run(), group=of_groups(p, m.groups, count))


@mutation("R04", *GROUPS)
def closed_groups_zero(m):
    def make():
        routing = m.run()
        open_ones = np.zeros((len(m.logits), m.groups), bool)
        np.put_along_axis(open_ones, np.argsort(-routing.group.v, axis=1, kind="stable")[:, : m.open_groups], True, 1)
        shut = ~np.repeat(open_ones, m.logits.shape[1] // m.groups, axis=1)
        choice = Ball(np.where(shut, 0.0, routing.choice.v), np.where(shut, 0.0, routing.choice.e))
        return dataclasses.replace(routing, choice=choice, group=None, groups=1, key=(*routing.key, shut.astype(float)))

    if m.groups > 1:
        yield "", make


@mutation("R05", *GROUPS)
def groups_ignored(m):
    if m.groups > 1:
        yield "no groups", m.given(groups=1, open_groups=1)
        for other in {m.open_groups - 1, m.open_groups + 1, m.groups // 2} - {0, m.open_groups}:
            yield f"{other} groups open", m.given(open_groups=other)


@mutation("R12", *ALL)
def narrow_logits(m):
    for kind in ("bf16", "f16", "tf32"):
        yield f"logits in {kind}", m.given(logits=nearest(m.logits, kind))


@mutation("narrow_scores", *ALL, title="scores rounded to a narrow type before the choice")
def narrow_scores(m):
    def make(kind):
        routing = m.run()
        p = Ball(nearest(scores(m).v.astype(np.float32), kind).astype(np.float64))
        choice = Ball(nearest((p.v + m.bias).astype(np.float32), kind)) if m.op in SIGMOID else p
        group = of_groups(choice, m.groups, 2 if m.op in SIGMOID else 1) if routing.group is not None else None
        return dataclasses.replace(weighed(m, lambda ids: finished(m, pick(p, ids))), choice=choice, group=group,
                                   key=(choice.v,))  # fmt: skip

    for kind in ("bf16", "f16"):
        yield kind, lambda kind=kind: make(kind)


@mutation("R13", *SIGMOID)
def narrow_bias(m):
    for kind in ("bf16", "f16"):
        yield f"bias in {kind}", m.given(bias=nearest(m.bias, kind))


@mutation("R15", *ALL)
def other_tie(m):
    yield "the higher index", lambda: dataclasses.replace(m.run(), tie="higher")
    yield "neither the lower nor the higher index", lambda: dataclasses.replace(m.run(), tie="any")


@symptom("R16", *ALL)
def not_distinct(question, misses):
    """Impossible ids, and only in rows with a nan or of equal logits."""
    ids, logits = misses.get("ids"), question.inputs["logits"]
    if ids is None or ids.choice is None or not ids.choice.bad:
        return None
    odd = [np.isnan(logits[t]).any() or len(np.unique(logits[t])) == 1 for t, _ in ids.choice.bad]
    words = [reason for t, reason in ids.choice.bad if "distinct" in reason or np.isnan(logits[t]).any()]
    return words[0] if all(odd) and len(words) == len(odd) else None


@symptom("R19", *ALL)
def padding_chosen(question, misses):
    """Ids beyond the last expert."""
    ids = question.found.get("ids")
    count = question.inputs["logits"].shape[1]
    if ids is None or ids.max(initial=0) < count or ids.min(initial=0) < 0 or ids.max() >= 2 * count + 256:
        return None
    return f"id {int(ids.max())} where there are {count} experts"


@mutation("R17", *ALL)
def first_experts_only(m):
    for count in (256, 128, 64, 32):
        if m.logits.shape[1] > count >= m.k:
            def make(count=count, grouped=True):
                routing = m.run()
                low = np.arange(m.logits.shape[1]) < count
                choice = Ball(np.where(low, routing.choice.v, -np.inf), np.where(low, routing.choice.e, 0.0))
                return dataclasses.replace(routing, choice=choice, group=routing.group if grouped else None)

            yield f"only the first {count}", make
            if m.op in GROUPS:
                yield f"only the first {count}, and no groups", lambda make=make: make(grouped=False)
                kept = {name: m.inputs[name][..., :count] for name in ("logits", "bias") if name in m.inputs}
                size = m.logits.shape[1] // m.groups
                if count % size == 0:
                    yield f"only the first {count}, groups and all", m.given(
                        **kept, groups=count // size, open_groups=min(m.open_groups, count // size))  # fmt: skip


@mutation("R17", *ALL)
def ids_in_eight_bits(m):
    def make():
        routing = m.run()
        return {"ids": routing.ids() & 255, "weights": routing.weigh(routing.ids())}

    yield "ids held in 8 bits", make


@mutation("R19", *ALL)
def padding_wins(m):
    for width in (16, 32, 64, 128, 256):
        lack = -m.logits.shape[1] % width
        if lack and m.inputs.get("groups", 1) == 1:
            changes = {"logits": np.pad(m.logits, ((0, 0), (0, lack)))}
            if "bias" in m.inputs:
                changes["bias"] = np.pad(m.bias, (0, lack))
            yield f"experts padded to a multiple of {width} with logit 0", m.given(**changes)
    if (m.logits < 0).all():
        yield "negative logits count as 0", m.given(logits=np.zeros_like(m.logits))


@symptom("R21", *ALL)
def fewer_chosen(question, misses):
    """Only the first few ranks are filled."""
    weights, k = question.found.get("weights"), int(question.inputs["k"])
    if weights is None or weights.shape[1] != k:
        return None
    filled = (weights != 0).any(axis=0)
    used = int(filled.sum())
    return f"{used} of {k} are filled" if 0 < used < k and filled[:used].all() else None
