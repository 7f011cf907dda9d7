"""route_softmax_topk: probabilities from decimal exponentials, the choice by sorting; shared with its twin."""

import math

import numpy as np

from tests.oracles.arithmetic import TINY, U, bf16, exp32, gamma, lane_sum


def probabilities(row):
    """R1 to R4."""
    numbers = [v for v in row if not math.isnan(v)]
    top = max(numbers) if numbers else np.float32(-np.inf)
    with np.errstate(all="ignore"):
        e = np.array([exp32(float(v - top)) for v in row], np.float32)
        return e / lane_sum(e)


def best(p, k):
    """Ids of the k largest, the lower id first among equals; a row of nan gives 0 .. k-1."""
    return sorted(range(len(p)), key=lambda i: (0.0 if math.isnan(p[i]) else -float(p[i]), i))[:k]


def renormalise(chosen):
    """R5, R6: divided by their sum in rank order."""
    total = chosen[0]
    for p in chosen[1:]:
        total = total + p
    return chosen / total


def plain_weights(chosen):
    """The probabilities as they are."""
    return chosen


def _result(ids, weights):
    return {"ids": np.array(ids, np.int64), "weights": np.array(weights, np.float32)}


def bits_of(finish, logits, k):
    """The result; `finish` makes the weights of the chosen probabilities."""
    ids, weights = [], []
    for row in logits:
        p = probabilities(row)
        ids.append(best(p, k))
        weights.append(finish(p[ids[-1]]))
    return _result(ids, weights)


def soft(logits):
    """Binary64 softmax."""
    with np.errstate(all="ignore"):
        e = np.exp(logits.astype(float) - logits.astype(float).max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def reference_of(finish, logits, k):
    """{name: (binary64 value, bound)} of the weights. The rounded difference x - m moves e by u |x - m|, exp and the
    quotient round once each, the sum n + 4 times; renormalising adds the errors of its k terms and k + 1 roundings."""
    ids = bits_of(finish, logits, k)["ids"]
    p = soft(logits)
    with np.errstate(all="ignore"):
        apart = np.abs(logits.astype(float) - logits.astype(float).max(axis=1, keepdims=True))
        spread = np.where(p > 0, p * apart, 0.0).sum(axis=1, keepdims=True)
    chosen, apart = np.take_along_axis(p, ids, 1), np.take_along_axis(apart, ids, 1)
    relative = 1.01 * U * (np.minimum(apart, 200) + spread) + gamma(-(-logits.shape[1] // 16) + 7)
    if finish is renormalise:
        weights = chosen / chosen.sum(axis=1, keepdims=True)
        mean = (weights * relative).sum(axis=1, keepdims=True)
        return {"weights": (weights, weights * (relative + mean + gamma(k + 1)) * 1.01 + 2 * TINY)}
    return {"weights": (chosen, chosen * relative + TINY)}


def _of_chosen(ids, values, finish):
    chosen = np.take_along_axis(values, ids, 1).astype(np.float32)
    return {"ids": ids, "weights": np.stack([finish(row) for row in chosen])}


def _selected_only(logits, k):
    ids = bits_of(plain_weights, logits, k)["ids"]
    return {"ids": ids, "weights": soft(np.take_along_axis(logits, ids, 1)).astype(np.float32)}


def _higher_id(finish):
    def mutant(logits, k):
        rows = [[len(row) - 1 - i for i in best(probabilities(row[::-1]), k)] for row in logits]
        return _of_chosen(np.array(rows), soft(logits), finish)

    return mutant


def _winner_not_marked(logits, k):
    """The loop finds the same winner again where comparisons do not tell: a nan in the row, or all entries equal."""
    ids = []
    for row in logits:
        p = probabilities(row)
        stuck = len({float(v) for v in p}) == 1 or np.isnan(p).any()
        ids.append([int(np.argmax(p))] * k if stuck else best(p, k))
    return _of_chosen(np.array(ids), soft(logits), plain_weights)


def _padded_with_zero(finish):
    def mutant(logits, k):
        return bits_of(finish, np.pad(logits, ((0, 0), (0, -logits.shape[1] % 16))), k)

    return mutant


def _other_k(finish):
    """Two choices, filled up with zeros; four where two would be right or too many."""
    def mutant(logits, k):
        used = 2 if k > 2 else 4
        result = bits_of(finish, logits, used)
        return {name: np.pad(values, ((0, 0), (0, max(k - used, 0)))) for name, values in result.items()}

    return mutant


def _over_tokens(logits, k):
    result = bits_of(plain_weights, logits, k)
    weights = result["weights"]
    return result | {"weights": weights / weights.sum(axis=0, keepdims=True)}


def _batch_maximum(finish):
    def mutant(logits, k):
        with np.errstate(all="ignore"):
            e = np.exp(logits - logits.max())
            p = e / e.sum(axis=1, keepdims=True)
            ids = np.array([best(row, k) for row in p])
            return _of_chosen(ids, p, finish)

    return mutant


def _no_maximum(finish):
    def mutant(logits, k):
        with np.errstate(all="ignore"):
            e = np.exp(logits)
            p = e / e.sum(axis=1, keepdims=True)
            return _of_chosen(np.array([best(row, k) for row in p]), p, finish)

    return mutant


def _by_logit(finish):
    def mutant(logits, k):
        return _of_chosen(np.array([best(row, k) for row in logits]), soft(logits), finish)

    return mutant


def _sigmoid(finish):
    def mutant(logits, k):
        return _of_chosen(bits_of(finish, logits, k)["ids"], 1 / (1 + np.exp(-logits)), finish)

    return mutant


def _below_256(finish):
    return lambda logits, k: bits_of(finish, logits[:, :256], k)


def _wrong_tile(finish):
    def mutant(logits, k):
        result = bits_of(finish, logits, k)
        return result | {"weights": np.roll(result["weights"], 1, axis=1)}

    return mutant


def mutants_of(finish, other):
    """The mutants both ops have; `other` is the finish of the twin."""
    return {
        "R07": lambda logits, k: _of_chosen(bits_of(finish, logits, k)["ids"], logits, plain_weights),
        "R08": lambda logits, k: bits_of(other, logits, k),
        "R11": _sigmoid(finish),
        "R12": lambda logits, k: bits_of(finish, bf16(logits), k),
        "R15": _higher_id(finish),
        "R16": _winner_not_marked,
        "R17": (_below_256(finish), lambda logits, k: _result(bits_of(finish, logits, k)["ids"] & 255,
                                                              bits_of(finish, logits, k)["weights"])),
        "R18": _wrong_tile(finish),
        "R19": _padded_with_zero(finish),
        "R20": _batch_maximum(finish),
        "R21": _other_k(finish),
        "R22": _over_tokens,
        "no_maximum": _no_maximum(finish),
        "chosen_by_logit": _by_logit(finish),
        "infinite_is_finite": lambda logits, k: bits_of(finish, np.nan_to_num(logits, posinf=1e4, neginf=-1.0), k),
    }


def bits(logits, k):
    """The result."""
    return bits_of(plain_weights, logits, k)


def reference(logits, k):
    """{name: (binary64 value, bound)}."""
    return reference_of(plain_weights, logits, k)


MUTANTS = mutants_of(plain_weights, renormalise) | {"R06": _selected_only}
