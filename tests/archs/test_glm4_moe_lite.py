"""glm4_moe_lite: deepseek_v3 with a list of dense and sparse layers."""

import pytest
from arch_configs import config

from refmoe.errors import ConfigError
from refmoe.program import build


def test_it_is_deepseek_v3():
    program, other = build(config("glm4_moe_lite")), build(config("deepseek_v3"))
    assert (program.blocks, program.tensors) == (other.blocks, other.tensors)


def test_layer_list():
    kinds = ["sparse", "dense", "dense", "sparse"]
    program = build(config("glm4_moe_lite", drop=("first_k_dense_replace",), mlp_layer_types=kinds))
    assert [kind.partition("_")[2] for kind in program.kinds] == kinds
    first = ["dense", "sparse", "sparse", "sparse"]
    assert build(config("glm4_moe_lite", mlp_layer_types=first)).digest() == build(config("glm4_moe_lite")).digest()


@pytest.mark.parametrize("value", [["sparse"] * 3, ["sparse"] * 3 + ["mixed"], "sparse", [1] * 4])
def test_bad_layer_list(value):
    with pytest.raises(ConfigError, match="mlp_layer_types: expected 4 times dense or sparse"):
        build(config("glm4_moe_lite", drop=("first_k_dense_replace",), mlp_layer_types=value))


def test_both_must_agree():
    with pytest.raises(ConfigError, match="first_k_dense_replace: expected the same layers as mlp_layer_types"):
        build(config("glm4_moe_lite", mlp_layer_types=["sparse"] * 4))
    with pytest.raises(ConfigError, match="first_k_dense_replace: expected"):
        build(config("glm4_moe_lite", drop=("first_k_dense_replace",)))
