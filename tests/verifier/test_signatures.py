"""Signatures: each of them is seen in an array that has it."""

import numpy as np
import pytest

from refmoe import verifier
from refmoe.numerics import counter

ROWS, WIDTH, K = 40, 64, 24
X = counter.fill_normal(5, 1, ROWS * K).reshape(ROWS, K)
W = counter.fill_normal(5, 2, WIDTH * K).reshape(WIDTH, K)
Y = (X.astype(float) @ W.astype(float).T).astype(np.float32)


def only(rows=slice(None), columns=slice(None)):
    y = Y.copy()
    y[rows, columns] *= np.float32(1.25)
    return y


INDEX = np.arange(WIDTH)
EXAMPLES = {
    "factor": (Y * np.float32(2.5), "reference x 2.5"),
    "sign": (-Y, "the opposite sign"),
    "offset": (Y + np.float32(3), "reference + 3"),
    "row factors": (Y * np.linspace(1.5, 2, ROWS, dtype=np.float32)[:, None], "every row is the reference times"),
    "column factors": (Y * np.linspace(1.5, 2, WIDTH, dtype=np.float32), "every column is the reference times"),
    "column offsets": (Y + np.linspace(5, 9, WIDTH, dtype=np.float32), "every column is the reference plus"),
    "halves": (np.roll(Y, WIDTH // 2, axis=1), "halves exchanged"),
    "interleaved": (Y[:, np.stack([INDEX[:32], INDEX[32:]], 1).reshape(-1)], "halves read as neighbours"),
    "apart": (Y[:, np.concatenate([INDEX[::2], INDEX[1::2]])], "neighbours read as halves"),
    "reversed": (Y[:, ::-1].copy(), "reversed"),
    "moved": (np.roll(Y, 1, axis=1), "moved by one"),
    "any order": (Y[:, np.random.default_rng(0).permutation(WIDTH)], "columns in another order"),
    "rows": (Y[::-1].copy(), "rows in another order: reversed"),
    "column by column": (np.ascontiguousarray(Y.T).reshape(Y.shape), "written column by column"),
    "modulo": (only(columns=slice(31, None, 32)), "columns 31 mod 32"),
    "from a row on": (only(rows=slice(33, None)), "only rows from 33 on"),
    "a tile": (only(slice(8, 16), slice(16, 32)), "only columns 16 to 31"),
    "one element": (only(slice(3, 4), slice(5, 6)), "only row 3 of 40"),
    "zeros": (np.where(INDEX < 60, Y, np.float32(0)), "are zero"),
    "nan": (np.where(Y > 3, np.float32(np.nan), Y), "nan and 0 inf where numbers are expected"),
    "bf16": ((Y.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32), "every value is a bf16 number"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_signature(name):
    found, words = EXAMPLES[name]
    verdict = verifier.judge("linear", {"x": X, "w": W}, {}, {"y": np.ascontiguousarray(found)}, {"y": Y})
    assert verdict.status == "WRONG"
    assert any(words in line for line in verdict.outputs[0].signatures), verdict.outputs[0].signatures


def test_the_right_result_has_none():
    verdict = verifier.judge("linear", {"x": X, "w": W}, {}, {"y": Y}, None)
    assert verdict.status == "WITHIN" and not verdict.outputs[0].signatures


def test_experts_and_positions():
    ids = np.array([[0, 5], [5, 2], [1, 0], [2, 5]])
    w = counter.fill_normal(5, 3, 6 * 8 * K).reshape(6, 8, K)
    y = np.einsum("tk,tjfk->tjf", X[:4], w[ids]).astype(np.float32)
    y[ids == 5] *= 2
    verdict = verifier.judge("expert_linear", {"x": X[:4], "ids": ids, "w": w}, {}, {"y": y})
    assert "only experts from 5 on" in verdict.outputs[0].signatures


def test_worst_element_and_histogram():
    y = Y.copy()
    y[7, 9] = np.nextafter(np.float32(Y[7, 9] * 1.5), np.float32(100))
    output = verifier.judge("linear", {"x": X, "w": W}, {}, {"y": y}, {"y": Y}).outputs[0]
    assert output.worst.index == (7, 9) and output.wrong == 1 and output.worst.expected == Y[7, 9]
    assert output.histogram == {"0": Y.size - 1, "more": 1}
