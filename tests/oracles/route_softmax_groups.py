"""route_softmax_groups: the probabilities of route_softmax_topk, the groups of route_sigmoid_groups."""

import numpy as np

from tests.oracles import route_sigmoid_groups as groups_of
from tests.oracles import route_softmax_topk as softmax
from tests.oracles.arithmetic import TINY, U

NO_BIAS = np.float32(0)


def best(members):
    """The score of a group."""
    return members[groups_of.place(members)[0]]


def _run(logits, k, groups, open_groups, factor, finish=groups_of.plain_weights, score=best, pick=groups_of.chosen,
         scored=softmax.probabilities):  # fmt: skip
    return groups_of.route(finish, logits, NO_BIAS, k, groups, open_groups, factor, score, pick, scored)


def bits(logits, k, groups, open_groups, factor):
    """The result."""
    return _run(logits, k, groups, open_groups, factor)


def reference(logits, k, groups, open_groups, factor):
    """{name: (binary64 value, bound)}: the bound of all probabilities, and one rounding for the factor."""
    ids = bits(logits, k, groups, open_groups, factor)["ids"]
    factor = float(np.float32(factor))
    order = softmax.bits(logits, logits.shape[1])["ids"]
    value, bound = softmax.reference(logits, logits.shape[1])["weights"]
    back = np.argsort(order, axis=1)  # both in the order of expert ids
    value, bound = (np.take_along_axis(np.take_along_axis(a, back, 1), ids, 1) for a in (value, bound))
    return {"weights": (value * factor, 1.01 * factor * (bound + U * value) + TINY)}


def _selected_only(logits, k, groups, open_groups, factor):
    ids = bits(logits, k, groups, open_groups, factor)["ids"]
    return groups_of.result(ids, factor * softmax.soft(np.take_along_axis(logits, ids, 1)))


def _raw(logits, k, groups, open_groups, factor):
    ids = bits(logits, k, groups, open_groups, factor)["ids"]
    return groups_of.result(ids, np.take_along_axis(logits, ids, 1))


def _by_logit(logits, **attrs):
    ids = _run(logits, **attrs, scored=lambda row: row)["ids"]
    return groups_of.result(ids, np.take_along_axis(softmax.soft(logits), ids, 1) * attrs["factor"])


MUTANTS = groups_of.common(_run) | {
    "R06": _selected_only,
    "R07": _raw,
    "R08": lambda *a, **k: _run(*a, **k, finish=groups_of.renormalise),
    "R11": lambda *a, **k: _run(*a, **k, scored=groups_of.sigmoid),
    "R19": lambda logits, **k: _run(np.pad(logits, ((0, 0), (0, -logits.shape[1] % 16))), **k),
    "two_best": lambda *a, **k: _run(*a, **k, score=groups_of.two_best),
    "chosen_by_logit": _by_logit,
    "infinite_is_finite": lambda logits, **k: _run(np.nan_to_num(logits, posinf=1e4, neginf=-1.0), **k),
}
