"""Weight formats: Q01 to Q19."""

from collections.abc import Iterator

import numpy as np


def quantised_like(w: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A matrix as the usual quantisations would leave it."""
    wide = w.astype(np.float64)
    rows = abs(wide).max(axis=-1, keepdims=True)
    for word, size in (("int8 by rows", rows), ("int8 as a whole", rows.max())):
        scale = np.where(size > 0, size, 1) / 127
        yield word, (np.rint(wide / scale) * scale).astype(np.float32)
    for word, size in (("e4m3 by rows", rows), ("e4m3 as a whole", np.full_like(rows, rows.max()))):
        scale = np.where(size > 0, size, 1) / 448
        exponent = np.frexp(abs(wide / scale))[1]
        step = np.ldexp(1.0, np.maximum(exponent - 1, -6) - 3)
        yield word, (np.rint(wide / scale / step) * step * scale).astype(np.float32)
