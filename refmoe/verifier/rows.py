"""rows - equal inputs must give equal bits, whatever stands beside them in the batch (catalogue N03, N05).

A port that is right within its arithmetic may still depend on the size of a batch or on neighbours. Rows of a case with
the same inputs are compared with each other, in `check` also with those of other cases of the op. A profile that says
batch_invariant makes a difference WRONG; otherwise it is a note.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refmoe import signature
from refmoe.errors import RefmoeError
from refmoe.verifier.misses import Misses
from refmoe.verifier.question import Question

MOST = 64  # rows on which mutations are tried
Seen = dict[bytes, tuple[str, bytes]]  # inputs of a row -> where, and its results


def rows(question: Question) -> Iterator[tuple[bytes, str, bytes]]:
    """(digest of all inputs, where, bytes of the results) of each row; of each choice of an expert."""
    names = [name for name in batched(question.op) if name in question.inputs]
    count, found = batch(question), list(question.found.values())
    if not count:
        return
    common = hashlib.sha256(repr(sorted((k, v) for k, v in question.inputs.items() if not _is_array(v))).encode())
    for name, array in question.inputs.items():
        if _is_array(array) and name not in names:
            common.update(name.encode() + np.ascontiguousarray(array).tobytes())
    by_choice = "ids" in names and found[0].ndim == 3
    for t in range(count):
        own = {name: question.inputs[name][t] for name in names}
        for j in range(found[0].shape[1]) if by_choice else (None,):
            digest = common.copy()
            for name, row in own.items():
                chosen = row if j is None or (name != "ids" and row.ndim == 1) else row[j]
                digest.update(name.encode() + np.ascontiguousarray(chosen).tobytes())
            result = b"".join(np.ascontiguousarray(array[t] if j is None else array[t, j]).tobytes() for array in found)
            yield digest.digest(), f"{question.case} row {t}" + ("" if j is None else f" choice {j}"), result


def few_rows(question: Question, misses: dict[str, Misses]) -> tuple[Question, dict[str, Misses]]:
    """At most MOST rows, of the wrong ones and of the others, for mutations to be tried on; ops whose rows depend on
    each other (attention over the cache of a sequence keeps its keys) are cut in the rows of the queries only."""
    count = batch(question)
    if count <= MOST or question.op in ("add",):
        return question, misses
    bad = np.zeros(count, bool)
    for miss in misses.values():
        bad |= miss.wrong.reshape(count, -1).any(axis=1)
    keep = np.sort(np.concatenate([np.flatnonzero(bad)[: MOST // 2], np.flatnonzero(~bad)[: MOST // 2]]))
    names = batched(question.op)
    inputs = {name: value[keep] if name in names else value for name, value in question.inputs.items()}
    arrays = [{name: array[keep] for name, array in source.items()} for source in (question.found, question.expected)]
    cut = {name: miss.rows(keep) for name, miss in misses.items()}
    return replace(question, inputs=inputs, found=arrays[0], expected=arrays[1]), cut


def batched(op: str) -> list[str]:
    """The inputs whose first axis is the rows of a batch; none for what is no op."""
    try:
        return [param.name for param in signature.load(op)[0].params if param.axes and param.axes[0] == "T"]
    except RefmoeError:
        return []


def batch(question: Question) -> int:
    """How many rows; 0 if the results are not one for each row."""
    names = [name for name in batched(question.op) if name in question.inputs]
    count = len(question.inputs[names[0]]) if names else 0
    return count if all(len(array) == count for array in question.found.values()) else 0


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
