"""signatures - what the wrong elements of an array have in common, in plain words.

Found by looking at the arrays alone: a constant factor, sign or offset; a permutation of columns, halves, pairs or
axes; wrong only at indices r mod m, from some row on, in one block, for some experts or positions; nan and inf; values
that look rounded to a 16-bit type. They name no bug: that is what `diagnose` does.
"""

import warnings

import numpy as np

from refmoe.verifier.balls import nearest

MODULI = (2, 4, 8, 16, 32, 64, 128)


def of(question, name: str, miss) -> list[str]:
    """Signatures of one output, the most telling first."""
    found, wrong, v, e = question.found[name], miss.wrong, miss.ball.v, miss.ball.e
    if not wrong.any():
        return []
    if question.expected.get(name, v).dtype.kind in "iu":
        return [*_where(question, wrong)]
    found = found.astype(np.float64)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # medians of nothing
        lines = [*_not_finite(found, v), *_constant(found, v, e, wrong), *_permuted(found, v, e, wrong),
                 *_rounded(question, name, found, wrong)]  # fmt: skip
    return lines + _where(question, wrong)


def _not_finite(found, v):
    odd = ~np.isfinite(found) & np.isfinite(v)
    if odd.any():
        nan = int((np.isnan(found) & odd).sum())
        yield f"{nan} nan and {int(odd.sum()) - nan} inf where numbers are expected"
    lost = np.isnan(v) & ~np.isnan(found)
    if lost.any():
        yield f"{int(lost.sum())} numbers where nan is expected"
    zero = (found == 0) & (v != 0) & np.isfinite(v)
    if zero.sum() > max(2, 0.02 * found.size):
        yield "all zero" if zero.all() else f"{int(zero.sum())} of {found.size} are zero"


def _constant(found, v, e, wrong):
    """One factor, or one offset, for everything wrong; or one for each row or column."""
    use = wrong & np.isfinite(found) & np.isfinite(v) & (abs(v) > 4 * e)
    if use.sum() >= 2:
        factor = np.median(found[use] / v[use])
        if factor != 0 and np.isfinite(factor) and (abs(found - factor * v) <= 2 * abs(factor) * e + 1e-300)[use].all():
            near = "the opposite sign" if abs(factor + 1) < 1e-3 else f"reference x {factor:.4g}"
            yield near if use.sum() == wrong.sum() else f"{near} wherever that can be told"
            return
    use = wrong & np.isfinite(found) & np.isfinite(v)
    if use.sum() >= 2:
        offset = np.median((found - v)[use])
        slack = 2 * e + 2.0**-20 * abs(offset)
        if abs(offset) > 2 * np.median(e[use]) and (abs(found - v - offset) <= slack)[use].all():
            yield f"reference + {offset:.4g}"
            return
    if v.ndim >= 2:
        yield from _by_line(found, v, e, use)


def _by_line(found, v, e, use):
    flat, theirs, slack, ok = (x.reshape(-1, x.shape[-1]) for x in (v, found, e, use))
    for axis, word in ((1, "row"), (0, "column")):
        if flat.shape[axis] < 3 or not ok.any():
            continue
        big = ok & (abs(flat) > 4 * slack)
        ratio = np.where(big, theirs / np.where(big, flat, 1), np.nan)
        factor = np.nanmedian(np.where(big.sum(axis=axis, keepdims=True) > 2, ratio, np.nan), axis=axis, keepdims=True)
        fits = abs(theirs - factor * flat) <= 2 * abs(factor) * slack + 1e-300
        if np.isfinite(factor.reshape(-1)[ok.any(axis=axis)]).all() and fits[ok].all():
            shown = ", ".join(f"{x:.4g}" for x in factor.reshape(-1)[:4])
            yield f"every {word} is the reference times a factor of its own ({shown}{', ...' * (factor.size > 4)})"
            return
        offset = np.median(theirs - flat, axis=axis, keepdims=True)
        if (abs(theirs - flat - offset) <= 2 * slack + 2.0**-20 * abs(offset))[ok].all():
            shown = ", ".join(f"{x:.4g}" for x in offset.reshape(-1)[:4])
            yield f"every {word} is the reference plus a number of its own ({shown}{', ...' * (offset.size > 4)})"
            return


def _permuted(found, v, e, wrong):
    """The right values in other places."""
    if v.ndim < 2 or not np.isfinite(found).all():
        return
    width, rows = v.shape[-1], v.reshape(-1, v.shape[-1])
    theirs, slack = found.reshape(rows.shape), 2 * e.reshape(rows.shape)
    for words, order in _orders(width):
        if width > 1 and (abs(theirs - rows[:, order]) <= slack[:, order] + slack).all():
            yield f"columns in another order: {words}"
            return
    if rows.shape[0] > 1 and rows.shape[0] <= 256 and width <= 1024:
        for words, order in _orders(rows.shape[0]):
            if (abs(theirs - rows[order]) <= slack[order] + slack).all():
                yield f"rows in another order: {words}"
                return
    if rows.shape == (width, width) and (abs(theirs - rows.T) <= slack.T + slack).all():
        yield "transposed"
    elif min(rows.shape) > 1 and (abs(theirs.reshape(-1) - rows.T.reshape(-1))
                                  <= slack.T.reshape(-1) + slack.reshape(-1)).all():  # fmt: skip
        yield "written column by column"
    elif 3 < width <= 1024 and rows.size <= 1 << 20:
        yield from _any_order(theirs, rows, slack)


def _orders(width):
    """Well-known permutations of an axis."""
    index = np.arange(width)
    if width % 2 == 0 and width > 2:
        half = width // 2
        yield "halves exchanged", np.concatenate([index[half:], index[:half]])
        yield "halves read as neighbours", np.stack([index[:half], index[half:]], 1).reshape(-1)
        yield "neighbours read as halves", np.concatenate([index[::2], index[1::2]])
        yield "neighbours exchanged", index.reshape(-1, 2)[:, ::-1].reshape(-1)
    for block in (4, 8, 16, 32, 64):
        if width % block == 0 and width > block:
            yield f"blocks of {block} reversed", index.reshape(-1, block)[:, ::-1].reshape(-1)
            yield f"halves of blocks of {block} exchanged", np.roll(index.reshape(-1, block), block // 2, 1).reshape(-1)
            turned = index.reshape(-1, block).T.reshape(-1)
            yield f"[{width // block}, {block}] read as [{block}, {width // block}]", turned
    yield "reversed", index[::-1]
    yield "moved by one", np.roll(index, 1)
    yield "moved by one", np.roll(index, -1)


def _any_order(theirs, rows, slack):
    """Match columns by their values in the row in which they differ most."""
    row = int(np.argmax(rows.std(axis=1)))
    mine, yours = np.argsort(rows[row], kind="stable"), np.argsort(theirs[row], kind="stable")
    order = np.empty(len(mine), np.int64)
    order[yours] = mine
    if (order == np.arange(len(order))).all() or (np.diff(np.sort(rows[row])) <= 0).any():
        return
    if (abs(theirs - rows[:, order]) <= slack[:, order] + slack).all():
        shown = ", ".join(f"{i}<-{int(j)}" for i, j in enumerate(order) if i != j)
        yield f"columns in another order: {shown[:60]}"


def _rounded(question, name, found, wrong):
    """Every wrong value is the expected one in fewer bits."""
    expected = question.expected.get(name)
    if expected is None:
        return
    for kind in ("bf16", "f16", "tf32"):
        if np.array_equal(nearest(expected, kind)[wrong], found.astype(np.float32)[wrong]):
            yield f"the reference rounded to {kind}"
            return
        values = found[np.isfinite(found)].astype(np.float32)
        if values.size > 3 and np.array_equal(nearest(values, kind), values) and question.profile.output != kind:
            yield f"every value is a {kind} number"
            return


def _where(question, wrong):
    """Along which axis, and at which places of it, things are wrong."""
    lines = []
    if wrong.all() or wrong.size < 4:
        return lines
    for axis in range(wrong.ndim):
        count = wrong.shape[axis]
        bad = wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis))
        at = np.flatnonzero(bad)
        if count < 2 or len(at) == count:
            continue
        word = "column" if axis == wrong.ndim - 1 and axis else ("row" if axis == 0 else "choice")
        lines.append(f"only {_places(at, count, word)}")
    lines += _labels(question, wrong)
    return lines


def _places(at, count, word):
    if len(at) == 1:
        return f"{word} {int(at[0])} of {count}"
    if at[-1] == count - 1 and len(at) == count - at[0]:
        return f"{word}s from {int(at[0])} on (of {count})"
    if len(at) == at[-1] - at[0] + 1:
        return f"{word}s {int(at[0])} to {int(at[-1])} (of {count})"
    for modulus in MODULI:
        rest = np.unique(at % modulus)
        all_of_them = len(at) == sum(len(range(int(r), count, modulus)) for r in rest)
        if modulus < count and len(rest) <= modulus // 2 and len(at) > len(rest) and all_of_them:
            shown = ", ".join(str(int(r)) for r in rest[:6])
            return f"{word}s {shown}{', ...' if len(rest) > 6 else ''} mod {modulus} ({len(at)} of {count})"
    shown = ", ".join(str(int(i)) for i in at[:6])
    return f"{len(at)} of {count} {word}s: {shown}{', ...' if len(at) > 6 else ''}"


def _labels(question, wrong):
    """By expert id and by position, where the inputs have them."""
    lines = []
    for key, word in (("ids", "experts"), ("positions", "positions")):
        labels = question.inputs.get(key)
        if not isinstance(labels, np.ndarray) or labels.shape != wrong.shape[: labels.ndim]:
            continue
        bad = wrong.reshape(*labels.shape, -1).any(axis=-1)
        ill, well = np.unique(labels[bad]), np.unique(labels[~bad])
        if len(ill) and len(well) and not np.isin(ill, well).any():
            if ill.min() > well.max():
                lines.append(f"only {word} from {int(ill.min())} on")
            elif key == "ids":
                lines.append(f"only {word} {', '.join(str(int(i)) for i in ill[:8])}")
    return lines
