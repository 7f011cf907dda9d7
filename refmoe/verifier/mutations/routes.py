"""Routers, the weights of the chosen: R01, R06 to R11, R14, R18, R20, R22."""

import dataclasses

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds.routes import of_groups, pick
from refmoe.verifier.mutations import mutation, symptom
from refmoe.verifier.mutations.routers import ALL, CHOSEN, GROUPS, SIGMOID, finished, renormalises, scores, weighed


@mutation("R01", *SIGMOID)
def biased_weights(m):
    biased = scores(m) + m.bias
    yield "", lambda: weighed(m, lambda ids: finished(m, pick(biased, ids)))


@mutation("R06", "route_softmax_topk", "route_softmax_groups")
def softmax_of_the_chosen(m):
    p = scores(m)
    yield "", lambda: weighed(m, lambda ids: finished(m, pick(p, ids), True))


@mutation("R07", *ALL)
def raw_logits(m):
    logits = m.a.value(m.logits)
    yield "", lambda: weighed(m, lambda ids: pick(logits, ids))
    yield "divided by their sum", lambda: weighed(m, lambda ids: finished(m, pick(logits, ids), True))


@mutation("R08", *ALL)
def renormalised_or_not(m):
    p, renorm = scores(m), not renormalises(m)
    word = "renormalised" if renorm else "not renormalised"
    yield word, lambda: weighed(m, lambda ids: finished(m, pick(p, ids), renorm))


@mutation("R09", *GROUPS)
def factor_twice(m):
    if m.factor != 1:
        yield f"{m.factor:g} squared", m.given(factor=m.factor**2)


@mutation("R10", *GROUPS)
def factor_missing(m):
    if m.factor != 1:
        yield f"without {m.factor:g}", m.given(factor=1.0)
        yield f"divided by {m.factor:g}", m.given(factor=1 / m.factor)


@mutation("R11", *ALL)
def other_score(m):
    logits = m.a.value(m.logits)
    p = m.a.softmax(logits) if m.op in SIGMOID else m.a.sigmoid(logits)
    word = "softmax" if m.op in SIGMOID else "sigmoid"
    choice = p + m.bias if m.op in SIGMOID else p

    def make(renorm):
        routing = weighed(m, lambda ids: finished(m, pick(p, ids), renorm))
        group = of_groups(choice, m.groups, 2 if m.op in SIGMOID else 1) if routing.group is not None else None
        return routing if m.op == CHOSEN else dataclasses.replace(routing, choice=choice, group=group)

    for renorm in (None, not renormalises(m)):
        yield word + ("" if renorm is None else ", renormalised" if renorm else ""), lambda r=renorm: make(r)


@mutation("R14", *SIGMOID)
def taken_back(m):
    s = scores(m).v.astype(np.float32)
    back = (s + m.bias) - m.bias
    step = np.spacing(abs(s + m.bias)).astype(np.float64)
    for error in (np.zeros_like(step), 1.01 * step):  # as most ports round it, and whichever way they do
        yield "", lambda error=error: weighed(m, lambda ids: finished(m, pick(Ball(back, error), ids)))


@mutation("R18", *ALL)
def weights_of_other_ranks(m):
    def make(shift):
        routing = m.run()
        return dataclasses.replace(routing, weigh=lambda ids: routing.weigh(np.roll(ids, shift, axis=1)))

    where = f"at E {m.logits.shape[1]}, k {m.k}"
    for shift in (1, -1) if m.k > 1 else ():
        yield f"{where}: weights moved by {shift} rank", lambda shift=shift: make(shift)


@mutation("R20", *ALL)
def batch_maximum(m):
    logits = m.a.value(m.logits)
    e = Ball(np.exp(logits.v - logits.v.max()).astype(np.float32).astype(np.float64))
    p = Ball(e.v / e.v.sum(axis=1, keepdims=True), e.v / e.v.sum(axis=1, keepdims=True) * 1e-4)
    if m.op not in SIGMOID:
        yield "one maximum for all rows", lambda: dataclasses.replace(
            weighed(m, lambda ids: finished(m, pick(p, ids))), choice=p)  # fmt: skip


@mutation("R20", *GROUPS)
def groups_of_one_row(m):
    def make():
        routing = m.run()
        return dataclasses.replace(routing, group=Ball(np.repeat(routing.group.v[:1], len(m.logits), axis=0)))

    if m.groups > 1:
        yield "the groups of the first row for all rows", make


@symptom("R20", *ALL, last=True)
def rows_differ(question, misses):
    """Right in the first row, wrong in later ones."""
    bad = np.zeros(len(question.inputs["logits"]), bool)
    for miss in misses.values():
        bad |= miss.wrong.any(axis=1)
    return "right in the first row, wrong in later ones" if len(bad) > 2 and not bad[0] and bad[1:].all() else None


@mutation("R22", *ALL)
def over_tokens(m):
    p = scores(m)

    def change(ids, renorm):
        w = finished(m, pick(p, ids), renorm)
        return w / m.a.sum(w, axis=0)

    for renorm in (False, True):
        yield "", lambda renorm=renorm: weighed(m, lambda ids: change(ids, renorm) * float(m.inputs.get("factor", 1.0)))
        yield "without the factor", lambda renorm=renorm: weighed(m, lambda ids: change(ids, renorm))
