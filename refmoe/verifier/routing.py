"""routing - are the chosen experts the right ones, or excused by what the declared arithmetic cannot tell apart?

A `Routing` says what a router computes for some tokens: how good each expert is (`choice`, a Ball), which experts must
be told apart by the tie rule because all their inputs are equal (`key`), and the weight of whatever was chosen. A
choice is right if it is the reference's set; excused if no expert left out is surely better than a chosen one; wrong
otherwise. An exact tie is never excused: the lower id wins. Order among the chosen is free.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from refmoe.verifier.balls import Ball

MAX_DOUBTFUL = 12  # groups that the bounds cannot tell apart, tried in every combination


@dataclass
class Routing:
    """`weigh(ids)` gives the weights of the chosen. With groups, only experts of the `best` groups can be chosen."""

    k: int
    choice: Ball  # [T,E]
    weigh: Callable[[np.ndarray], Ball]
    key: tuple[np.ndarray, ...] = ()  # what the choice is computed from, each [T,E] or [E]
    tie: str = "lower"  # lower, higher, any
    groups: int = 1
    best: int = 1
    group: Ball | None = None  # [T,groups]

    def ids(self) -> np.ndarray:
        """The reference's choice, best first."""
        value = np.nan_to_num(self.choice.v, nan=-np.inf)
        if self.group is not None:
            allowed = np.zeros((len(value), self.groups), bool)
            np.put_along_axis(allowed, _first(self.group.v, self.best, self.tie), True, axis=1)
            value = np.where(np.repeat(allowed, value.shape[1] // self.groups, axis=1), value, -np.inf)
        return _first(value, self.k, self.tie)


@dataclass
class Choice:
    """What was found out about the ids of one case. `bad` lists (row, reason)."""

    excused: list[int] = field(default_factory=list)
    reordered: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


def _first(value, count, tie):
    """Indices of the largest, equal ones in the order of the tie rule."""
    if tie == "higher":
        flipped = np.argsort(-value[:, ::-1], axis=1, kind="stable")
        return value.shape[1] - 1 - flipped[:, :count]
    return np.argsort(-value, axis=1, kind="stable")[:, :count]


def compare_ids(routing: Routing, found: np.ndarray, expected: np.ndarray | None = None) -> Choice:
    """Judge chosen ids [T,k]; `expected`, if given, are the ids of the clause, which are right by definition."""
    result = Choice()
    expected = routing.ids() if expected is None else expected
    experts = routing.choice.v.shape[1]
    same = (np.sort(found, axis=1) == np.sort(expected, axis=1)).all(axis=1)
    result.reordered = int((same & (found != expected).any(axis=1)).sum())
    for t in np.flatnonzero(~same):
        row = found[t]
        if ((row < 0) | (row >= experts)).any():
            result.bad.append((int(t), f"id {int(row[(row < 0) | (row >= experts)][0])} outside 0..{experts - 1}"))
        elif len(set(row.tolist())) < len(row):
            result.bad.append((int(t), f"ids {row.tolist()} are not distinct"))
        elif np.isnan(routing.choice.v[t]).any() or _possible(routing, int(t), row):
            result.excused.append(int(t))
        else:
            result.bad.append((int(t), _reason(routing, int(t), row, expected[t])))
    return result


def _possible(routing: Routing, t: int, row: np.ndarray) -> bool:
    experts = np.arange(routing.choice.v.shape[1])
    if routing.group is None:
        return _top(routing, t, row, experts)
    size = len(experts) // routing.groups
    group = routing.group[t]
    low, high = group.v - group.e, group.v + group.e
    order = np.argsort(-group.v, kind="stable")
    inside, outside = order[: routing.best], order[routing.best :]
    cut_low, cut_high = high[outside].max(initial=-np.inf), low[inside].min(initial=np.inf)
    sure = [g for g in inside if low[g] > cut_low]
    doubtful = [g for g in order if g not in sure and high[g] >= cut_high][:MAX_DOUBTFUL]
    for extra in combinations(doubtful, routing.best - len(sure)):
        chosen = np.array([*sure, *extra], int)
        if not _groups_fit(routing, t, chosen):
            continue
        if _top(routing, t, row, experts[np.isin(experts // size, chosen)]):
            return True
    return False


def _groups_fit(routing: Routing, t: int, chosen: np.ndarray) -> bool:
    """No exact tie between groups was decided against the rule."""
    size = routing.choice.v.shape[1] // routing.groups
    keys = [np.sort(np.stack([np.broadcast_to(part, routing.choice.v.shape)[t, g * size:g * size + size]
                              for part in routing.key]), axis=1).tobytes() for g in range(routing.groups)]  # fmt: skip
    left = [g for g in range(routing.groups) if g not in chosen]
    return routing.tie == "any" or not any(
        keys[g] == keys[c] and (g < c if routing.tie == "lower" else g > c) for c in chosen for g in left)


def _top(routing: Routing, t: int, row: np.ndarray, experts: np.ndarray) -> bool:
    """May `row` be the best of `experts`?"""
    if not np.isin(row, experts).all():
        return False
    left = experts[~np.isin(experts, row)]
    if not len(left):
        return True
    choice = routing.choice[t]
    low, high = choice.v - choice.e, choice.v + choice.e
    if low[left].max() > high[row].min():
        return False
    if routing.tie == "any" or not routing.key:
        return True
    keys = np.stack([np.broadcast_to(part, routing.choice.v.shape)[t] for part in routing.key], axis=-1)
    equal = (keys[row][:, None] == keys[left][None]).all(axis=-1)
    order = left[None] < row[:, None] if routing.tie == "lower" else left[None] > row[:, None]
    return not (equal & order).any()


def _reason(routing: Routing, t: int, row: np.ndarray, expected: np.ndarray) -> str:
    wrong, missing = ([int(i) for i in a if i not in b] for a, b in ((row, expected), (expected, row)))
    choice = routing.choice[t]
    gap = choice.v[missing[0]] - choice.v[wrong[0]]
    budget = choice.e[missing[0]] + choice.e[wrong[0]]
    return f"expert {wrong[0]} chosen where {missing[0]} is better by {gap:.3g} (budget {budget:.2g})"
