"""Vectors for rows of the bug catalogue that no other vector shows, and for numbers that a port may have built in."""

import numpy as np
from golden_cases import SEED, _attention, _rope, vector

from refmoe.numerics import counter


@vector("eps built in as 1e-5: rows that it dominates where the model says 1e-6", "A14")
def rms_norm__eps_one_millionth(g):
    x = g.normal("x", 3, 24, scale=0.0002)
    g.literal("x", x * np.array([[1.0], [0.3], [4.0]], np.float32))
    g.normal("w", 24)
    g.attrs = {"eps": 1e-6}


@vector("eps built in as 1e-5: heads that it dominates where the model says 1e-6; 1 + w used for w", "A14 E10")
def head_norm__eps_one_millionth(g):
    g.normal("x", 2, 32, scale=0.0002)
    w = g.normal("w", 16, scale=0.02)
    g.literal("w", w + (np.arange(16) % 2).astype(np.float32))
    g.attrs = {"eps": 1e-6}


@vector("nothing turned, or only some of the pairs", "A06")
def rope__every_pair_turns(g):
    _rope(g, 2, 16, [1, 9, 40])


@vector("a row that depends on its neighbours or its place in the batch: rows 0, 7, 8, 31 and 33 are equal", "N03")
def linear__equal_rows(g):
    x = g.normal("x", 34, 40).copy()
    x[[7, 8, 31, 33]] = x[0]
    g.literal("x", x)
    g.normal("w", 6, 40)


@vector("a batch of one summed otherwise: the row and the matrix of equal_rows, alone")
def linear__equal_row_alone(g):
    for name, count, shape in (("x", 34 * 40, (34, 40)), ("w", 6 * 40, (6, 40))):
        stream = counter.stream_of(f"ops/linear/equal_rows/{name}")
        values = counter.fill_normal(SEED, stream, count, 1.0).reshape(shape)
        g.literal(name, values[:1] if name == "x" else values)


@vector("a router stored in bfloat16 that was quantised with the rest of the model", "Q14")
def linear__router_of_bf16_weights(g):
    g.normal("x", 3, 64)
    w = g.normal("w", 12, 64, scale=0.05)
    g.literal("w", (w.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))


@vector("the output of the shared expert left out: b, added to what the chosen experts gave", "E02")
def add__shared_expert(g):
    g.normal("a", 3, 20)
    g.normal("b", 3, 20)


@vector("a routing factor of 2.5, already in the weights, applied again or divided out", "R09 R10")
def combine__factor_in_the_weights(g):
    g.normal("x", 3, 4, 20)
    g.literal("weights", 2.5 * np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0.25] * 4]))


# ---- kernels that are wrong only from some number of rows on (8, 16, 32): catalogue R12, V13 ------------------------

MANY = "wrong only from some number of rows on: 34 rows"


@vector(MANY)
def route__many_rows(g):
    g.normal("logits", 34, 6)
    g.attrs = {"k": 2}


@vector(MANY)
def route_topk_softmax__many_rows(g):
    g.normal("logits", 34, 6)
    g.attrs = {"k": 2}


@vector(MANY)
def route_sigmoid_groups_renorm__many_rows(g):
    g.normal("logits", 34, 8)
    g.normal("bias", 8, scale=0.2)
    g.attrs = {"k": 2, "groups": 4, "open_groups": 2, "factor": 2.5}


@vector(MANY)
def rms_norm__many_rows(g):
    g.normal("x", 34, 6)
    g.normal("w", 6)
    g.attrs = {"eps": 1e-6}


@vector(MANY)
def swiglu__many_rows(g):
    g.normal("gate", 34, 3, scale=3.0)
    g.normal("up", 34, 3)


@vector(MANY)
def combine__many_rows(g):
    g.normal("x", 34, 2, 3)
    w = g.normal("weights", 34, 2)
    g.literal("weights", np.abs(w))


@vector(MANY)
def attention__many_rows(g):
    _attention(g, 2, 1, 4, 34, 34, window=19)
