"""The trained 260K checkpoint beside the checkout: published greedy text and logits, and two mixtures made of it."""

import gzip
import json

import numpy as np
import pytest
import tiny

import refmoe
from refmoe import checkpoint
from refmoe.numerics import counter

FOLDER = tiny.ROOT.parent / "shared" / "data" / "stories260k"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no ../shared/data/stories260k beside the checkout"),
]


@pytest.fixture(scope="module")
def golden():
    return json.loads((FOLDER / "golden.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def logits():
    """f32[256, 512]: row p after feeding id p of the greedy text; run.c, plain left-to-right sums."""
    with gzip.open(FOLDER / "logits_greedy_f32.npy.gz") as file:
        return np.load(file)


@pytest.fixture(scope="module")
def model():
    return refmoe.load(FOLDER)


# 5 layers of 16 steps and sums of at most 172 products: (172/16 + 6) 2^-24 sqrt(82) 22 = 2e-4 if no rounding cancels;
# run.c itself is 2.5e-5 from float64 (SOURCE.md). Both are 5e-5 apart at most if ours is no worse.
LIMIT = 5e-5


def test_published_text_token_for_token(model, golden):
    published = golden["published_greedy_256"]
    generation = model.generate([1], max_tokens=256)
    assert [1, *(step.id for step in generation)] == published["ids"]
    assert generation.text + "\n" == published["stdout"]


def test_logits(model, golden, logits):
    found = model.forward(golden["published_greedy_256"]["ids"][:256])
    assert np.abs(found - logits).max() < LIMIT
    assert np.array_equal(found.argmax(1), logits.argmax(1))


@pytest.mark.parametrize("prompt", [
    "Once upon a time", "The dog ran", "Lily and Ben", "Tim had a big red", "One day, a cat", "The sun was",
    '"Hello", said the', "Zoë café 世界 123!",
])  # fmt: skip
def test_prompts(model, golden, prompt):
    ids = golden["greedy_128_prompts"][prompt]
    start = model.encode(prompt)
    assert start == golden["encode_with_bos"][prompt] == ids[: len(start)]
    generation = model.generate(start, max_tokens=len(ids) - len(start))
    assert [*start, *(step.id for step in generation)] == ids


def test_command_line_text(golden):
    from click.testing import CliRunner

    from refmoe.cli import main

    published = golden["published_greedy_256"]["stdout"]
    result = CliRunner().invoke(main, ["generate", "-m", str(FOLDER), "--max-tokens", "255", "Once upon a time"])
    assert result.exit_code == 0, result.output
    assert (published.removeprefix("Once upon a time")).startswith(result.stdout.removesuffix("\n")[:500])
    assert ("Once upon a time" + result.stdout).startswith(published.removesuffix("\n"))


def _save(folder, config, tensors):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    checkpoint.write(folder / "model.safetensors", {n: ("F32", a.shape, a) for n, a in tensors.items()})
    return refmoe.load(folder)


def _dense():
    """(config as Mixtral's, the tensors without the dense units, the units as (gate, up, down) by layer)."""
    opened = checkpoint.open(FOLDER)
    infos = list(opened.tensors.values())
    arrays = {info.name: raw.view("<f4").reshape(info.shape)
              for info, raw in zip(infos, checkpoint.read(infos), strict=True)}  # fmt: skip
    units = [[arrays.pop(f"model.layers.{layer}.mlp.{part}_proj.weight") for part in ("gate", "up", "down")]
             for layer in range(opened.config["num_hidden_layers"])]  # fmt: skip
    config = dict(opened.config) | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}
    del config["attention_bias"]
    return config, arrays, units


def eight_equal_experts():
    """Top-2 of 8 identical experts, a random router: any choice and any weights give the dense result."""
    config, tensors, units = _dense()
    for layer, (gate, up, down) in enumerate(units):
        stem = f"model.layers.{layer}.block_sparse_moe."
        tensors[stem + "gate.weight"] = counter.fill_normal(7, layer, 8 * 64, 0.3).reshape(8, 64)
        for expert in range(8):
            tensors |= {f"{stem}experts.{expert}.w{n}.weight": w for n, w in ((1, gate), (3, up), (2, down))}
    return config | {"num_local_experts": 8, "num_experts_per_tok": 2}, tensors


def four_slices():
    """The unit cut into 4 experts of 43 neurons, down four times as large, all chosen with weight 1/4."""
    config, tensors, units = _dense()
    for layer, (gate, up, down) in enumerate(units):
        stem = f"model.layers.{layer}.block_sparse_moe."
        tensors[stem + "gate.weight"] = np.zeros((4, 64), np.float32)
        for expert in range(4):
            part = slice(43 * expert, 43 * expert + 43)
            tensors |= {f"{stem}experts.{expert}.w1.weight": gate[part], f"{stem}experts.{expert}.w3.weight": up[part],
                        f"{stem}experts.{expert}.w2.weight": np.float32(4) * down[:, part]}  # fmt: skip
    return config | {"num_local_experts": 4, "num_experts_per_tok": 4, "intermediate_size": 43}, tensors


@pytest.mark.parametrize("recast", [eight_equal_experts, four_slices])
def test_mixtures_of_it(tmp_path, golden, logits, recast):
    model = _save(tmp_path / "model", *recast())
    ids = golden["published_greedy_256"]["ids"]
    found = model.forward(ids[:256])
    assert np.abs(found - logits).max() < LIMIT
    assert [step.id for step in model.generate([1], max_tokens=256)] == ids[1:]
    if recast is four_slices:
        routes = model.trace(ids[:3], ["*.route_*"])
        assert all((array == np.arange(4)).all() for name, array in routes.items() if name.endswith("ids"))
        assert all((array == np.float32(0.25)).all() for name, array in routes.items() if name.endswith("weights"))
    else:
        chosen = model.trace(ids[:64], ["layers.0.route_ids"])["layers.0.route_ids"]
        assert set(chosen.reshape(-1).tolist()) == set(range(8))
