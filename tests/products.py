"""Stored matrices for the tests of formats, and a program that prints the digest of their products."""

import hashlib
import sys

import numpy as np

from refmoe import formats, ops
from refmoe.numerics import codecs, counter
from refmoe.weight import Weight
from tests import quantised

SHAPES = [(1, 1, 1), (1, 33, 17), (3, 5, 37), (7, 34, 16), (9, 35, 31), (33, 33, 70)]
STORE = {"f32": lambda values: values, "bf16": codecs.f32_to_bf16, "f16": codecs.f32_to_f16}


def random_weight(format, rows, cols):
    """A bell-shaped matrix, stored."""
    stream = counter.stream_of(f"{format} {rows} {cols}")
    values = STORE[format](counter.fill_normal(3, stream, rows * cols))
    return Weight(format, rows, cols, {".weight": values.view(np.uint8)})


def every_weight(format, rows, cols):
    """One matrix of a plain format, or one for each of the settings of a quantised one."""
    return quantised.weights(format, rows, cols) if format in quantised.MAKERS else [random_weight(format, rows, cols)]


def any_weight(format, rows, cols):
    """Uniformly random codes."""
    size = rows * cols * (4 if format == "f32" else 2)
    return Weight(format, rows, cols, {".weight": np.random.default_rng(rows).integers(0, 256, size, dtype=np.uint8)})


def _update(total, y):
    total.update(np.where(np.isnan(y), np.float32(0), y).tobytes() + np.isnan(y).tobytes())


def digest(names):
    """sha256 of the products, through the fast schedule, of these formats, all shapes, and codes of every kind."""
    total = hashlib.sha256()
    for format in names:
        for rows, n, k in SHAPES:
            for weight in every_weight(format, n, k):  # kept: bind holds addresses
                size = rows * weight.cols
                x = counter.fill_normal(4, counter.stream_of(f"{rows} {weight.cols}"), size).reshape(rows, weight.cols)
                _update(total, ops.get("linear").bind((weight,), {}, 2)(x))
                if formats.codes(weight) is not None:
                    _update(total, ops.get("linear_a8").bind((weight,), {}, 2)(x))
        if format in STORE:
            unit = np.eye(9, 37, dtype=np.float32)
            weight = any_weight(format, 40, 37)
            _update(total, ops.get("linear").bind((weight,), {}, 2)(unit))
    return total.hexdigest()


if __name__ == "__main__":
    print(digest(sys.argv[1:] or formats.names()))
