"""awq: one element after the other, by the word and the nibble it lies in."""

from tests.oracles.formats import each, rounded, scale_of, times, words

PLACES = {0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7}  # row of eight -> nibble


def _decode(rows, cols, params, qweight, qzeros, scales, *, place=PLACES.get, offset=0, sign=-1, zeros=True,
            product=times, index=None, axes=False, through_gptq=False):  # fmt: skip
    group = params["group"] or cols
    groups, codes, points = cols // group, words(qweight), words(qzeros)
    factors = scale_of(params[".scales"], scales)

    def element(r, c):
        g = c // group
        if axes:  # as GPTQ: codes run along the columns
            flat = codes.reshape(-1)
            q = flat[(c // 8 * rows + r) % flat.size] >> 4 * (c % 8) & 15
        else:
            q = codes[c][r // 8] >> 4 * place(r % 8) & 15
        z = (points[g][r // 8] >> 4 * place(r % 8) & 15) + offset if zeros else 8
        z = (z - 1 & 15) + 1 if through_gptq else z
        return product(float(q + sign * z), factors[index(r, g, rows, groups) if index else g * rows + r])

    return each(rows, cols, element)


def bits(rows, cols, params, **stored):
    """The decoded matrix."""
    return _decode(rows, cols, params, **stored)


def _with(**changes):
    return lambda rows, cols, params, **stored: _decode(rows, cols, params, **stored, **changes)


MUTANTS = {
    "Q01": _with(offset=1),
    "Q02": _with(through_gptq=True),
    "Q04": _with(index=lambda r, g, rows, groups: r * groups + g),
    "Q05": (_with(place=lambda i: i), _with(axes=True), _with(place=lambda i: (0, 2, 4, 6, 1, 3, 5, 7)[i])),
    "Q19": _with(sign=1),
    "zeros_ignored": _with(zeros=False),
    "f16_product": _with(product=lambda a, b: rounded("F16", times(a, b))),
}
