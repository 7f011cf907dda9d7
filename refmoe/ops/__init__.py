"""The ops: one file each. The module docstring is the clause of the specification.

Every module has `plain(**named)`: arrays named as in its Signature, matrices as f32, through the plain kernel; and
`bind(weights, attrs, parts)`: the engine's call, through the fast schedule where there is one, the plain kernel with
the JIT off. Both give the same bits. `bind_many`, where there is one, runs neighbours on the same input in one launch.
"""

import importlib
import pkgutil
from functools import cache

import numpy as np

from refmoe import formats
from refmoe.errors import ProgramError
from refmoe.weight import Weight


@cache
def names() -> tuple[str, ...]:
    """All ops, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def get(name: str):
    """The module of an op. ProgramError for an unknown name."""
    if name not in names():
        raise ProgramError(f"op: expected one of {', '.join(names())}, found {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def wrap(matrix: np.ndarray) -> Weight:
    """A f32[rows, cols] matrix as a stored weight of format f32, for running a vector through `bind`."""
    stored = np.ascontiguousarray(matrix, np.float32)
    rows, cols = stored.shape
    return Weight("f32", rows, cols, {formats.get("f32").suffixes[0]: stored.reshape(-1).view(np.uint8)})


def wrap_codes(q: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> Weight:
    """Codes i64[N,K] in -128..127, scale and minimum f32[N,U] as a stored weight of format int8_scaled, which has
    minimum = -z * scale for an integer z. ProgramError if they cannot be stored so."""
    with np.errstate(all="ignore"):
        zeros = np.nan_to_num(np.rint(-minimum / scale)).astype(np.int8)
    unit = 32 if scale.shape[1] == -(-q.shape[1] // 32) else 16
    arrays = {".weight": q.astype(np.int8), ".weight_scale": np.ascontiguousarray(scale), ".weight_zero_point": zeros}
    parts = {suffix: array.reshape(-1).view(np.uint8) for suffix, array in arrays.items()}
    params = {"block_rows": 1, "block_cols": unit, "symmetric": int(not minimum.any()), ".weight_scale": "F32"}
    weight = Weight("int8_scaled", q.shape[0], q.shape[1], parts, params)
    found = formats.codes(weight)
    if found is None or any(a.tobytes() != b.tobytes() for a, b in zip(found, (q, scale, minimum), strict=True)):
        raise ProgramError("codes: expected q in -128..127 and minimum = -z * scale, found others")
    return weight
