"""config: every key is used, ignored with a reason or refused; values are checked; both rope dialects."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "archs"))
from arch_configs import FAMILIES, config

from refmoe.config import positive, round32
from refmoe.errors import ConfigError
from refmoe.program import build

REQUIRED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "rms_norm_eps"),
    "max_position_embeddings",
)


def refusal(values, source="dir/config.json") -> str:
    """The one line of the ConfigError, without the file name."""
    with pytest.raises(ConfigError) as caught:
        build(values, source)
    text = str(caught.value)
    assert text.startswith(source + ": ") and "\n" not in text and len(text) < 300
    return text.removeprefix(source + ": ")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_is_accounted_for(family):
    values = config(
        family, _name_or_path="x", auto_map={"AutoModel": "code.Model"}, temperature=0.7, id2label={"0": "a"}
    )
    report = build(values).config_report
    assert set(values) <= set(report)
    assert {status for status, _ in report.values()} <= {"used", "ignored", "assumed"}
    assert all(reason for _, reason in report.values())
    assert report["auto_map"] == ("ignored", "custom code of the repository: never imported, the program is our own")


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_keys_are_refused_unless_null(family):
    text = refusal(config(family, attn_logit_softcapping=30.0))
    assert text.startswith("attn_logit_softcapping: expected a known key") and text.endswith("found 30.0")
    assert build(config(family, attn_logit_softcapping=None)).config_report["attn_logit_softcapping"][0] == "ignored"


def test_hostile_keys_and_values_stay_on_one_line():
    text = refusal(config("llama", **{"a\nb\x1b[31m" + "c" * 500: ["x" * 900]}))
    assert len(text) < 250 and "\x1b" not in text
    assert refusal(config("llama", hidden_act="si\nlu")).startswith('hidden_act: expected "silu"')


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", REQUIRED)
def test_required_keys(family, key):
    if family in ("qwen2_moe", "qwen3_moe") and key == "intermediate_size":
        return  # not needed: every layer of that config has experts
    assert refusal(config(family, drop=(key,))).startswith(f"{key}: expected ")
    assert refusal(config(family, drop=(key,))).endswith("found nothing")
    assert refusal(config(family, **{key: None})).endswith("found null")


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("value", [0, -4, 4.0, "4", True, [4], {}, 10**8, 10**400, math.nan])
def test_sizes(key, value):
    assert refusal(config("llama", **{key: value})).startswith(f"{key}: expected an integer from 1 to ")


@pytest.mark.parametrize("value", [0, -1e-5, math.inf, math.nan, "1e-5", True, 1e-60, 1e39, {"__float__": "Infinity"}])
def test_eps(value):
    assert refusal(config("llama", rms_norm_eps=value)).startswith("rms_norm_eps: expected a finite number above 0")


def test_heads():
    assert refusal(config("llama", num_key_value_heads=4)).startswith("num_key_value_heads: expected a divisor of")
    assert refusal(config("llama", num_key_value_heads=12)).startswith(
        "num_key_value_heads: expected an integer from 1 to 6"
    )
    assert build(config("mistral", num_key_value_heads=None)).dims["G"] == 6
    assert "num_key_value_heads" in refusal(config("mistral", drop=("num_key_value_heads",)))
    assert (
        refusal(config("llama", head_dim=15))
        == "head_dim: expected an even number (rotary embedding turns pairs), found 15"
    )
    assert refusal(config("llama", head_dim=None, hidden_size=40)).startswith("head_dim: expected a number, because")
    assert refusal(config("llama", head_dim=None, hidden_size=18)).startswith("head_dim: expected an even number")
    assert build(config("qwen2", head_dim=None)).dims["D"] == 6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("hidden_act", 1),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("tie_word_embeddings", "yes"),
        ("tie_word_embeddings", 1),
        ("partial_rotary_factor", 0.5),
        ("per_layer_config", {"0": {"hidden_act": "relu"}}),
        ("layer_types", ["full_attention"]),
    ],
)
def test_not_implemented(family, key, value):
    if family in ("glm4_moe", "minimax_m2") and key == "partial_rotary_factor":
        value = 2.0  # a share of its heads is rotated
    assert refusal(config(family, **{key: value})).startswith(f"{key}: expected ")


ROPE = {
    "linear": {"factor": 2.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16, "truncate": False},
}


def rope(family="qwen3", **changes):
    return build(config(family, **changes)).tables["rope"]


@pytest.mark.parametrize("kind", ROPE)
def test_dialects_agree(kind):
    old = rope(rope_scaling={"type": kind, **ROPE[kind]})
    assert old["kind"] == kind
    assert rope(rope_scaling={"rope_type": kind, **ROPE[kind]}) == old
    both = {"type": kind, "rope_type": kind, **ROPE[kind]}
    assert rope(rope_scaling=both) == old
    new = {"rope_type": kind, "rope_theta": 10000.0, **ROPE[kind]}
    assert rope(drop=("rope_theta",), rope_parameters=new) == old
    assert rope(rope_parameters=new, rope_scaling=both) == old
    assert rope(drop=("rope_theta",), rope_parameters={"full_attention": new, "sliding_attention": new}) == old
    assert rope(rope_parameters={}, rope_scaling=both) == old and rope(rope_parameters=new, rope_scaling={}) == old


def test_yarn_stretches_the_context():
    """Model cards add yarn and leave max_position_embeddings: Qwen3-30B-A3B has 40,960, with yarn 131,072."""
    stretch = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert build(config("qwen3_moe", max_position_embeddings=40960, rope_scaling=stretch)).context == 131072
    assert build(config("qwen3_moe", max_position_embeddings=40960)).context == 40960
    assert build(config("qwen3_moe", max_position_embeddings=262144, rope_scaling=stretch)).context == 262144
    assert build(config("qwen3", rope_scaling={"type": "linear", "factor": 8.0})).context == 128
    assert build(config("llama", rope_scaling=ROPE["llama3"] | {"type": "llama3", "factor": 1e9})).context == 128
    assert build(config("qwen3", rope_scaling=stretch | {"factor": 1e30})).context == 2**31 - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "rope_theta: expected 500000.0 as in rope_par",
        ),
        ({"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling"),
        ({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}}, "rope_scaling.type: expected"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 'found "dynamic"'),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1]}}, 'found "longrope"'),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, 'found "mrope"'),
        ({"rope_scaling": {"type": "default", "mrope_section": [2, 3, 3]}}, "rope_scaling.mrope_section: expected no"),
        ({"rope_scaling": {"type": ["yarn"]}}, "rope_scaling.rope_type: expected one of"),
        ({"rope_scaling": "linear"}, "rope_scaling: expected an object or null"),
        (
            {"rope_scaling": {"type": "linear"}},
            "rope_scaling.factor: expected a finite number, at least 1, found nothing",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling.factor: expected"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor: expected"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling.factor: expected"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 1, "beta_slow": 2}}, "rope_scaling.beta_fast"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "truncate": None}},
            "rope_scaling.truncate: expected true or",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 0}}, "rope_scaling.attention_factor"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "extrapolation_factor": 1}},
            "extrapolation_factor: expected no",
        ),
        (
            {"rope_scaling": ROPE["llama3"] | {"type": "llama3", "high_freq_factor": 1.0}},
            "rope_scaling.high_freq_factor",
        ),
        (
            {"rope_scaling": ROPE["llama3"] | {"type": "llama3", "original_max_position_embeddings": 6.5}},
            "original_max_pos",
        ),
        (
            {"rope_scaling": ROPE["yarn"] | {"type": "yarn"}, "original_max_position_embeddings": 64},
            "expected 32 as in rop",
        ),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "rope_scaling.partial_rotary_factor: expected 1"),
        ({"rope_theta": 0}, "rope_theta: expected a finite number above 1, found 0"),
        ({"rope_theta": True}, "rope_theta: expected"),
        ({"rope_theta": 1e39}, "rope_theta: expected"),
        ({"rope_theta": "1e4"}, "rope_theta: expected"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 1e5}}},
            "one rot",
        ),
        ({"rope_parameters": {"full_attention": None}}, "rope_parameters: expected an object or null"),
    ],
)
def test_rope_refused(changes, message):
    assert message in refusal(config("qwen3", **changes))


def test_rope_theta_is_required_but_in_llama():
    for family in FAMILIES:
        if family != "llama":
            assert (
                refusal(config(family, drop=("rope_theta",)))
                == "rope_theta: expected a finite number above 1, found nothing"
            )


def test_rope_defaults():
    spec = rope(rope_scaling={"type": "yarn", "factor": 4.0})
    assert spec["original_max_position_embeddings"] == 128  # max_position_embeddings
    assert (spec["beta_fast"], spec["beta_slow"], spec["truncate"]) == (32.0, 1.0, True)
    assert not {"attention_factor", "mscale", "mscale_all_dim"} & set(spec)
    ratio = {"type": "yarn", "factor": None, "original_max_position_embeddings": 32}
    assert rope(rope_scaling=ratio)["factor"] == 4.0
    assert rope(rope_scaling={"type": "yarn", "factor": 4.0}, original_max_position_embeddings=32)[
        "original_max_position_embeddings"
    ] == 32  # fmt: skip
    scales = {"type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.3}
    assert (rope(rope_scaling=scales)["mscale"], rope(rope_scaling=scales)["mscale_all_dim"]) == (0.7, 0.3)
    assert "mscale" not in rope(rope_scaling=scales | {"mscale_all_dim": 0})
    assert rope(rope_scaling=scales | {"attention_factor": 1})["attention_factor"] == 1.0
    assert rope(rope_scaling={"factor": None, "partial_rotary_factor": 1.0})["kind"] == "default"
    assert rope(rope_scaling={})["kind"] == "default"


def test_rope_specs_are_accepted_by_the_tables():
    from refmoe.numerics.rope_tables import from_spec

    for kind, values in ROPE.items():
        inv_freq, amplitude = from_spec(rope(rope_scaling={"type": kind, **values}))
        assert inv_freq.shape == (8,) and (amplitude == 1) == (kind != "yarn")


def test_defaults_of_absent_keys():
    minimal = config("llama", drop=("tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act", "rope_theta"))
    program = build(minimal)
    assert program.config_report["tie_word_embeddings"] == ("assumed", "not set: false")
    assert program.config_report["attention_bias"] == ("assumed", "not set: false")
    assert json.loads(program.to_json())["config_report"]["rope_theta"] == ["assumed", "not set: 10000.0"]


def test_round32():
    assert round32(1e-6) == 9.999999974752427e-07
    assert round32(1e39) == math.inf and round32(-1e39) == -math.inf
    assert positive(1) and not positive(True) and not positive(math.inf) and not positive("1")


ODD = [None, True, False, 0, 1, -1, 2, 3.5, 1e300, math.nan, math.inf, 10**30, "", "silu", [], [1], [None], {}]
ODD_ROPE = (
    *("rope_type", "type", "rope_theta", "factor", "truncate", "beta_fast", "mscale", "mscale_all_dim"),
    *("attention_factor", "original_max_position_embeddings", "low_freq_factor", "partial_rotary_factor"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_value_of_any_key_is_accepted_or_refused_in_one_line(family):
    values = config(family, layer_types=None, rope_scaling={"type": "yarn", "factor": 2.0}, rope_parameters=None)
    changes = [{key: odd} for key in values for odd in ODD]
    for kind in ("yarn", "llama3", "linear", "default"):
        for key in ODD_ROPE:
            for odd in ODD:
                scaling = {"type": kind, **ROPE.get(kind, {}), key: odd}
                changes += [{"rope_scaling": scaling}, {"rope_scaling": None, "rope_parameters": scaling}]
    for change in changes:
        try:
            program = build(values | change)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 250
        else:
            json.loads(program.to_json())
