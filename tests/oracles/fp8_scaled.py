"""fp8_scaled: as fp8_block; channels and groups are blocks of one row."""

from tests.oracles import fp8_block
from tests.oracles.fp8_block import bits

__all__ = ["MUTANTS", "bits"]


def _row_for_column(rows, cols, params, **stored):
    """The scale of channel c taken for row c."""
    count = stored["weight_scale"].size
    return fp8_block._decode(rows, cols, params, block=lambda r, c: c % count, **stored)


MUTANTS = {
    "Q08": lambda rows, cols, params, **stored: fp8_block._decode(
        rows, cols, params, scale=lambda s: s * 2.0**-127, **stored),
    "Q12": fp8_block.fnuz,
    "Q13": fp8_block.divided,
    "Q18": fp8_block.first_rows,
    "Q19": fp8_block.transposed,
    "channel_of_columns": _row_for_column,
    "bf16_product": fp8_block.bf16_product,
}
