"""llama: biases of both kinds, the keys that old files lack, rope kinds."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_plain():
    program = build(config("llama"))
    assert program.kinds == ("full_dense",) * 4
    assert windows(program) == [UNLIMITED] * 4
    assert "linear_bias" not in ops(program, "full_dense").values()
    assert "q_norm" not in ops(program, "full_dense")
    assert program.tables["rope"] == {"kind": "default", "head_dim": 16, "base": 10000.0}
    assert len(names(program)) == 4 * 9 + 3


@pytest.mark.parametrize(("attention", "mlp"), [(True, False), (False, True), (True, True)])
def test_biases(attention, mlp):
    program = build(config("llama", attention_bias=attention, mlp_bias=mlp))
    found = ops(program, "full_dense")
    assert {out for out, op in found.items() if op == "linear_bias"} == set("qkvo" if attention else ()) | (
        {"gate", "up", "down"} if mlp else set()
    )
    shapes = {e.tensor.name: e.shape for e in program.expected() if e.layer in (None, 3)}
    assert shapes.get("model.layers.3.self_attn.q_proj.bias") == ((96,) if attention else None)
    assert shapes.get("model.layers.3.self_attn.o_proj.bias") == ((36,) if attention else None)
    assert shapes.get("model.layers.3.mlp.up_proj.bias") == ((44,) if mlp else None)
    assert shapes.get("model.layers.3.mlp.down_proj.bias") == ((36,) if mlp else None)


def test_files_of_llama_1_and_2():
    program = build(config("llama", drop=("rope_theta", "num_key_value_heads", "head_dim")))
    assert program.tables["rope"]["base"] == 10000.0
    assert (program.dims["G"], program.dims["D"]) == (6, 6)
    assert program.config_report["rope_theta"][0] == "assumed"


def test_llama_3_rope():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    spec = build(config("llama", rope_scaling=scaling, rope_theta=500000.0)).tables["rope"]
    assert spec == {"kind": "llama3", "head_dim": 16, "base": 500000.0} | {k: scaling[k] for k in list(scaling)[1:]}


def test_layer_types_may_only_say_full():
    assert build(config("llama", layer_types=["full_attention"] * 4)).kinds == ("full_dense",) * 4
    with pytest.raises(ConfigError, match="layer_types"):
        build(config("llama", layer_types=["full_attention"] * 3 + ["sliding_attention"]))
    with pytest.raises(ConfigError, match="sliding_window"):
        build(config("llama", sliding_window=4))
