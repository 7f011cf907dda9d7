"""Stored matrices for the tests of formats, and a program that prints the digest of their products."""

import hashlib

import numpy as np

from refmoe import formats, ops
from refmoe.numerics import codecs, counter
from refmoe.weight import Weight

SHAPES = [(1, 1, 1), (1, 33, 17), (3, 5, 37), (7, 34, 16), (9, 35, 31), (33, 33, 70)]
STORE = {"f32": lambda values: values, "bf16": codecs.f32_to_bf16, "f16": codecs.f32_to_f16}


def random_weight(format, rows, cols):
    """A bell-shaped matrix, stored."""
    stream = counter.stream_of(f"{format} {rows} {cols}")
    values = STORE[format](counter.fill_normal(3, stream, rows * cols))
    return Weight(format, rows, cols, {".weight": values.view(np.uint8)})


def any_weight(format, rows, cols):
    """Uniformly random codes."""
    size = rows * cols * (4 if format == "f32" else 2)
    return Weight(format, rows, cols, {".weight": np.random.default_rng(rows).integers(0, 256, size, dtype=np.uint8)})


def digest():
    """sha256 of the products, through the fast schedule, of all formats and shapes, and of codes of every kind."""
    total = hashlib.sha256()
    for format in formats.names():
        for rows, n, k in SHAPES:
            x = counter.fill_normal(4, counter.stream_of(f"{rows} {k}"), rows * k).reshape(rows, k)
            weight = random_weight(format, n, k)  # kept: bind holds addresses
            total.update(ops.get("linear").bind((weight,), {}, 2)(x).tobytes())
        unit = np.eye(9, 37, dtype=np.float32)
        weight = any_weight(format, 40, 37)
        y = ops.get("linear").bind((weight,), {}, 2)(unit)
        total.update(np.where(np.isnan(y), np.float32(0), y).tobytes() + np.isnan(y).tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    print(digest())
