"""rows - equal inputs must give equal bits, whatever stands beside them in the batch (catalogue N03, N05).

A port that is right within its arithmetic may still depend on the size of a batch or on neighbours. Rows of a case with
the same inputs are compared with each other, in `check` also with those of other cases of the op. A profile that says
batch_invariant makes a difference WRONG; otherwise it is a note.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from refmoe import signature
from refmoe.errors import RefmoeError
from refmoe.verifier.question import Question

Seen = dict[bytes, tuple[str, bytes]]  # inputs of a row -> where, and its results


def rows(question: Question) -> Iterator[tuple[bytes, str, bytes]]:
    """(digest of all inputs, where, bytes of the results) of each row; of each choice of an expert."""
    try:
        params = signature.load(question.op)[0].params
    except RefmoeError:
        return
    axes = {param.name: param.axes for param in params if param.axes}
    batched = [name for name in axes if name in question.inputs and axes[name][0] == "T"]
    count = len(question.inputs[batched[0]]) if batched else 0
    found = list(question.found.values())
    if not count or any(len(array) != count for array in found):
        return
    common = hashlib.sha256(repr(sorted((k, v) for k, v in question.inputs.items() if not _is_array(v))).encode())
    for name, array in question.inputs.items():
        if _is_array(array) and name not in batched:
            common.update(name.encode() + np.ascontiguousarray(array).tobytes())
    by_choice = "ids" in batched and found[0].ndim == 3
    for t in range(count):
        own = {name: question.inputs[name][t] for name in batched}
        for j in range(found[0].shape[1]) if by_choice else (None,):
            digest = common.copy()
            for name, row in own.items():
                chosen = row if j is None or (name != "ids" and row.ndim == 1) else row[j]
                digest.update(name.encode() + np.ascontiguousarray(chosen).tobytes())
            result = b"".join(np.ascontiguousarray(array[t] if j is None else array[t, j]).tobytes() for array in found)
            yield digest.digest(), f"{question.case} row {t}" + ("" if j is None else f" choice {j}"), result


def _is_array(value) -> bool:
    return isinstance(value, np.ndarray)


def differences(question: Question, seen: Seen | None = None) -> list[str]:
    """Pairs of rows with the same inputs and other results. `seen` keeps rows of further cases."""
    known: Seen = {} if seen is None else seen
    odd = []
    for digest, where, result in rows(question):
        other, before = known.setdefault(digest, (where, result))
        if before != result:
            odd.append(f"{where} differs from {other}")
    return odd
