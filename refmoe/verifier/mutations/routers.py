"""What mutations of routers share: names of the ops, scores, weights."""

import dataclasses

SOFTMAX = ("route_softmax_topk", "route_softmax_topk_renorm")
SIGMOID = ("route_sigmoid_groups", "route_sigmoid_groups_renorm")
GROUPS = ("route_softmax_groups", *SIGMOID)
CHOSEN = "route_topk_softmax"
ALL = (*SOFTMAX, CHOSEN, *GROUPS)


def weighed(m, change, **changes):
    """The op, its weights made by `change(ids)`."""
    routing = m.run(**changes)
    return dataclasses.replace(routing, weigh=lambda ids: m.a.out(change(ids)))


def scores(m):
    """What weights are made of: sigmoid or softmax, without a bias."""
    logits = m.a.value(m.logits)
    return m.a.sigmoid(logits) if m.op in SIGMOID else m.a.softmax(logits)


def renormalises(m) -> bool:
    """Do the weights of the op add up to 1, or to its factor?"""
    return m.op.endswith("renorm") or m.op == CHOSEN


def finished(m, chosen, renorm=None):
    """Divided by their sum where the op does, times the factor."""
    if renormalises(m) if renorm is None else renorm:
        chosen = chosen / (m.a.sum(chosen) + 1e-20)
    return chosen * float(m.inputs.get("factor", 1.0))
