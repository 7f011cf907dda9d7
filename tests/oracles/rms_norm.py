"""rms_norm: every step in rationals; its distance from the formula in binary64."""

import numpy as np

from tests.oracles.arithmetic import TINY, bf16, dot, gamma

ONE = np.float32(1)


def row_bits(x, w, eps):
    """One row."""
    with np.errstate(all="ignore"):
        mean = np.float32(dot(x, x) / np.float32(len(x)))
        return x * (ONE / np.sqrt(mean + np.float32(eps))) * w


def bits(x, w, eps):
    """The result."""
    return {"y": np.stack([row_bits(row, w, eps) for row in x])}


def row_reference(x, w, eps):
    """Binary64 row and bound. s = 1 / sqrt(q / H + eps): q has n + 4 roundings, the root halves them and those of R2
    and R3; R4 to R7 add four: together less than gamma(n + 10). No claim where the sum of squares overflows."""
    wide = x.astype(float)
    square = float(wide @ wide)
    y = wide / np.sqrt(square / len(x) + float(np.float32(eps))) * w
    bound = gamma(-(-len(x) // 16) + 10) * np.abs(y) + TINY * (np.abs(w) + 1)
    return y, bound if square < 3.4e38 else np.full(len(x), np.inf)


def reference(x, w, eps):
    """{name: (binary64 value, bound)}."""
    rows = [row_reference(row, w, eps) for row in x]
    return {"y": (np.stack([y for y, _ in rows]), np.stack([bound for _, bound in rows]))}


def scales(x, eps):
    """1 / sqrt(mean + eps) of each row, binary64."""
    wide = x.astype(float)
    with np.errstate(all="ignore"):
        return 1 / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + eps)


def _f32(y):
    with np.errstate(all="ignore"):
        return {"y": np.asarray(y).astype(np.float32)}


def _serial_after_first(x, w, eps):
    y = bits(x, w, eps)["y"]
    for t in range(1, len(x)):
        total = np.float32(0)
        for v in x[t]:
            total += v * v
        y[t] = x[t] * (ONE / np.sqrt(total / np.float32(len(w)) + np.float32(eps))) * w
    return {"y": y}


def _flushed(x, w, eps):
    return bits(np.where(np.abs(x) < 2.0**-126, np.float32(0), x), w, eps)


def _padded_mean(x, w, eps):
    width = -(-x.shape[1] // 16) * 16
    return _f32(x * scales(np.pad(x, ((0, 0), (0, width - x.shape[1]))), eps) * w)


MUTANTS = {
    "A11": lambda x, w, eps: {"y": x},
    "A14": lambda x, w, eps: _f32(x * scales(x, 1e-5 if eps < 5e-6 else 1e-6) * w),
    "E10": lambda x, w, eps: _f32(x * scales(x, eps) * (1 + w)),
    "N01": lambda x, w, eps: {"y": bf16(x * scales(x, eps)) * w},
    "N02": lambda x, w, eps: _f32(x * bf16(scales(x, eps)) * w),
    "N03": _serial_after_first,
    "eps_outside_root": lambda x, w, eps: _f32(x / (np.sqrt((x.astype(float) ** 2).mean(axis=1))[:, None] + eps) * w),
    "no_eps": lambda x, w, eps: _f32(x * scales(x, 0.0) * w),
    "scale_times_weight_first": lambda x, w, eps: _f32(x * (scales(x, eps).astype(np.float32) * w)),
    "binary64": lambda x, w, eps: _f32(x * scales(x, eps) * w),
    "padded_mean": _padded_mean,
    "subnormals_flushed": _flushed,
    "nan_kept_to_one_element": lambda x, w, eps: _f32(x * scales(np.nan_to_num(x), eps) * w),
}
ORDER = {"N03", "scale_times_weight_first", "subnormals_flushed", "binary64"}
