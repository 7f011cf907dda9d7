"""Plan of a single token's pass: buffers and jobs (refmoe.decode) of a whole program, laid out once.

A program with a step that has no job here has no plan; its tokens, like several rows at once and recorded passes, take
the engine's usual way. Both give the same bits.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from refmoe import decode, formats
from refmoe.decode import WORDS
from refmoe.kernels import absorb, attention, elementwise, latent, matmul, team
from refmoe.kernels.panels import PANEL
from refmoe.kvcache import DTYPES, Sequence
from refmoe.program import CacheRow, Program, Step

LINE = 64
SMALL = 1 << 16  # multiplications below which sharing costs more than it gains
MERGED = ("linear", "expert_linear", "linear_a8", "expert_linear_a8")  # steps on the same inputs share a launch
ROUTES = {"route_sigmoid_groups": decode.sigmoid_groups, "route_sigmoid_groups_renorm": decode.sigmoid_groups_renorm,
          "route_softmax_groups": decode.softmax_groups, "route_softmax_topk": decode.softmax_topk,
          "route_softmax_topk_renorm": decode.softmax_topk_renorm,
          "route_topk_softmax": decode.topk_softmax}  # fmt: skip
STORES = {np.dtype(np.float32): decode.store_f32, np.dtype(np.uint16): decode.store_bf16}


class Unplanned(Exception):
    """A step that has no job."""


class Plan:
    """`step(sequence, token)` gives logits f32[1,V], or None while another thread is in it."""

    def __init__(self, program: Program, weights: dict, tables: dict, kv_dtype: str, threads: int):
        self._program, self._weights, self._tables, self._threads = program, weights, tables, threads
        self._tag = np.empty(0, DTYPES[kv_dtype])
        self._kept: list[Any] = []  # what jobs point into
        self._jobs: list[list[int]] = []
        self._attending: list[np.ndarray] = []  # the block of each layer's attention
        self._buffers: dict[tuple, np.ndarray] = {}
        self._lock = threading.Lock()
        self._token, self._position = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._write()
        self._table = np.array(self._jobs, np.int64)

    def step(self, sequence: Sequence, token: int) -> np.ndarray | None:
        """Append one token to a sequence."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            sequence.reserve(1)
            for block, layer in zip(self._attending, sequence.layers, strict=True):
                block[5], block[6] = layer.addresses
            self._token[0], self._position[0] = token, sequence.length
            decode.run(team.gather(self._threads), self._table)
            for layer in sequence.layers:
                layer.length += 1
            return self._logits.copy()
        finally:
            self._lock.release()

    def _write(self) -> None:
        """Jobs of head, layers and tail."""
        program = self._program
        (head,) = program.head
        if head.op != "embedding" or any(s.op == "embedding" for s in program.tail):
            raise Unplanned(head.op)
        stream = self._buffer("head", head.out[0], program.dims["H"])
        operands = formats.operands([[self._weights[head.weights[0], None]]])
        self._job(decode.embed, [operands.descriptors, stream, self._token], operands)
        for number, (kind, row) in enumerate(zip(program.kinds, program.cache_rows(), strict=True)):
            stream = self._part(program.blocks[kind], {"x": stream}, number, f"{kind} {number % 2}", row)
        self._logits = self._part(program.tail, {"x": stream}, None, "tail", None).reshape(1, -1)

    def _part(self, steps: tuple[Step, ...], values: dict, layer: int | None, where: str, row: CacheRow | None):
        """Jobs of one list of steps; returns its last result."""
        done: set[str] = set()
        for at, step in enumerate(steps):
            if step.out[0] in done:
                continue
            together = [step]
            if step.op in MERGED:
                together += [s for s in steps[at + 1:] if (s.op, s.inputs) == (step.op, step.inputs)]
            done.update(name for s in together for name in s.out)
            for s in together:
                for name, shape in zip(s.out, s.shapes, strict=True):
                    values[name] = self._buffer(where, name, *self._sizes(shape), dtype=shape[:3])
            inputs = [values[name] for name in step.inputs if name not in ("positions", "cache")]
            self._step(together, inputs, values, layer, row)
        return values[steps[-1].out[-1]]

    def _sizes(self, shape: str) -> list[int]:
        """A shape as the checker prints it, for one token, without its first axis."""
        axes = shape.partition("[")[2].rstrip("]").split(",")[1:]
        return [int(np.prod(self._program.sizes(axis))) for axis in axes]

    def _buffer(self, where: str, name: str, *sizes: int, dtype: str = "f32") -> np.ndarray:
        """Memory of one result, from a cache line on, with room for whole vectors; the same for all even layers of a
        kind, and for all odd ones, so that a layer never writes what it still reads of the one before."""
        if (where, name) not in self._buffers:
            count = int(np.prod(sizes))
            kind: Any = np.int64 if dtype == "i64" else np.float32
            raw = np.zeros((count + 32) * 8, np.uint8)
            skip = -raw.ctypes.data % LINE
            self._kept.append(raw)
            self._buffers[where, name] = raw[skip:skip + count * kind(0).itemsize].view(kind).reshape(sizes)
        return self._buffers[where, name]

    def _room(self, name: str, size: int) -> int:
        """Address of memory for what lives until the next job; one piece serves all that need no more."""
        rounded = 1 << (size - 1).bit_length()
        return int(self._buffer(name, str(rounded), rounded // 4).ctypes.data)

    def _job(self, item: Callable, operands: list, *kept: Any) -> np.ndarray:
        """A job on the calling thread: arrays by address, numbers as they are, floats by the address of a f32."""
        block = np.zeros(WORDS, np.int64)
        for i, operand in enumerate(operands):
            if isinstance(operand, float):
                operand = np.array([operand], np.float32)
            self._kept.append(operand)
            block[i] = operand.ctypes.data if isinstance(operand, np.ndarray) else operand
        self._kept += [block, kept]
        self._jobs.append([item(), block.ctypes.data, 1, 1])
        return block

    def _shared(self, function: int, block: np.ndarray, items: int, work: int, small: int = SMALL) -> None:
        """A job of items for kernels.team."""
        self._kept.append(block)
        shares = 1 if work < small else self._threads
        self._jobs.append([function, block.ctypes.data, items, shares])

    def _product(self, operands: formats.Operands, x: np.ndarray, outs: list[np.ndarray], x_rows: list[int]) -> None:
        """One row of x for each set of `operands`; outs[m] f32[sets, rows[m]]."""
        sets, cols = len(x_rows), x.shape[-1]
        starts, rows = np.arange(sets + 1), np.array(x_rows)
        arrays = {
            matmul.MATRICES: operands.descriptors, matmul.ROWS: operands.rows, matmul.X: x, matmul.X_ROWS: rows,
            matmul.STARTS: starts, matmul.TILES: np.zeros(sets + 1, np.int64), matmul.OUT_ROWS: np.arange(sets),
            matmul.PLACES: np.array([out.ctypes.data for out in outs]),
            matmul.WORK: np.array([(s, m, first) for s in range(sets) for m, width in enumerate(operands.rows.tolist())
                                   for first in range(0, width, PANEL)], np.int64),
        }  # fmt: skip
        block = np.zeros(matmul.JOB, np.int64)
        for word, array in arrays.items():
            block[word] = array.ctypes.data
        block[matmul.SETS], block[matmul.COLUMNS] = sets, cols
        self._kept += [operands, arrays]
        if operands.coded:
            each, size = int(matmul.row_bytes(cols)), int(matmul.scratch_bytes(cols))
            block[matmul.CODES] = self._room("codes", x.size // cols * each)
            block[matmul.SCRATCH], block[matmul.SCRATCH_BYTES] = self._room("scratch", self._threads * size), size
            self._shared(matmul._quantise_item(), block, x.size // cols, 0)
        items = len(arrays[matmul.WORK])
        self._shared(matmul._any_format(), block, items, int(operands.rows.sum()) * cols * sets)

    def _step(self, steps: list[Step], inputs: list, values: dict, layer: int | None, row: CacheRow | None) -> None:
        """The jobs of one step, or of several that share a launch."""
        op = steps[0].op.removesuffix("_a8")
        make: Callable | None = getattr(self, f"_op_{op}", self._op_route if op in ROUTES else None)
        if make is None:
            raise Unplanned(steps[0].op)
        weights = [[self._weights[role, layer if (role, layer) in self._weights else None] for role in s.weights]
                   for s in steps]
        outs = [values[name] for s in steps for name in s.out]
        if steps[0].op in MERGED:
            make(inputs, [own for (own,) in weights], outs, op != steps[0].op)
        else:
            make(steps[0], inputs, weights[0], outs, row)

    def _op_linear(self, inputs, weights, outs, int8=False):
        self._product(formats.operands([[weight] for weight in weights], int8), inputs[0], outs, [0])

    def _op_expert_linear(self, inputs, weights, outs, int8=False):
        x, ids = inputs
        operands = formats.operands(weights, int8)
        kinds, experts, _ = operands.descriptors.shape
        chosen = np.zeros((kinds, len(ids), 16), np.int64)
        self._job(decode.pick, [ids, len(ids), kinds, experts, operands.descriptors, chosen], operands)
        x_rows = [0] * len(ids) if x.ndim == 1 else list(range(len(ids)))
        self._product(operands._replace(descriptors=chosen), x, outs, x_rows)

    def _op_expert_linear_bias(self, step, inputs, weights, outs, row):
        self._op_expert_linear(inputs, [weights[0]], outs, step.op.endswith("_a8"))
        (choices, size), b = outs[0].shape, np.ascontiguousarray(weights[1])
        self._job(decode.biases, [outs[0], inputs[1], b, choices, size, b.shape[0]])

    def _op_logits(self, step, inputs, weights, outs, row):
        self._op_linear(inputs, weights, outs)

    def _op_linear_bias(self, step, inputs, weights, outs, row):
        self._op_linear(inputs, weights[:1], outs, step.op.endswith("_a8"))
        self._job(decode.bias, [outs[0], weights[1], outs[0].size])

    def _op_absorb_query(self, step, inputs, weights, outs, row):
        (weight,), (x,), (y,), heads = weights, inputs, outs, step.attrs["heads"]
        operands = formats.row_blocks(weight, [0], weight.rows)
        size, vectors = x.size // heads, (weight.cols + 15) // 16
        each = int(absorb._lanes_bytes(vectors))
        scratch, block = np.zeros(self._threads * each // 4, np.float32), np.zeros(10, np.int64)
        block[:] = (x.ctypes.data, operands.descriptors.ctypes.data, y.ctypes.data, 1, heads, size,
                    weight.rows // heads, weight.cols, scratch.ctypes.data, each)  # fmt: skip
        self._kept += [operands, scratch]
        self._shared(absorb._absorb_item(), block, heads, x.size * weight.cols)

    def _op_expand_value(self, step, inputs, weights, outs, row):
        (weight,), (x,), (y,) = weights, inputs, outs
        heads, width = step.attrs["heads"], step.attrs["width"]
        rows = weight.rows // heads
        operands = formats.row_blocks(weight, [(n + 1) * rows - width for n in range(heads)], width)
        self._product(operands, x.reshape(heads, -1), [y.reshape(heads, width)], list(range(heads)))

    def _op_rms_norm(self, step, inputs, weights, outs, row):
        (x,), (w,) = inputs, weights
        self._job(decode.norm, [x, w, outs[0], x.size // w.size, w.size, float(step.attrs["eps"])])

    _op_head_norm = _op_rms_norm

    def _op_add(self, step, inputs, weights, outs, row):
        self._job(decode.plus, [*inputs, outs[0], outs[0].size])

    def _op_split_heads(self, step, inputs, weights, outs, row):
        sizes = [step.attrs[name] for name in ("heads", "left", "right")]
        self._job(decode.split, [inputs[0], *outs, *sizes])

    def _op_swiglu(self, step, inputs, weights, outs, row):
        size, block = outs[0].size, np.zeros(4, np.int64)
        block[:] = (*(array.ctypes.data for array in (*inputs, *outs)), size)
        items = -(-size // elementwise.STRETCH)
        self._shared(elementwise._swiglu_item(), block, items, size, elementwise.SMALL)

    def _op_swiglu_clamped(self, step, inputs, weights, outs, row):
        (x,), (y,), block = inputs, outs, np.zeros(5, np.int64)
        numbers = np.array([step.attrs["limit"], step.attrs["alpha"]], np.float32)
        block[:] = (x.ctypes.data, y.ctypes.data, numbers.ctypes.data, numbers.ctypes.data + 4, y.size)
        self._kept.append(numbers)
        items = -(-y.size // elementwise.STRETCH)
        self._shared(elementwise._clamped_item(), block, items, y.size, elementwise.SMALL)

    def _rope(self, item, step, inputs, outs, more=()):
        inv_freq, amplitude = self._tables[step.attrs["table"]]
        size = outs[0].size
        self._job(item, [inputs[0], outs[0], size, inv_freq, inv_freq.size, float(amplitude), self._position, *more])

    def _op_rope_pairs(self, step, inputs, weights, outs, row):
        self._rope(decode.turn_pairs, step, inputs, outs)

    def _op_rope_half(self, step, inputs, weights, outs, row):
        self._rope(decode.turn_halves, step, inputs, outs)

    def _op_rope_half_partial(self, step, inputs, weights, outs, row):
        self._rope(decode.turn_parts, step, inputs, outs, [step.attrs["head_dim"]])

    def _op_clip(self, step, inputs, weights, outs, row):
        self._job(decode.limited, [inputs[0], outs[0], outs[0].size, float(step.attrs["limit"])])

    def _op_route(self, step, inputs, weights, outs, row):
        (logits,), (ids, chosen), attrs = inputs, outs, step.attrs
        operands = [logits, logits.size, ids, chosen, ids.size]
        if "groups" in attrs:
            scores = np.zeros(attrs["groups"], np.float32)
            bias = weights[0] if weights else 0
            operands += [bias, attrs["open_groups"], float(attrs["factor"]), scores, scores.size]
        self._job(ROUTES[step.op], operands)

    def _op_combine(self, step, inputs, weights, outs, row):
        self._job(decode.weigh, [*inputs, outs[0], *inputs[0].shape])

    def _op_scale_by_sigmoid(self, step, inputs, weights, outs, row):
        self._job(decode.scale, [*inputs, outs[0], outs[0].size])

    def _attention(self, item, step, row, new, outs, limit, rest):
        """Stores the new rows, then attends over all: two jobs on one block of operands."""
        padded = [(width + 15) // 16 * 16 for width in ((sum(row.widths),) * 2 if row.joined else row.widths)]
        control = team.gather(1)
        operands = [*new, row.heads, *row.widths, 0, 0, *padded, row.widths[0] if row.joined else 0, self._position]
        operands += [step.attrs["heads"], outs[0], float(step.attrs["scale"]), limit, self._threads]
        operands += [control, control.size]
        self._attending.append(self._job(STORES[self._tag.dtype], operands + rest))
        self._jobs.append([item(), *self._jobs[-1][1:]])

    def _op_attention(self, step, inputs, weights, outs, row):
        q, k, v = inputs
        sinks = weights[0] if weights else attention.NO_SINKS
        rest = [attention.ITEM[self._tag.dtype](), q, step.attrs["window"], sinks, sinks.size]
        self._attention(decode.attend, step, row, (k, v), outs, attention.SMALL, rest)

    _op_attention_sinks = _op_attention

    def _op_latent_attention(self, step, inputs, weights, outs, row):
        q, q_rope, new, k_rope = inputs
        scored, summed = latent.ITEMS[self._tag.dtype]
        items = np.array([latent._pack_item(), scored(), latent._weight_item(), summed()])
        self._attention(decode.attend_latents, step, row, (new, k_rope), outs, latent.SMALL, [items, q, q_rope])
