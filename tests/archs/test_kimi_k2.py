"""kimi_k2: the hard step of its rotary table, the weights of its router."""

from arch_configs import config

from refmoe.numerics.rope_tables import default, from_spec
from refmoe.program import build

SCALING = {"type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 1.0, "beta_slow": 1.0,
           "mscale": 1.0, "mscale_all_dim": 1.0}  # fmt: skip


def test_hard_step():
    changes = {"qk_rope_head_dim": 64, "head_dim": 64, "rope_theta": 50000.0, "rope_scaling": SCALING}
    program = build(config("kimi_k2", **changes, max_position_embeddings=131072))
    inv_freq, amplitude = from_spec(program.tables["rope"])
    plain = default(64, 50000.0)
    assert amplitude == 1 and (inv_freq[:20] == plain[:20]).all() and (inv_freq[20:] < plain[20:] / 31).all()
    assert abs(program.dims["scale"] * (7 + 64) ** 0.5 - 1.8133) < 1e-4
    assert program.context == 131072


def test_router():
    program = build(config("kimi_k2", routed_scaling_factor=2.827))
    route = next(s for s in program.blocks["full_sparse"] if s.out[0] == "route_ids")
    assert route.op == "route_sigmoid_groups_renorm" and abs(route.attrs["factor"] - 2.827) < 1e-6
    assert route.attrs["groups"] == route.attrs["open_groups"] == 1
