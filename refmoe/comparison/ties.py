"""ties - equal logits of experts that only a declared rounding made equal.

The clauses say that of equal logits the lower id wins. In binary32 that decides almost never; logits that were rounded
to bfloat16 or binary16 tie in several rows of a hundred, and top-k functions differ in which they take. Where a profile
declares such a type for the logits, another choice among experts with the same logit (and the same bias) is excused,
counted and shown: the rounding, not the choice, lost the difference. Vectors (`refmoe check`) excuse no tie.
"""

import numpy as np


def untied(found: np.ndarray, ours: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Chosen ids [T,K] with ours in place of those that tie with them, and the rows where that changed something.

    key [T,E,n]: what experts are compared by.
    """
    fixed, rows = found.copy(), []
    for t in np.flatnonzero((np.sort(found, axis=1) != np.sort(ours, axis=1)).any(axis=1)):
        if ((found[t] < 0) | (found[t] >= key.shape[1])).any() or len(set(found[t].tolist())) < found.shape[1]:
            continue
        spare = [e for e in ours[t].tolist() if e not in found[t]]
        row = found[t].copy()
        for place in np.flatnonzero(~np.isin(found[t], ours[t])):
            match = next((e for e in spare if np.array_equal(key[t, e], key[t, row[place]])), None)
            if match is None:
                break
            row[place] = match
            spare.remove(match)
        else:
            fixed[t] = row
            rows.append(int(t))
    return fixed, rows
