"""program: what a built program holds, its static checks, its forms (JSON, digest, text), import without arrays."""

import hashlib
import importlib
import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "archs"))
from arch_configs import FAMILIES, config

from refmoe import program as programs
from refmoe.archs import parts
from refmoe.config import Config, round32
from refmoe.errors import ConfigError, ProgramError
from refmoe.program import INT8, UNLIMITED, build, checked, int8_blocks, supported
from refmoe.steps import matrix, step, vector

LATENT = ({"q_lora_rank": None}, {"attention_bias": True, "norm_topk_prob": False}, {"first_k_dense_replace": 9})
VARIANTS = {
    "llama": ({"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},),
    "dots1": ({"attention_bias": True, "sliding_window": 5, "max_window_layers": 1, "norm_topk_prob": False},),
    "flex_olmo": ({"attention_bias": True, "norm_topk_prob": True},),
    "glm4_moe": ({"use_qk_norm": True, "norm_topk_prob": False},),
    "gpt_oss": ({"attention_bias": False, "layer_types": ["full_attention"] * 4},),
    "olmoe": ({"attention_bias": True, "clip_qkv": 2.5, "norm_topk_prob": True},),
    "qwen3": ({"attention_bias": True, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},),
    "qwen2_moe": ({"mlp_only_layers": [1], "norm_topk_prob": True, "qkv_bias": False},),
    "qwen3_moe": ({"mlp_only_layers": [1], "norm_topk_prob": False, "attention_bias": True},),
    **dict.fromkeys(("deepseek_v3", "kimi_k2", "glm4_moe_lite"), LATENT),
    "deepseek_v2": (*LATENT, {"topk_method": "group_limited_greedy", "n_group": 5, "topk_group": 2}),
}
TRACE_NAMES = (
    "attn_norm q k v q_norm k_norm q_rope k_rope attn o attn_out ffn_norm router_logits route_ids route_weights "
    "expert_gate expert_up expert_act expert_down combine ffn_out gate up act down "
    "shared_gate shared_up shared_act shared_down shared_gate_logit shared moe q_clip k_clip v_clip expert_gate_up "
    "o_norm moe_norm "
    "q_a q_a_norm q_nope q_pe kv_a latent k_pe kv_a_norm q_latent attn_latent"
)


def built(family):
    return [build(config(family, **changes)) for changes in ({}, *VARIANTS.get(family, ()))]


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks(family):
    for program in built(family):
        assert program.arch == family
        assert set(program.kinds) == set(program.blocks)
        assert [s.out for s in program.head + program.tail] == [("embed",), ("final_norm",), ("logits",)]
        for steps in program.blocks.values():
            assert {name for s in steps for name in s.out} <= set(TRACE_NAMES.split())
            assert all(len(s.shapes) == len(s.out) for s in steps)
            assert all(type(v) in (int, float) or name == "table" for s in steps for name, v in s.attrs.items())
        for s in program.head + program.tail + sum(program.blocks.values(), ()):
            assert all(round32(v) == v for v in s.attrs.values() if isinstance(v, float))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_declared_tensor_of_an_architecture_is_used_by_some_variant(family):
    module = __import__(f"refmoe.archs.{family}", fromlist=["TENSORS"])
    used = set().union(*(program.tensors for program in built(family)))
    assert used == set(module.TENSORS)


def test_expected_order_and_names():
    found = list(build(config("mixtral")).expected())
    assert [e.role for e in found[:3]] == ["embed", "norm", "lm_head"]
    assert found[0].layer is None and found[0].expert is None
    experts = [e.expert for e in found if e.role == "e_up" and e.layer == 2]
    assert experts == [0, 1, 2, 3, 4]
    assert [e.layer for e in found[3:]] == sorted(e.layer for e in found[3:])
    assert all("{" not in e.tensor.name for e in found)
    gate = next(e for e in found if e.role == "e_gate" and e.layer == 1 and e.expert == 4)
    assert gate.tensor == matrix("model.layers.1.block_sparse_moe.experts.4.w1", "M,H")
    assert gate.shape == (44, 36)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_the_sum_of_expected(family):
    for program in built(family):
        counts = program.parameters()
        assert counts["total"] == sum(math.prod(e.shape) for e in program.expected())
        chosen = [e for e in program.expected() if e.expert is None or e.expert < program.dims["K"]]
        one_per_expert = ("b_gate_up", "b_down") if family == "gpt_oss" else ()  # a row of one tensor
        shapes = [(e.tensor.kind, (program.dims["K"], *e.shape[1:]) if e.role in one_per_expert else e.shape)
                  for e in chosen]  # fmt: skip
        assert counts["active"] == sum(math.prod(shape) for _, shape in shapes)
        assert counts["vectors"] == sum(math.prod(shape) for kind, shape in shapes if kind == "vector")
        lookup = 0 if program.copies else program.dims["V"] * program.dims["H"]
        assert counts["multiplied"] == counts["active"] - counts["vectors"] - lookup
        assert program.bytes_per_token(2) == 2 * counts["multiplied"] + 2 * program.dims["H"] + 4 * counts["vectors"]


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_activations_are_another_program(family):
    for program in built(family):
        other = program.with_int8()
        assert (program.activations, other.activations) == ("f32", "int8")
        assert other.digest() != program.digest() and "_a8" in other.text() and "_a8" not in program.text()
        assert other.head == program.head and other.tail == program.tail and other.with_int8() == other
        for name, steps in program.blocks.items():
            for one, changed in zip(steps, other.blocks[name], strict=True):
                kept = one.op not in INT8 or {"router", "s_weight"} & set(one.weights)
                assert changed == (one if kept else replace(one, op=INT8[one.op]))


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_activations_pass_the_static_check(family):
    tables = importlib.import_module(f"refmoe.archs.{family}").tables(Config(config(family), "config.json"))
    checked(family, replace(tables, blocks=int8_blocks(tables.blocks)), {})


@pytest.mark.parametrize("family", FAMILIES)
def test_json_digest_and_text(family):
    for program in built(family):
        text = program.to_json()
        data = json.loads(text)
        assert text == json.dumps(data, sort_keys=True, separators=(",", ":"))
        for name in ("context", "copies", "ignored_tensors", "config_report", "digest"):
            del data[name]
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(canonical.encode()).hexdigest() == program.digest()
        assert data["blocks"].keys() == program.blocks.keys()
        assert data["tensors"]["wo"]["sizes"] == [36, program.dims["N"] * program.dims.get("U", program.dims["D"])]
        printed = program.text()
        assert printed.isascii() and printed.endswith("\n")
        for steps in program.blocks.values():
            assert all(f"  {s.out[0]} {s.shapes[0]}" in printed for s in steps)
        assert json.loads(json.dumps(program.describe()))["program_digest"] == program.digest()


def test_digest_covers_numbers_and_nothing_else():
    digest = build(config("qwen3_moe")).digest()
    for changes in ({"max_position_embeddings": 64}, {"torch_dtype": "float32"}, {"use_cache": False}):
        assert build(config("qwen3_moe", **changes)).digest() == digest
    for changes in ({"rms_norm_eps": 1e-6}, {"rope_theta": 5e5}, {"norm_topk_prob": False}, {"num_experts_per_tok": 2}):
        assert build(config("qwen3_moe", **changes)).digest() != digest


def test_scale_is_the_correctly_rounded_inverse_root():
    for head_dim in range(2, 65537, 2):
        scale = round32(1.0 / math.sqrt(head_dim))
        (bits,) = struct.unpack("<I", struct.pack("<f", scale))
        below, above = (Fraction(struct.unpack("<f", struct.pack("<I", bits + n))[0]) for n in (-1, 1))
        low, high = (below + Fraction(scale)) / 2, (above + Fraction(scale)) / 2
        assert low * low * head_dim < 1 < high * high * head_dim
    assert build(config("llama")).dims["scale"] == 0.25


def test_attention_attributes():
    steps = build(config("mistral")).blocks["window_dense"]
    attrs = next(s.attrs for s in steps if s.op == "attention")
    assert attrs == {"heads": 6, "kv_heads": 2, "head_dim": 16, "scale": 0.25, "window": 5}
    assert next(s.inputs for s in steps if s.op == "attention") == ("q_rope", "k_rope", "v", "positions", "cache")
    assert next(s.attrs for s in steps if s.op == "rope_half") == {"table": "rope", "head_dim": 16}
    assert UNLIMITED == 2**31 - 1


@pytest.mark.parametrize(
    "value", [None, 7, "", "../llama", "llama.py", "parts", "__init__", "gpt2", "os", ["llama"]]
)
def test_unknown_model_type(value):
    with pytest.raises(ConfigError) as caught:
        build(config("llama", model_type=value), "x/config.json")
    text = str(caught.value)
    assert text.startswith("x/config.json: model_type: expected one of " + ", ".join(supported()) + ", found ")
    assert "\n" not in text


def test_no_model_type_and_no_object():
    with pytest.raises(ConfigError, match=r"model_type: expected one of .*llama, minimax_m2"):
        build({})
    for value in (None, [], "x", 3):
        with pytest.raises(ConfigError, match="top level: expected an object"):
            build(value)


def test_import_needs_no_arrays():
    code = (
        "import sys; sys.modules['numba'] = sys.modules['numpy'] = None\n"
        "from refmoe import program\n"
        f"p = program.build({config('qwen3_moe')!r})\n"
        "p.text(), p.to_json(), p.describe(), list(p.expected())\n"
        "assert not any(name.startswith(('refmoe.ops', 'refmoe.numerics', 'refmoe.jit')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(programs.__file__).parents[1])


def tables(**changes):
    """Tables of a small mixtral model with some fields replaced."""
    from refmoe.archs import mixtral

    return replace(mixtral.tables(Config(config("mixtral"), "config.json")), **changes)


def block(*steps):
    return {"blocks": {"full_sparse": tuple(steps)}}


HALVES = parts.attention(UNLIMITED), parts.sparse("route_softmax_topk")
WHOLE = HALVES[0] + HALVES[1]


def swapped(out, new):
    """The block with one step replaced."""
    return block(*(new if s.out[0] == out else s for s in WHOLE))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (swapped("q", step("q", "linear", "attn_norm", "wo")), "q: linear: w: axis K: expected H"),
        (
            swapped("k", step("k", "linear", "attn_norm", "wq")),
            "k: axis G.D: expected G.D as elsewhere, found .T, N.D.",
        ),
        (swapped("v", step("v", "linear", "attn_norm", "w")), "v: expected a declared tensor role, found 'w'"),
        (swapped("v", step("v", "linear", "attn_norm", "attn_norm")), "w: expected matrix, found the vector attn_norm"),
        (swapped("v", step("v", "linear", "attn_norm", "e_up")), "w: expected matrix, found the matrix e_up"),
        (swapped("v", step("v", "linear", "attn_norm", "lm_head")), "expected a tensor of its layer, found lm_head"),
        (swapped("v", step("v", "linear", "later", "wv")), "expected an input defined before, found 'later'"),
        (swapped("v", step("v", "linear", "attn_norm")), "v: linear: expected 2 arrays, found"),
        (swapped("v", step("v", "matmul", "attn_norm", "wv")), "op matmul: expected a file matmul.py"),
        (swapped("v", step("q", "linear", "attn_norm", "wv")), "expected a new name .single assignment., found q"),
        (swapped("v", step("x", "linear", "attn_norm", "wv")), "expected a new name .single assignment., found x"),
        (swapped("v", step("v u", "linear", "attn_norm", "wv")), "expected 1 names of results"),
        (swapped("v", step("v", "linear", "attn_norm", "wv", bias=1)), "linear has no attribute bias"),
        (swapped("attn_norm", step("attn_norm", "rms_norm", "x", "attn_norm")), "eps: expected an attribute"),
        (swapped("attn_norm", step("attn_norm", "rms_norm", "x", "attn_norm", eps=1)), "eps: expected f32, found 1"),
        (swapped("attn_norm", step("attn_norm", "rms_norm", "x", "attn_norm", eps="e")), "expected a number or a dim"),
        (swapped("q_rope", step("q_rope", "rope_half", "q positions", table="sine")), "expected a declared table"),
        (swapped("q_rope", step("q_rope", "rope_half", "q q", table="rope", head_dim="D")), "expected i64, found f32"),
        (
            swapped("route_ids", step("route_ids route_weights", "route_softmax_topk", "router_logits", k=2.0)),
            "k: expec",
        ),
        (swapped("combine", step("combine", "combine", "expert_act route_weights")), "full_sparse: step ffn_out: add"),
        (swapped("ffn_out", step("logits", "add", "attn_out combine")), "expected names of its own"),
        (block(*WHOLE[:-2]), "last result"),
        (block(*[step(f"n{n}", "add", "x x") for n in range(36)]), "expected 1 to 35 steps, found 36"),
        (block(), "expected 1 to 35 steps, found 0"),
        ({"kinds": ("full_sparse",) * 3}, "kinds: expected 4 names"),
        ({"kinds": ("full_sparse",) * 3 + ("other",)}, "kinds: expected 4 names"),
        ({"tables": {"rope": {"kind": "default", "head_dim": 6, "base": 1e4}}}, "table rope: expected head_dim 16"),
    ],
)
def test_static_checks(changes, message):
    with pytest.raises(ProgramError, match=message) as caught:
        checked("mixtral", tables(**changes), {})
    assert "\n" not in str(caught.value)


def test_unused_tensor():
    extra = {**tables().tensors, "spare": vector("model.spare.weight", "H")}
    with pytest.raises(ProgramError, match="expected every role used by a step, found unused spare"):
        checked("mixtral", tables(tensors=extra), {})


def test_equal_dimensions_do_not_hide_a_swap():
    values = config("mixtral", hidden_size=96)  # = 6 heads of 16, so q_proj and o_proj are both 96 x 96
    from refmoe.archs import mixtral

    wrong = replace(mixtral.tables(Config(values, "c")), **swapped("q", step("q", "linear", "attn_norm", "wo")))
    with pytest.raises(ProgramError, match="q: linear: w: axis K: expected H"):
        checked("mixtral", wrong, {})
