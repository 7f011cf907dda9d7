"""int_packed: codes cut out of one long integer for each row, zero points out of one for each column."""

from tests.oracles.formats import each, rounded, scale_of, times, words


def _stream(column):
    """One integer whose bit 32 i + j is bit j of word i."""
    return sum(int(word) << 32 * i for i, word in enumerate(column))


def _decode(rows, cols, params, weight_packed, weight_scale, weight_shape=None, weight_zero_point=None,
            weight_g_idx=None, *, use_zeros=None, sign=-1, centre=True,
            row_zeros=False, product=times, index=None, order=True,
            swap=False, lanes=False):  # fmt: skip
    bits = params["bits"]
    group = params["group"] or cols
    groups, mask = cols // group, (1 << bits) - 1
    packed, scales = words(weight_packed), scale_of(params[".weight_scale"], weight_scale)
    if swap:
        packed = [[int.from_bytes(int(word).to_bytes(4, "little"), "big") for word in row] for row in packed]
    codes = [_stream(row) for row in packed]
    zeros = None
    if not params["symmetric"] if use_zeros is None else use_zeros and weight_zero_point is not None:
        table = words(weight_zero_point)
        zeros = [_stream(table[:, g]) for g in range(groups)]
        if row_zeros:  # as if packed along the row
            flat = _stream(table.reshape(-1))
            zeros = [sum((flat >> bits * (r * groups + g) & mask) << bits * r for r in range(rows))
                     for g in range(groups)]  # fmt: skip

    def element(r, c):
        g = int(weight_g_idx[c]) if weight_g_idx is not None and order else c // group
        u = codes[r] >> bits * c & mask
        if not centre:  # two's complement
            u = u - (mask + 1) * (u > mask >> 1) + (1 << (bits - 1))
        v = 1 << (bits - 1) if zeros is None else zeros[g] >> bits * r & mask
        where = index(r, g, rows, groups) if index else r * groups + g
        if lanes and r % 4 >= 2:
            where = g
        return product(float(u + sign * v), scales[where])

    return each(rows, cols, element)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


MUTANTS = {
    "Q03": _with(use_zeros=True),
    "Q07": _with(centre=False),
    "Q16": _with(swap=True),
    "Q18": _with(lanes=True),
    "Q19": _with(sign=1),
    "Q04": _with(index=lambda r, g, rows, groups: g * rows + r),
    "zeros_along_rows": _with(row_zeros=True),
    "zeros_ignored": _with(use_zeros=False),
    "bf16_product": _with(product=lambda a, b: rounded("BF16", times(a, b))),
    "f16_product": _with(product=lambda a, b: rounded("F16", times(a, b))),
    "group_index_ignored": _with(order=False),
}
