"""Vectors of linear_a8 and expert_linear_a8: products of integer codes."""

import numpy as np
from golden_cases import vector


def codes(g, shape, unit=32, zeros=False, low=-127, high=127):
    """Random q in low..high, scales around 1 / 64, minimum = -z * scale for random integers z, or 0."""
    units = -(-shape[-1] // unit)
    span = g.normal("q", *shape)
    q = np.clip(np.rint(span * np.float32((high - low) / 5) + np.float32((high + low) / 2)), low, high)
    g.literal("q", q, np.int64)
    g.sources["q"] = "integers from a bell-shaped random input"
    scale = np.abs(g.normal("scale", *shape[:-1], units, scale=1 / 64)) + np.float32(2.0**-10)
    g.literal("scale", scale)
    z = np.rint(g.normal("minimum", *shape[:-1], units, scale=8.0)).astype(np.int16) if zeros else np.zeros_like(scale)
    g.literal("minimum", -z * scale if zeros else z)
    for name in ("scale", "minimum"):
        g.sources[name] = "derived from a bell-shaped random input"


# ---- linear_a8 -----------------------------------------------------------------------------------------------------


@vector("columns of a row quantised with one scale, or in groups of 64 or 256; scales applied after the whole sum")
def linear_a8__one_row(g):
    x = g.normal("x", 1, 256)
    g.literal("x", x * np.repeat(np.float32(2.0) ** np.arange(-4, 4, dtype=np.float32), 32))
    codes(g, (5, 256))


@vector("scales chosen over all rows of a batch")
def linear_a8__many_rows(g):
    x = g.normal("x", 37, 96)
    g.literal("x", x * (np.float32(2.0) ** (np.arange(37, dtype=np.float32) % 7 - 3))[:, None])
    codes(g, (34, 96))


@vector("units added one after the other, or in lanes of another number; the product of the scales not rounded")
def linear_a8__lane_order(g):
    g.normal("x", 2, 1120)
    codes(g, (3, 1120))


@vector("rint of x / scale instead of x * (1 / scale), ties away from zero, truncation, floor(v + 0.5)")
def linear_a8__half_ties(g):
    steps = np.arange(-31, 32, dtype=np.float32)
    row = np.concatenate([[127.0], steps[:31] + np.float32(0.5), [127.0], steps[32:] - np.float32(0.5)])
    g.literal("x", [row, row * np.float32(-1.0), row * np.float32(0.00347)])
    codes(g, (4, 64))


@vector("0 / 0 for a group of zeros; the codes of the group before left standing")
def linear_a8__group_of_zeros(g):
    x = g.normal("x", 3, 96)
    x[0, 32:64], x[1, :32], x[2] = 0.0, -0.0, 0.0
    g.literal("x", x)
    codes(g, (3, 96), zeros=True)


@vector("1 / scale overflowing for groups of tiny numbers, subnormal scales kept, the largest numbers overflowing")
def linear_a8__large_and_tiny_groups(g):
    x = g.normal("x", 2, 256)
    sizes = [1e-45, 1e-40, 1.4e-36, 1.6e-36, 1e-30, 1e30, 3e35, 5e37]
    g.literal("x", x * np.repeat(np.array(sizes, np.float32), 32))
    codes(g, (3, 256))


@vector("inf or nan hidden by its code; the rest of the row, or of the batch, spoilt or not")
def linear_a8__not_finite(g):
    x = g.normal("x", 4, 64)
    x[0, 40], x[1, 3], x[2, 63] = np.inf, np.nan, -np.inf
    g.literal("x", x)
    codes(g, (3, 64), zeros=True)


@vector("the last unit read beyond the row, or left out; its group filled up with the neighbouring row")
def linear_a8__partial_unit(g):
    g.normal("x", 3, 77)
    codes(g, (6, 77), zeros=True)


@vector("minima left out, multiplied with the sum of x instead of its codes, or with the sum of a whole group")
def linear_a8__minima(g):
    g.normal("x", 5, 160)
    codes(g, (33, 160), zeros=True, low=0, high=15)


@vector("units of 16 taken as 32: the scale of the wrong half; the group of x taken as 16")
def linear_a8__units_of_16(g):
    g.normal("x", 3, 304)
    codes(g, (4, 304), unit=16, zeros=True, low=-32, high=31)


# ---- expert_linear_a8 ----------------------------------------------------------------------------------------------


@vector("experts in another order, scales or minima of another expert", "E08")
def expert_linear_a8__permuted_experts(g):
    g.normal("x", 3, 64)
    g.ids("ids", [[4, 1], [0, 4], [2, 3]])
    codes(g, (5, 6, 64), zeros=True)


@vector("one row for all choices of a token")
def expert_linear_a8__row_per_choice(g):
    g.normal("x", 3, 2, 64)
    g.ids("ids", [[1, 0], [0, 2], [1, 2]])
    codes(g, (3, 5, 64))


@vector("minima of chosen experts")
def expert_linear_a8__minima(g):
    g.normal("x", 4, 96)
    g.ids("ids", [[1], [1], [0], [1]])
    codes(g, (2, 35, 96), zeros=True, low=0, high=15)


@vector("one expert with many rows, the others idle or with one row: another order of the sum for many rows")
def expert_linear_a8__idle_experts(g):
    g.normal("x", 21, 40)
    g.ids("ids", [[2, 5] if t else [2, 0] for t in range(21)])
    codes(g, (6, 3, 40))


@vector("more units than lanes")
def expert_linear_a8__several_units(g):
    g.normal("x", 2, 576)
    g.ids("ids", [[0, 1], [1, 0]])
    codes(g, (2, 3, 576), zeros=True)


@vector("units of 16 taken as 32")
def expert_linear_a8__units_of_16(g):
    g.normal("x", 2, 272)
    g.ids("ids", [[1, 0], [0, 1]])
    codes(g, (2, 3, 272), unit=16)


# ---- with a bias ---------------------------------------------------------------------------------------------------


@vector("the sum begun with the bias, the bias scaled or quantised with the row")
def linear_bias_a8__bias_after_tree(g):
    g.normal("x", 3, 640)
    codes(g, (5, 640), zeros=True)
    g.normal("b", 5, scale=8.0)


@vector("the last unit read beyond the row, or left out")
def linear_bias_a8__partial_unit(g):
    g.normal("x", 2, 45)
    codes(g, (4, 45))
    g.normal("b", 4)


@vector("the sum begun with the bias; the bias of another expert, or of the first", "E08")
def expert_linear_bias_a8__bias_after_tree(g):
    g.normal("x", 2, 576)
    g.ids("ids", [[2, 0], [1, 2]])
    codes(g, (3, 4, 576))
    g.normal("b", 3, 4, scale=8.0)


@vector("one row for all choices of a token")
def expert_linear_bias_a8__row_per_choice(g):
    g.normal("x", 3, 2, 64)
    g.ids("ids", [[1, 0], [0, 2], [1, 2]])
    codes(g, (3, 5, 64), zeros=True)
    g.normal("b", 3, 5)
