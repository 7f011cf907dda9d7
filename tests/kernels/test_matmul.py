"""matmul: sets and kinds, gathered and scattered rows, blocks and panels."""

import numpy as np
import pytest

from refmoe import jit

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no schedules", allow_module_level=True)

from refmoe.formats import Operands
from refmoe.kernels.matmul import FEW, matmul, product_bf16, product_f32
from refmoe.kernels.panels import BLOCK_K, BLOCK_X, PANEL
from refmoe.numerics.vec import BF16, F32, TILE_COLS
from refmoe.ops import linear
from tests import vectors


def run(tag, kinds, widths, x, x_rows, starts, out_rows, parts):
    """kinds[m][s]: matrices as arrays, of widths[m] rows."""
    product = {"float32": product_f32, "uint16": product_bf16}[str(tag.dtype)]()
    words = [[[matrix.ctypes.data, x.shape[1], x.shape[1] * tag.itemsize, *[0] * 12, product] for matrix in kind]
             for kind in kinds]
    operands = Operands(np.array(words, np.int64), np.array(widths), kinds)
    return matmul(operands, x, np.array(x_rows), np.array(starts), np.array(out_rows), parts)


def one(tag, w, x, n, parts):
    """One matrix of n rows, one set of all rows of x."""
    (out,) = run(tag, [[w]], [n], x, range(len(x)), [0, len(x)], range(len(x)), parts)
    return out


@pytest.mark.parametrize("sizes", [(0, 3, 0, FEW, 1), (FEW - 1, FEW + 1), (0, 0, 2 * TILE_COLS + 1), (1,)])
@pytest.mark.parametrize("widths", [(PANEL + 5,), (3, 2 * PANEL + 1)])
def test_sets_and_kinds(sizes, widths):
    """Idle sets, few and many rows; rows of x used twice; outputs in any order."""
    k, rng = 37, np.random.default_rng(len(sizes))
    kinds = [vectors.normal(f"sets w {n}", len(sizes), n, k) for n in widths]
    x, total = vectors.normal("sets x", 9, k), sum(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    x_rows, out_rows = rng.integers(0, 9, total), rng.permutation(total)
    wanted = [np.empty((total, n), np.float32) for n in widths]
    for want, w in zip(wanted, kinds, strict=True):
        for s in range(len(sizes)):
            for i in range(starts[s], starts[s + 1]):
                want[out_rows[i]] = linear.plain(x[x_rows[i]][None], w[s])[0]
    for parts in (*vectors.PARTS, 40):
        outs = run(F32, kinds, widths, x, x_rows, starts, out_rows, parts)
        for out, want in zip(outs, wanted, strict=True):
            vectors.assert_same(out, want, f"{parts} parts")


@pytest.mark.parametrize("k", [BLOCK_K * 16 - 1, BLOCK_K * 16, BLOCK_K * 16 + 1, 2 * BLOCK_K * 16 + 16])
def test_blocks_of_k_hand_their_lanes_on(k):
    w, x = vectors.normal(f"blocks w {k}", PANEL + 1, k), vectors.normal(f"blocks x {k}", FEW, k)
    vectors.assert_same(one(F32, w, x, PANEL + 1, 2), linear.plain(x, w))


@pytest.mark.parametrize("rows", [BLOCK_X * TILE_COLS - 1, BLOCK_X * TILE_COLS, BLOCK_X * TILE_COLS + 1])
def test_many_column_tiles(rows):
    w, x = vectors.normal("tiles w", 3, 20), vectors.normal(f"tiles x {rows}", rows, 20)
    for parts in (1, 3):
        vectors.assert_same(one(F32, w, x, 3, parts), linear.plain(x, w))


@pytest.mark.parametrize("rows", [1, FEW])
def test_unaligned_matrix_and_neighbouring_bytes(rows):
    """A bf16 matrix at an odd place, nan before and behind it: no lane reads them."""
    n, k = 33, 21
    stored = np.full(n * k + 2, 0x7FC1, np.uint16)
    stored[1:-1] = (vectors.normal("odd place", n * k).view(np.uint32) >> 16).astype(np.uint16)
    x, w = vectors.normal("odd x", rows, k), (stored[1:-1].astype(np.uint32) << 16).view(np.float32).reshape(n, k)
    vectors.assert_same(one(BF16, stored[1:-1], x, n, 2), linear.plain(x, w))


def test_small_products_are_not_shared(monkeypatch):
    """The limit decides speed only: both sides of it give the same bits."""
    w, x = vectors.normal("limit w", 70, 20), vectors.normal("limit x", 9, 20)
    shared = one(F32, w, x, 70, 3)
    monkeypatch.setattr("refmoe.kernels.matmul.SMALL", 1 << 60)
    vectors.assert_same(one(F32, w, x, 70, 3), shared)
