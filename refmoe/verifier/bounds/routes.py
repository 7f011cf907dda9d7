"""Routers: what the experts are compared by, and the weights of the chosen."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound
from refmoe.verifier.routing import Routing


def pick(values: Ball, ids) -> Ball:
    """values[t, ids[t, j]]."""
    e = np.broadcast_to(values.e, values.v.shape)
    return Ball(np.take_along_axis(values.v, ids, 1), np.take_along_axis(e, ids, 1))


@bound("route_softmax_topk")
def softmax_topk(a, logits, k, *, renorm=False):
    """The k largest probabilities."""
    logits = a.value(logits)
    p = a.softmax(logits)
    return Routing(int(k), p, lambda ids: a.out(_finished(a, pick(p, ids), renorm, 0.0)), (logits.v,))


@bound("route_softmax_topk_renorm")
def softmax_topk_renorm(a, logits, k):
    """The same, weights divided by their sum; a softmax of the chosen only is equal in real arithmetic."""
    return softmax_topk(a, logits, k, renorm=True)


def _finished(a, chosen: Ball, renorm: bool, tiny: float, factor: float = 1.0) -> Ball:
    """Weights of the chosen: divided by their sum, if so, and times the factor."""
    if renorm:
        chosen = chosen / (a.sum(chosen) + tiny)
    return chosen * float(np.float32(factor)) if factor != 1.0 else chosen


@bound("route_softmax_groups")
def softmax_groups(a, logits, k, groups, open_groups, factor, *, renorm=False, score=1):
    """The k largest probabilities of the groups with the largest best."""
    logits = a.value(logits)
    p = a.softmax(logits)
    return Routing(int(k), p, lambda ids: a.out(_finished(a, pick(p, ids), renorm, 1e-20, factor)), (logits.v,),
                   groups=groups, best=open_groups, group=of_groups(p, groups, score))  # fmt: skip


@bound("route_sigmoid_groups")
def sigmoid_groups(a, logits, bias, k, groups, open_groups, factor, *, renorm=False, score=2):
    """The k largest biased scores of the groups with the largest sum of two."""
    logits = a.value(logits)
    s = a.sigmoid(logits)
    choice = s + bias
    return Routing(int(k), choice, lambda ids: a.out(_finished(a, pick(s, ids), renorm, 1e-20, factor)),
                   (logits.v, np.asarray(bias, np.float64)), groups=groups, best=open_groups,
                   group=of_groups(choice, groups, score))  # fmt: skip


@bound("route_sigmoid_groups_renorm")
def sigmoid_groups_renorm(a, logits, bias, k, groups, open_groups, factor):
    """The same, scores of the chosen divided by their sum."""
    return sigmoid_groups(a, logits, bias, k, groups, open_groups, factor, renorm=True)


def of_groups(values: Ball, groups: int, count: int) -> Ball | None:
    """The sum of the `count` largest of each group; monotone in every member. None for a single group."""
    if groups == 1:
        return None
    v, low, high = (_largest(x, groups, count) for x in (values.v, values.v - values.e, values.v + values.e))
    return Ball(v, 0.0) + Ball(np.zeros_like(v), np.maximum(high - v, v - low))


def _largest(values, groups, count):
    members = np.nan_to_num(values, nan=-np.inf).reshape(len(values), groups, -1)
    return -np.sort(-members, axis=2)[:, :, :count].sum(axis=2)
