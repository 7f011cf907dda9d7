"""logits - two sets of logits for the same tokens: divergence, agreement, perplexity.

For every position p = softmax(reference), q = softmax(other), in binary64. `kl` is sum p log(p/q), mean and standard
error over positions; `top1` counts positions with the same best token, `ties` those among the others where the
reference's two candidates are closer than twice the largest difference of that row; `top5` is the mean share of the
five best that both have. With the tokens that follow, `perplexity` is exp of the mean of -log of their probability,
`log_perplexity_difference` the mean difference with its standard error.
"""

from typing import Any

import numpy as np

TOP = 5
ROWS = 64  # at a time: bounds the memory of binary64 copies


def statistics(theirs: np.ndarray, reference: np.ndarray, following: list[int] | None = None) -> dict[str, Any]:
    """Facts about logits f32[T,V]; `following[t]` is the token after position t (the last may lack)."""
    columns: dict[str, list[np.ndarray]] = {key: [] for key in ("kl", "top1", "tie", "top5", "ours", "other")}
    for first in range(0, len(reference), ROWS):
        p, q = (_log_softmax(rows[first : first + ROWS]) for rows in (reference, theirs))
        with np.errstate(all="ignore"):
            columns["kl"].append(np.where(p > -np.inf, np.exp(p) * (p - q), 0.0).sum(axis=1))
        best, other = p.argmax(axis=1), q.argmax(axis=1)
        rows = np.arange(len(p))
        moved = abs(reference[first : first + ROWS].astype(np.float64) - theirs[first : first + ROWS]).max(axis=1)
        columns["top1"].append(best == other)
        columns["tie"].append((best != other) & (p[rows, best] - p[rows, other] <= 2 * moved))
        count = min(TOP, p.shape[1])
        tops = [np.argpartition(-x, count - 1, axis=1)[:, :count] for x in (p, q)]
        columns["top5"].append(np.array([len(np.intersect1d(a, b)) / count for a, b in zip(*tops, strict=True)]))
        after = np.array((following or [])[first : first + len(p)], np.int64)
        columns["ours"].append(-p[rows[: len(after)], after])
        columns["other"].append(-q[rows[: len(after)], after])
    joined = {key: np.concatenate(parts) for key, parts in columns.items()}
    facts = {"positions": len(reference), "kl_mean": _mean(joined["kl"]), "kl_error": _error(joined["kl"]),
             "kl_largest": float(joined["kl"].max()), "top1_agreement": float(joined["top1"].mean()),
             "top1_ties": int(joined["tie"].sum()), "top1_differs": int((~joined["top1"] & ~joined["tie"]).sum()),
             "top5_overlap": float(joined["top5"].mean())}  # fmt: skip
    if len(joined["ours"]):
        change = joined["other"] - joined["ours"]
        facts |= {"perplexity": float(np.exp(joined["ours"].mean())),
                  "other_perplexity": float(np.exp(joined["other"].mean())),
                  "log_perplexity_difference": _mean(change), "log_perplexity_error": _error(change)}  # fmt: skip
    return facts


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
