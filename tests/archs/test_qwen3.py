"""qwen3: head norms before the rotation, head_dim of its own, biases on all four projections."""

import pytest
from arch_configs import config, names, ops, windows

from refmoe.errors import ConfigError
from refmoe.program import UNLIMITED, build


def test_head_norms_stand_before_the_rotation():
    program = build(config("qwen3"))
    found = ops(program, "full_dense")
    assert list(found)[:9] == ["attn_norm", "q", "k", "v", "q_norm", "k_norm", "q_rope", "k_rope", "attn"]
    rotated = {step.out[0]: step.inputs for step in program.blocks["full_dense"] if step.op == "rope_half"}
    assert rotated == {"q_rope": ("q_norm", "positions"), "k_rope": ("k_norm", "positions")}
    shapes = {e.role: e.shape for e in program.expected()}
    assert shapes["q_norm"] == shapes["k_norm"] == (16,)
    assert "model.layers.0.self_attn.q_norm.weight" in names(program)


def test_head_dim_defaults_to_128():
    assert build(config("qwen3", drop=("head_dim",))).dims["D"] == 128


def test_biases():
    program = build(config("qwen3", attention_bias=True))
    assert {out for out, op in ops(program, "full_dense").items() if op == "linear_bias"} == set("qkvo")


def test_window():
    program = build(config("qwen3", use_sliding_window=True, sliding_window=9, max_window_layers=2))
    assert windows(program) == [UNLIMITED] * 2 + [9] * 2


def test_head_norms_cannot_be_switched_off():
    with pytest.raises(ConfigError, match="use_qk_norm"):
        build(config("qwen3", use_qk_norm=False))


def test_tied_head():
    program = build(config("qwen3", tie_word_embeddings=True))
    assert program.tail[-1].weights == ("embed",)
    assert "lm_head.weight" not in names(program)
    assert program.copies == (("lm_head", "model.embed_tokens"),)
    assert ("lm_head.*", "tied to embed_tokens") in program.ignored_tensors
    assert build(config("qwen3", drop=("tie_word_embeddings",))).tail[-1].weights == ("lm_head",)
