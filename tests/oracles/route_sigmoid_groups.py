"""route_sigmoid_groups: scores from decimal exponentials, choices by sorting; shared with its twins."""

import math

import numpy as np

from tests.oracles.arithmetic import TINY, bf16, exp32, gamma

LOST = 3e-39  # exp(-x) overflows where the sigmoid is below this


def sigmoid(row):
    """R1 to R3."""
    with np.errstate(all="ignore"):
        return np.array([np.float32(1) / (np.float32(1) + exp32(float(-x))) for x in row], np.float32)


def place(values):
    """All indices, best first: numbers before nans, larger before smaller, lower index before higher."""
    keys = [(math.isnan(v), 0.0 if math.isnan(v) else -float(v), i) for i, v in enumerate(values)]
    return [i for _, _, i in sorted(keys)]


def two_best(members):
    """R5."""
    first = [members[i] for i in place(members)[:2]]
    with np.errstate(all="ignore"):
        return first[0] if len(first) == 1 else np.float32(first[0] + first[1])


def opened(values, groups, open_groups, score):
    """Ids of the experts in open groups, ascending."""
    size = len(values) // groups
    best = place([score(values[g * size:(g + 1) * size]) for g in range(groups)])[:open_groups]
    return [e for g in sorted(best) for e in range(g * size, (g + 1) * size)]


def chosen(values, k, groups, open_groups, score):
    """The ids of a row."""
    free = opened(values, groups, open_groups, score)
    return [free[i] for i in place([values[e] for e in free])[:k]]


def plain_weights(s, factor):
    """R6 of the op without renormalising."""
    return s * np.float32(factor)


def renormalise(s, factor):
    """Divided by their sum in rank order and 1e-20, times the factor."""
    total = s[0]
    for value in s[1:]:
        total = total + value
    with np.errstate(all="ignore"):
        return s / (total + np.float32(1e-20)) * np.float32(factor)


def result(ids, weights):
    """The two results as arrays."""
    return {"ids": np.array(ids, np.int64), "weights": np.array(weights, np.float32)}


def route(finish, logits, bias, k, groups, open_groups, factor, score=two_best, pick=chosen, scored=sigmoid):
    """The result; every part can be exchanged."""
    ids, weights = [], []
    for row in logits:
        s = scored(row)
        with np.errstate(all="ignore"):
            ids.append(pick(s + bias, k, groups, open_groups, score))
        weights.append(finish(s[ids[-1]], factor))
    return result(ids, weights)


def reference_of(finish, logits, bias, k, groups, open_groups, factor):
    """{name: (binary64 value, bound)}: a score has three roundings, or is below LOST; renormalising adds the mean error
    of its terms and k + 2 roundings, the factor one."""
    ids = route(finish, logits, bias, k, groups, open_groups, factor)["ids"]
    with np.errstate(all="ignore"):
        s = np.take_along_axis(1 / (1 + np.exp(-logits.astype(float))), ids, 1)
        factor = float(np.float32(factor))
        if finish is not renormalise:
            return {"weights": (s * factor, 1.01 * (s * gamma(4) + LOST + 2 * TINY) * factor)}
        total = s.sum(axis=1, keepdims=True) + float(np.float32(1e-20))
        error = s * gamma(4) + LOST + TINY
        lost = error / total + s / total * error.sum(axis=1, keepdims=True) / total
        return {"weights": (s / total * factor, 1.01 * (lost + s / total * gamma(k + 4) + 2 * TINY) * factor)}


def exact(scores):
    """Mutants: a score function in binary64, rounded once."""
    return lambda row: scores(row.astype(float)).astype(np.float32)


def soft(x):
    """Binary64 softmax of a row."""
    with np.errstate(all="ignore"):
        e = np.exp(x - np.nanmax(x))
        return e / e.sum()


def _biased_weights(finish):
    def mutant(logits, bias, **attrs):
        ids = route(finish, logits, bias, **attrs)["ids"]
        return result(ids, [finish((sigmoid(x) + bias)[i], attrs["factor"]) for x, i in zip(logits, ids, strict=True)])

    return mutant


def _taken_back(finish):
    def mutant(logits, bias, **attrs):
        ids = route(finish, logits, bias, **attrs)["ids"]
        s = [((sigmoid(x) + bias) - bias)[i] for x, i in zip(logits, ids, strict=True)]
        return result(ids, [finish(values, attrs["factor"]) for values in s])

    return mutant


def zero_filled(values, k, groups, open_groups, score):
    """Closed groups take part with 0."""
    free = set(opened(values, groups, open_groups, score))
    return place([v if e in free else np.float32(0) for e, v in enumerate(values)])[:k]


def higher_id(values, k, groups, open_groups, score):
    """Ties go to the higher id, among experts and among groups."""
    return [len(values) - 1 - i for i in chosen(values[::-1], k, groups, open_groups, score)]


def not_marked(values, k, groups, open_groups, score):
    """The loop finds the same winner again where comparisons do not tell: a nan in the row, or all entries equal."""
    stuck = len({float(v) for v in values}) == 1 or np.isnan(values).any()
    return [int(np.argmax(values))] * k if stuck else chosen(values, k, groups, open_groups, score)


def below_256(values, k, groups, open_groups, score):
    """Experts from 256 on are never chosen."""
    free = [e for e in opened(values, groups, open_groups, score) if e < 256] + list(range(256))
    return [free[i] for i in place([values[e] for e in free])[:k]]


def first_row_groups(run):
    """Mutant: the groups of the first row are open for all."""
    def mutant(*arrays, **attrs):
        known = []

        def pick(values, k, groups, open_groups, score):
            known.append(known[0] if known else opened(values, groups, open_groups, score))
            return [known[0][i] for i in place([values[e] for e in known[0]])[:k]]

        return run(*arrays, **attrs, pick=pick)

    return mutant


def other_k(run):
    """Mutant: two choices, filled up with zeros; four where two would be right or too many."""
    def mutant(*arrays, k, **attrs):
        used = 2 if k > 2 else 4
        return {name: np.pad(values, ((0, 0), (0, max(k - used, 0))))
                for name, values in run(*arrays, k=used, **attrs).items()}

    return mutant


def changed(run, change):
    """Mutant: `change` of the right weights or ids."""
    return lambda *arrays, **attrs: (right := run(*arrays, **attrs)) | change(right, attrs)


def common(run):
    """Mutants every routing op with groups has; run(*arrays, attributes, score=, pick=)."""
    return {
        "R04": lambda *a, **k: run(*a, **k, pick=zero_filled),
        "R05": lambda *a, **k: run(*a, **(k | {"groups": 1, "open_groups": 1})),
        "R09": lambda *a, **k: run(*a, **(k | {"factor": k["factor"] ** 2})),
        "R10": lambda *a, **k: run(*a, **(k | {"factor": 1.0})),
        "R12": lambda logits, *a, **k: run(bf16(logits), *a, **k),
        "R15": lambda *a, **k: run(*a, **k, pick=higher_id),
        "R16": lambda *a, **k: run(*a, **k, pick=not_marked),
        "R17": (lambda *a, **k: run(*a, **k, pick=below_256), changed(run, lambda r, k: {"ids": r["ids"] & 255})),
        "R18": changed(run, lambda r, k: {"weights": np.roll(r["weights"], 1, axis=1)}),
        "R20": first_row_groups(run),
        "R21": other_k(run),
        "R22": changed(run, lambda r, k: {"weights": r["weights"] / r["weights"].sum(axis=0) * k["factor"]}),
    }


def mutants_of(finish, other):
    """The mutants of both sigmoid ops; `other` is the finish of the twin."""
    def run(logits, bias, k, groups, open_groups, factor, **parts):
        return route(finish, logits, bias, k, groups, open_groups, factor, **parts)

    def padded(logits, bias, **attrs):
        pad = (0, -len(bias) % 16)
        return run(np.pad(logits, ((0, 0), pad)), np.pad(bias, pad), **attrs)

    def not_rounded(logits, bias, **attrs):
        return run(logits, bias.astype(float), **attrs)

    def raw(logits, bias, **attrs):
        ids = run(logits, bias, **attrs)["ids"]
        return result(ids, np.take_along_axis(logits, ids, 1))

    return common(run) | {
        "R01": _biased_weights(finish),
        "R02": lambda logits, bias, **k: run(logits, np.zeros_like(bias), **k),
        "R03": lambda *a, **k: run(*a, **k, score=lambda members: members[place(members)[0]]),
        "R07": raw,
        "R08": lambda *a, **k: route(other, *a, **k),
        "R11": lambda *a, **k: run(*a, **k, scored=exact(soft)),
        "R13": lambda logits, bias, **k: run(logits, bf16(bias), **k),
        "R14": _taken_back(finish),
        "R19": padded,
        "not_rounded": not_rounded,
        "infinite_is_finite": lambda logits, bias, **k: run(np.nan_to_num(logits, posinf=1e4, neginf=-1.0), bias, **k),
    }


def bits(logits, bias, k, groups, open_groups, factor):
    """The result."""
    return route(plain_weights, logits, bias, k, groups, open_groups, factor)


def reference(logits, bias, k, groups, open_groups, factor):
    """{name: (binary64 value, bound)}."""
    return reference_of(plain_weights, logits, bias, k, groups, open_groups, factor)


MUTANTS = mutants_of(plain_weights, renormalise)
