"""route_topk_softmax: the choice by sorting, decimal exponentials of the chosen, one quotient after the other."""

import math

import numpy as np

from tests.oracles.arithmetic import TINY, U, bf16, exp32, gamma
from tests.oracles.route_softmax_topk import _result, probabilities, renormalise, soft


def best(row, k):
    """Ids of the k largest logits, the lower id first among equals; numbers before nans."""
    return sorted(range(len(row)), key=lambda i: (1, 0, i) if math.isnan(row[i]) else (0, -float(row[i]), i))[:k]


def _weights(chosen):
    """R1 to R4 of the chosen logits, best first."""
    with np.errstate(all="ignore"):
        e = np.array([exp32(float(np.float32(x - chosen[0]))) for x in chosen], np.float32)
        return renormalise(e)


def bits(logits, k):
    """The result."""
    ids = [best(row, k) for row in logits]
    return _result(ids, [_weights(row[chosen]) for row, chosen in zip(logits, ids, strict=True)])


def reference(logits, k):
    """{name: (binary64 value, bound)} of the weights: the rounded difference moves e by u |x - m|, exp and the quotient
    round once each, the sum k - 1 times."""
    chosen = np.take_along_axis(logits, bits(logits, k)["ids"], 1).astype(float)
    with np.errstate(all="ignore"):
        weights, apart = soft(chosen), np.nan_to_num(chosen[:, :1] - chosen, posinf=200.0)
    relative = 1.01 * U * (np.minimum(apart, 200) + (weights * apart).sum(axis=1, keepdims=True)) + gamma(k + 2)
    return {"weights": (weights, weights * relative + TINY)}


def _of(ids, weights):
    return {"ids": np.array(ids, np.int64), "weights": np.array(weights, np.float32)}


def _softmax_first(logits, k):
    """Softmax over all, top-k, divided by the sum."""
    rows = [probabilities(row) for row in logits]
    ids = [best(p, k) for p in rows]
    return _of(ids, [renormalise(p[chosen]) for p, chosen in zip(rows, ids, strict=True)])


def _all_experts(logits, k):
    """Softmax over all experts, weights as they are."""
    ids = bits(logits, k)["ids"]
    return _of(ids, np.take_along_axis(soft(logits), ids, 1))


def _higher_id(logits, k):
    ids = [[len(row) - 1 - i for i in best(row[::-1], k)] for row in logits]
    return _of(ids, [_weights(row[chosen]) for row, chosen in zip(logits, ids, strict=True)])


def _ascending_ids(logits, k):
    ids = np.sort(bits(logits, k)["ids"], axis=1)
    return _of(ids, [_weights(row[chosen]) for row, chosen in zip(logits, ids, strict=True)])


def _sum_from_the_smallest(logits, k):
    result = bits(logits, k)
    chosen = np.take_along_axis(logits, result["ids"], 1)
    rows = [np.array([exp32(float(np.float32(x - row[0]))) for x in row], np.float32) for row in chosen]
    return result | {"weights": np.array([e / renormalise_total(e[::-1]) for e in rows], np.float32)}


def renormalise_total(values):
    """Sum in the given order."""
    total = values[0]
    for v in values[1:]:
        total = total + v
    return total


def _no_maximum(logits, k):
    ids = bits(logits, k)["ids"]
    with np.errstate(all="ignore"):
        e = np.exp(np.take_along_axis(logits, ids, 1))
        return _of(ids, e / e.sum(axis=1, keepdims=True))


def _batch_maximum(logits, k):
    ids = bits(logits, k)["ids"]
    chosen = np.take_along_axis(logits, ids, 1)
    with np.errstate(all="ignore"):
        e = np.exp(chosen - chosen.max())
        return _of(ids, e / e.sum(axis=1, keepdims=True))


def _padded(logits, k):
    return bits(np.pad(logits, ((0, 0), (0, -logits.shape[1] % 16))), k)


def _stuck(logits, k):
    """The winner is found again where comparisons do not tell: a nan in the row, or all entries equal."""
    result = bits(logits, k)
    for t, row in enumerate(logits):
        if np.isnan(row).any() or (row == row[0]).all():
            result["ids"][t] = result["ids"][t, 0]
    return result


def _other_k(logits, k):
    used = 2 if k > 2 else min(4, logits.shape[1])
    return {name: np.pad(v, ((0, 0), (0, max(k - used, 0)))) for name, v in bits(logits, used).items()}


def _over_tokens(logits, k):
    result = bits(logits, k)
    return result | {"weights": result["weights"] / result["weights"].sum(axis=0, keepdims=True)}


def _raw(logits, k):
    ids = bits(logits, k)["ids"]
    return _of(ids, np.take_along_axis(logits, ids, 1))


def _sigmoid(logits, k):
    ids = bits(logits, k)["ids"]
    with np.errstate(all="ignore"):
        return _of(ids, 1 / (1 + np.exp(-np.take_along_axis(logits, ids, 1))))


def _rolled(logits, k):
    result = bits(logits, k)
    return result | {"weights": np.roll(result["weights"], 1, axis=1)}


MUTANTS = {
    "R07": _raw,
    "R08": _all_experts,
    "R11": _sigmoid,
    "R12": lambda logits, k: bits(bf16(logits), k),
    "R15": _higher_id,
    "R16": _stuck,
    "R17": (lambda logits, k: bits(logits[:, :256], k),
            lambda logits, k: _of(bits(logits, k)["ids"] & 255, bits(logits, k)["weights"])),
    "R18": _rolled,
    "R19": _padded,
    "R20": _batch_maximum,
    "R21": _other_k,
    "R22": _over_tokens,
    "softmax_first": _softmax_first,
    "ascending_ids": _ascending_ids,
    "sum_from_the_smallest": _sum_from_the_smallest,
    "no_maximum": _no_maximum,
    "infinite_is_finite": lambda logits, k: bits(np.nan_to_num(logits, posinf=1e4, neginf=-1e4), k),
}  # fmt: skip
ORDER = {"softmax_first", "sum_from_the_smallest"}
