"""fp8_block: one element after the other."""

from tests.oracles.formats import e4m3, e4m3fnuz, each, ieee, rounded, scale_of, times

SCALE = "weight_scale_inv"


def _decode(rows, cols, params, weight, code=e4m3, scale=lambda s: s, block=None, product=times, values=None, **stored):
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    across = (cols + block_cols - 1) // block_cols
    (name, array), = stored.items()
    scales = values or scale_of(params["." + name], array)
    where = block or (lambda r, c: r // block_rows * across + c // block_cols)
    return each(rows, cols, lambda r, c: product(code(int(weight[r][c])), scale(scales[where(r, c)])))


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def divided(rows, cols, params, **stored):
    """The scale taken for its inverse."""
    return _decode(rows, cols, params, scale=lambda s: 1.0 / s if s else 0.0, **stored)


def transposed(rows, cols, params, **stored):
    """Scales read as if blocks were stored column by column."""
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    down = (rows + block_rows - 1) // block_rows
    return _decode(rows, cols, params, block=lambda r, c: c // block_cols * down + r // block_rows, **stored)


def first_rows(rows, cols, params, **stored):
    """Rows beyond the first two of a tile take the scale of the first row of blocks."""
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    across = (cols + block_cols - 1) // block_cols
    return _decode(rows, cols, params, block=lambda r, c: (r // block_rows * across if r % 4 < 2 else 0)
                   + c // block_cols, **stored)  # fmt: skip


def small_scales(rows, cols, params, **stored):
    """Scales kept in binary16."""
    return _decode(rows, cols, params, scale=lambda s: rounded("F16", s), **stored)


def bf16_product(rows, cols, params, **stored):
    """The product rounded once more."""
    return _decode(rows, cols, params, product=lambda a, b: rounded("BF16", times(a, b)), **stored)


def whole_blocks(rows, cols, params, **stored):
    """Scales per row of blocks counted without the partial last block."""
    block_rows, block_cols = params["block_rows"] or rows, params["block_cols"] or cols
    across = max(cols // block_cols, 1)
    return _decode(rows, cols, params, block=lambda r, c: min(r // block_rows, rows // block_rows) * across
                   + min(c // block_cols, across - 1), **stored)  # fmt: skip


def fnuz(rows, cols, params, **stored):
    """The other e4m3."""
    return _decode(rows, cols, params, code=e4m3fnuz, **stored)


def _ieee(rows, cols, params, **stored):
    return _decode(rows, cols, params, code=lambda c: ieee(c, 4, 3), **stored)


MUTANTS = {
    "Q12": fnuz,
    "Q13": divided,
    "Q15": small_scales,
    "Q18": first_rows,
    "Q19": transposed,
    "bf16_product": bf16_product,
    "whole_blocks": whole_blocks,
    "ieee": _ieee,
}
