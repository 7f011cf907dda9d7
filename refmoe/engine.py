"""The engine: runs a program step by step over one or several sequences, with an optional recorder.

A pass takes up to `chunk` new tokens, of one sequence or of many, and runs every step on all of their rows together.
No op looks across rows, except attention, which reads each sequence's own cache. So the bits of a row do not depend on
the pass it came in: any split into prefill and decode, any chunk, any batch, any number of threads gives the same.
A pass of a single token, which decoding makes over and over, is planned once and runs without Python between its steps
(refmoe.decode_plan).
"""

from collections.abc import Callable
from collections.abc import Sequence as Rows
from itertools import groupby
from typing import Any

import numpy as np

from refmoe import jit, ops
from refmoe.errors import RefmoeError, UsageError
from refmoe.jit import kernel
from refmoe.kvcache import Sequence
from refmoe.numerics import rope_tables
from refmoe.program import Program, Step

CHUNK = 512  # new tokens per pass; bounds the memory of activations, changes no bit
PLANNED_AFTER = 3  # single tokens after which their pass is planned: the first ones need not wait for it
POSITION_LIMIT = 1 << 22  # rope computes angles of positions below this

Record = Callable[[str, np.ndarray], None]


@kernel
def _product(a, b):
    return np.float32(a * b)


def check_arithmetic() -> None:
    """RefmoeError if some other library has switched this thread to flush subnormal numbers to zero.

    Helper threads inherit the setting of the thread that starts them.
    """
    if _product(np.float32(2.0**-100), np.float32(2.0**-30)) != 2.0**-130:
        raise RefmoeError("floating point: expected subnormal numbers to be kept, found flush-to-zero switched on in "
                          "this process (torch.set_flush_denormal or a library built with -ffast-math)")


class Engine:
    """A program bound to its weights.

    program   refmoe.program.Program
    weights   {(role, layer or None): Weight, list of Weight (experts by id), or f32 vector}
    kv_dtype  "f32" or "bf16": how keys and values are stored (clause attention R1)
    threads   number of threads, None for all; it never changes a bit
    """

    def __init__(self, program: Program, weights: dict, kv_dtype: str = "f32", threads: int | None = None):
        if threads is not None and not 1 <= threads <= jit.max_threads():
            raise UsageError(f"threads: expected 1 to {jit.max_threads()} (NUMBA_NUM_THREADS), found {threads}")
        self.program, self.kv_dtype, self.weights = program, kv_dtype, weights
        self.threads = (threads or jit.max_threads()) if jit.ENABLED else 1
        check_arithmetic()
        self.tables = {name: rope_tables.from_spec(spec) for name, spec in program.tables.items()}
        self._weights, self._plan, self._singles = weights, None, 0
        self._head = self._bind(program.head, weights, None)
        self._layers = [self._bind(program.blocks[kind], weights, layer) for layer, kind in enumerate(program.kinds)]
        self._tail = self._bind(program.tail, weights, None)

    def _bind(self, steps: Rows[Step], weights: dict, layer: int | None) -> list:
        """Steps -> (names of results, call, names of inputs).

        Neighbouring steps of one op on the same inputs (q, k, v; gate, up) share a launch if the op has bind_many.
        """
        operands = [tuple(weights[role, layer] if (role, layer) in weights else weights[role, None]
                          for role in step.weights) for step in steps]
        bound = []
        alike = groupby(zip(steps, operands, strict=True), lambda pair: (pair[0].op, pair[0].inputs))
        for (op, inputs), pairs in alike:
            group, module = list(pairs), ops.get(op)
            if len(group) > 1 and hasattr(module, "bind_many"):
                names = tuple(name for step, _ in group for name in step.out)
                bound.append((names, module.bind_many([own for _, own in group], self.threads), inputs))
                continue
            for step, own in group:
                bound.append((step.out, module.bind(own, self.attributes(step), self.threads), inputs))
        return bound

    def attributes(self, step: Step) -> dict:
        """What `bind` of a step's op takes as attributes: numbers, and the rotary table that the step names."""
        attrs: dict[str, object] = dict(step.attrs)
        if "table" in attrs:
            attrs["inv_freq"], attrs["amplitude"] = self.tables[str(attrs.pop("table"))]
        return attrs

    def sequence(self) -> Sequence:
        """A new empty sequence."""
        return Sequence(self.program.cache_rows(), self.kv_dtype)

    def run(self, batch: Rows[tuple[Sequence, Rows[int]]], every: bool = False, record: Record | None = None,
            chunk: int = CHUNK) -> list[np.ndarray]:
        """Append new tokens to sequences; logits f32[1 or T, V] of the last (or of every) new token of each.

        `record(name, rows)` receives every step's result, rows in the order of the batch; a long prompt comes in
        several passes. Ids must lie in 0..V-1. UsageError for bad ids, an empty prompt, too high a position, or a
        sequence that comes twice.
        """
        jobs = [(seq, self._ids(ids)) for seq, ids in batch]
        if len({id(seq) for seq, _ in jobs}) < len(jobs):
            raise UsageError("batch: expected every sequence once, found one of them twice")
        for seq, ids in jobs:
            if seq.length + ids.shape[0] > POSITION_LIMIT:
                raise UsageError(f"position: expected less than {POSITION_LIMIT}, found {seq.length + ids.shape[0]}")
        if record is None and len(jobs) == 1 and jobs[0][1].shape[0] == 1:
            result = self._single(jobs[0][0], int(jobs[0][1][0]))
            if result is not None:
                return [result]
        logits: list[list[np.ndarray]] = [[] for _ in jobs]
        for pieces in _passes([ids.shape[0] for _, ids in jobs], chunk):
            x = self._pass([(jobs[n][0], jobs[n][1][first:last]) for n, first, last in pieces], record)
            wanted, at = [], 0  # (job, first row, last row) of x whose logits are asked for
            for n, first, last in pieces:
                at += last - first
                if every:
                    wanted.append((n, at - (last - first), at))
                elif last == jobs[n][1].shape[0]:
                    wanted.append((n, at - 1, at))
            if wanted:
                rows = np.concatenate([x[first:last] for _, first, last in wanted])
                result, at = self._steps(self._tail, {"x": rows}, "", record), 0
                for n, first, last in wanted:
                    logits[n].append(result[at:at + last - first])
                    at += last - first
        return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in logits]

    def _single(self, sequence: Sequence, token: int) -> np.ndarray | None:
        """Logits of one new token by the plan of the program, if it has one and no other thread is in it."""
        self._singles += 1
        if self._singles == PLANNED_AFTER:
            self._plan = self._make_plan()
        return self._plan.step(sequence, token) if self._plan else None

    def _make_plan(self) -> Any:
        if not jit.ENABLED:
            return False
        from refmoe.decode_plan import Plan, Unplanned

        try:
            return Plan(self.program, self._weights, self.tables, self.kv_dtype, self.threads)
        except Unplanned:
            return False

    def _pass(self, pieces: list[tuple[Sequence, np.ndarray]], record: Record | None) -> np.ndarray:
        """Head and layers on the rows of all pieces: the residual stream f32[rows, H]."""
        ids = np.concatenate([ids for _, ids in pieces])
        positions = np.concatenate([np.arange(seq.length, seq.length + ids.shape[0]) for seq, ids in pieces])
        for seq, piece in pieces:
            seq.reserve(piece.shape[0])
        ends = np.cumsum([0] + [ids.shape[0] for _, ids in pieces]).tolist()
        x = self._steps(self._head, {"ids": ids}, "", record)
        for number, steps in enumerate(self._layers):
            cache = [(ends[i], ends[i + 1], seq.layers[number]) for i, (seq, _) in enumerate(pieces)]
            x = self._steps(steps, {"x": x, "positions": positions, "cache": cache}, f"layers.{number}.", record)
        return x

    @staticmethod
    def _steps(steps: list, values: dict, prefix: str, record: Record | None) -> np.ndarray:
        result: Any = None
        for names, call, inputs in steps:
            result = call(*[values[name] for name in inputs])
            if len(names) == 1:
                values[names[0]] = result
            else:
                values.update(zip(names, result, strict=True))
            if record is not None:
                for name in names:
                    record(prefix + name, values[name])
        return result

    def _ids(self, ids: Rows[int]) -> np.ndarray:
        """i64[T] of checked token ids."""
        try:
            checked = np.array(ids, np.int64)
        except (OverflowError, TypeError, ValueError):
            checked = None
        if checked is None or checked.ndim != 1 or checked.shape[0] == 0 or not all(
                isinstance(i, int | np.integer) and not isinstance(i, bool) for i in ids):
            raise UsageError("token ids: expected a non-empty list of integers")
        vocabulary = int(self.program.dims["V"])
        bad = checked[(checked < 0) | (checked >= vocabulary)]
        if bad.shape[0]:
            raise UsageError(f"token id: expected 0 to {vocabulary - 1}, found {bad[0]}")
        return checked


def _passes(sizes: list[int], chunk: int) -> list[list[tuple[int, int, int]]]:
    """Cut new tokens into passes of at most `chunk` rows: lists of (job, first, last); a job comes once per pass."""
    passes: list[list[tuple[int, int, int]]] = []
    room = 0
    for job, size in enumerate(sizes):
        first = 0
        while first < size:
            if room == 0 or first > 0:
                passes.append([])
                room = chunk
            last = min(size, first + room)
            passes[-1].append((job, first, last))
            room -= last - first
            first = last
    return passes
