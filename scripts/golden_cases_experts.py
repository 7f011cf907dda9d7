"""Vectors of the ops that came with qwen2_moe, olmoe, gpt_oss and glm4_moe."""

import numpy as np
from golden_cases import vector

# ---- scale_by_sigmoid ----------------------------------------------------------------------------------------------


@vector("the gate left out, its logit used without the sigmoid, silu instead, one division for both", "E01")
def scale_by_sigmoid__both_signs(g):
    g.normal("x", 5, 20)
    g.literal("g", [[-3.25], [-0.4375], [0.0], [0.71], [4.1]])


@vector("one gate applied to all rows of a batch", "E01")
def scale_by_sigmoid__gates_differ_by_row(g):
    g.normal("x", 7, 3)
    g.normal("g", 7, 1, scale=2.0)


@vector("exp overflowing to nan for gates far above or below zero")
def scale_by_sigmoid__saturation(g):
    gates = [88.0, 88.8, 100.0, 1e30, -20.0, -87.0, -88.7, -88.8, -100.0, -1e30, 1e-40, -0.0]
    g.literal("x", [[1.0, -12.0]] * len(gates))
    g.literal("g", [[gate] for gate in gates])


@vector("a closed gate that skips its row and so hides inf and nan; -inf, inf and nan as gates")
def scale_by_sigmoid__special_values(g):
    row = [1.0, -1.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45]
    g.literal("x", [row] * 6)
    g.literal("g", [[-np.inf], [np.inf], [np.nan], [-100.0], [0.0], [100.0]])


# ---- clip ----------------------------------------------------------------------------------------------------------


@vector("values not limited, limited from above only, rows scaled instead, the limit's square")
def clip__both_sides(g):
    g.normal("x", 4, 20, scale=2.0)
    g.attrs["limit"] = 1.75


@vector("nan turned into the limit, infinities left, values at the limit changed, the sign of zero lost")
def clip__special_values(g):
    g.literal("x", [[np.inf, -np.inf, np.nan, 3.5, -3.5, np.nextafter(np.float32(3.5), np.float32(9)), -0.0, 1e-45]])
    g.attrs["limit"] = 3.5
