"""gptq: one element after the other, by the word and the bits it lies in."""

from tests.oracles.formats import each, rounded, scale_of, times, words

AWQ = (0, 4, 1, 5, 2, 6, 3, 7)


def _decode(rows, cols, params, qweight, qzeros, scales, g_idx=None, *, use_zeros=None, offset=None, wrap=True,
            sign=-1, centre=True, order=True, place=lambda i: i, index=None, product=times, carry=False,
            lanes=False):  # fmt: skip
    bits = params["bits"]
    n, mask = 32 // bits, (1 << bits) - 1
    group = params["group"] or cols
    groups = (cols + group - 1) // group
    codes, zeros, factors = words(qweight), words(qzeros), scale_of(params[".scales"], scales)
    used = not params["symmetric"] if use_zeros is None else use_zeros
    offset = params["zero_offset"] if offset is None else offset

    def element(r, c):
        g = int(g_idx[c]) if g_idx is not None and order else c // group
        q = codes[c // n][r] >> bits * place(c % n) & mask
        if not centre:  # two's complement
            q = q - (mask + 1) * (q > mask >> 1) + (1 << (bits - 1))
        z = 1 << (bits - 1)
        if used:
            word = int(zeros[g][r // n])
            word += sum(offset << bits * i for i in range(n)) if carry else 0
            z = word >> bits * place(r % n) & mask
            z = z if carry else z + offset
            z = z & mask if wrap else z
        where = index(r, g, rows, groups) if index else g * rows + (r if not lanes or r % 4 < 2 else 0)
        return product(float(q + sign * z), factors[where])

    return each(rows, cols, element)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


def _other_convention(rows, cols, params, **stored):
    return _decode(rows, cols, params, offset=1 - params["zero_offset"], **stored)


MUTANTS = {
    "Q01": _other_convention,
    "Q02": _with(wrap=False),
    "Q03": _with(use_zeros=True),
    "Q04": _with(index=lambda r, g, rows, groups: r * groups + g),
    "Q05": _with(place=lambda i: AWQ[i % 8]),
    "Q07": _with(centre=False),
    "Q18": _with(lanes=True),
    "Q19": _with(sign=1),
    "zeros_ignored": _with(use_zeros=False),
    "carry_into_neighbour": _with(carry=True),
    "group_index_ignored": _with(order=False),
    "f16_product": _with(product=lambda a, b: rounded("F16", times(a, b))),
}
