"""Routers: what the experts are compared by, and the weights of the chosen."""

import numpy as np

from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import bound
from refmoe.verifier.routing import Routing


def pick(values: Ball, ids) -> Ball:
    """values[t, ids[t, j]]."""
    e = np.broadcast_to(values.e, values.v.shape)
    return Ball(np.take_along_axis(values.v, ids, 1), np.take_along_axis(e, ids, 1))


def renormalised(a, chosen: Ball) -> Ball:
    """Divided by their sum."""
    return chosen / a.sum(chosen)


@bound("route_softmax_topk")
def softmax_topk(a, logits, k, *, renorm=False):
    """The k largest probabilities."""
    logits = a.value(logits)
    p = a.softmax(logits)

    def weigh(ids):
        chosen = pick(p, ids)
        return a.out(renormalised(a, chosen) if renorm else chosen)

    return Routing(int(k), _ordered(p, logits), weigh, (logits.v,))


@bound("route_softmax_topk_renorm")
def softmax_topk_renorm(a, logits, k):
    """The same, weights divided by their sum; also a softmax of the chosen only, which is equal in real arithmetic."""
    return softmax_topk(a, logits, k, renorm=True)


def _ordered(p: Ball, logits: Ball) -> Ball:
    """Probabilities in doubt; where they all underflow the logits decide."""
    return p
