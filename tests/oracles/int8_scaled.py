"""int8_scaled: one element after the other."""

from tests.oracles.formats import each, rounded, scale_of, times


def _decode(rows, cols, params, weight, weight_scale, weight_zero_point=None, *, use_zeros=None, sign=-1, signed=True,
            scale=lambda s: s, product=times, block=None):  # fmt: skip
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    across = (cols + block_cols - 1) // block_cols
    scales = scale_of(params[".weight_scale"], weight_scale)
    zeros = [0] * len(scales)
    if not params["symmetric"] if use_zeros is None else use_zeros and weight_zero_point is not None:
        zeros = [int(z) - 256 * (int(z) > 127) for z in weight_zero_point.reshape(-1)]

    def element(r, c):
        b = block(r, c) if block else r // block_rows * across + c // block_cols
        q = int(weight[r][c])
        q = q - 256 * (q > 127) if signed else q - 128
        return product(float(q + sign * zeros[b]), scale(scales[b]))

    return each(rows, cols, element)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


def _transposed(rows, cols, params, **stored):
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    down = (rows + block_rows - 1) // block_rows
    return _decode(rows, cols, params, block=lambda r, c: c // block_cols * down + r // block_rows, **stored)


def _lanes(rows, cols, params, **stored):
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    across = (cols + block_cols - 1) // block_cols
    return _decode(rows, cols, params, block=lambda r, c: (r // block_rows * across if r % 4 < 2 else 0)
                   + c // block_cols, **stored)  # fmt: skip


MUTANTS = {
    "Q03": _with(use_zeros=True),
    "Q07": _with(signed=False),
    "Q13": _with(scale=lambda s: 1.0 / s),
    "Q18": _lanes,
    "Q19": _with(sign=1),
    "transposed": _transposed,
    "zeros_ignored": _with(use_zeros=False),
    "bf16_product": _with(product=lambda a, b: rounded("BF16", times(a, b))),
}
