"""The whole tensor maps of Kimi-K2-Instruct and DeepSeek-R1 are claimed from their headers alone, none left over."""

import dataclasses
import json
import time
from collections import Counter
from math import prod
from pathlib import Path

import pytest

from refmoe import checkpoint
from refmoe.checkpoint import Checkpoint
from refmoe.checkpoint.safetensors import TensorInfo
from refmoe.errors import CheckpointError
from refmoe.program import build

ROOT = Path(__file__).parents[3] / "shared" / "published"
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not ROOT.is_dir(), reason="needs the folder ../shared with published tensor maps"),
]


def numbers(text):
    """`0-2,5` as numbers; no layers or experts at all as one None."""
    if text is None:
        return [None]
    runs = [run.partition("-")[::2] for run in text.split(",")]
    return [n for first, last in runs for n in range(int(first), int(last or first) + 1)]


def published(name) -> Checkpoint:
    """A checkpoint of headers only: every tensor of the published inventory."""
    config = json.loads((ROOT / "configs" / f"{name}.json").read_text("utf-8"))
    inventory = json.loads((ROOT / "tensors" / f"{name}.json").read_text("utf-8"))
    tensors = {}
    for row in inventory["rows"]:
        for layer in numbers(row["layers"]):
            for expert in numbers(row["experts"]):
                full = row["name"].replace("{L}", str(layer)).replace("{E}", str(expert))
                shape, size = tuple(row["shape"]), prod(row["shape"]) * BYTES[row["dtype"]]
                tensors[full] = TensorInfo(full, row["dtype"], shape, Path(inventory["first_file"]), 0, size, (0, 0))
    assert len(tensors) == inventory["tensor_count"]
    return Checkpoint(Path(name), config, tensors, {}, ())


@pytest.mark.parametrize(
    ("name", "count", "matrices", "ignored"),
    [
        ("Kimi-K2-Instruct", 139_644, {"fp8_block": 61 * 5 + 3 + 60 * 3 * 385, "bf16": 2 + 60}, 61),
        # three matrices of every expert, the shared one included, in 58 layers. Layer 61 is not read: as many, its
        # router and bias, four norms, and six tensors of the module around it
        ("DeepSeek-R1", 91_991, {"fp8_block": 61 * 5 + 9 + 58 * 3 * 257, "bf16": 2 + 58}, 2 * (5 + 3 * 257) + 12),
    ],
)
def test_every_tensor_is_claimed(name, count, matrices, ignored):
    opened = published(name)
    begin = time.perf_counter()
    program = build(opened.config, name)
    claims = checkpoint.claim(opened, program)
    assert time.perf_counter() - begin < 30
    assert len(opened.tensors) == count
    assert Counter(matrix.format for matrix in claims.matrices.values()) == matrices
    read = {info.name for matrix in claims.matrices.values() for info in matrix.parts.values()}
    read |= {info.name for info in claims.vectors.values()}
    assert len(read) + len(claims.ignored) == count and not read & set(claims.ignored)
    assert len(claims.ignored) == ignored
    assert sum(prod(matrix.parts[".weight"].shape) for matrix in claims.matrices.values()) + sum(
        prod(info.shape) for info in claims.vectors.values()) == program.parameters()["total"]  # fmt: skip


def test_reasons():
    reasons = set(checkpoint.claim(opened := published("Kimi-K2-Instruct"), build(opened.config)).ignored.values())
    assert len(reasons) == 1 and "rotary tables are computed" in reasons.pop()
    claims = checkpoint.claim(opened := published("DeepSeek-R1"), build(opened.config))
    assert {name.split(".")[2] for name in claims.ignored} == {"61"}
    assert all("multi-token prediction" in reason for reason in claims.ignored.values())


@pytest.mark.parametrize(
    "gone",
    ["model.layers.7.self_attn.kv_b_proj.weight_scale_inv", "model.layers.60.mlp.experts.383.up_proj.weight"],
)
def test_a_missing_tensor_is_named(gone):
    opened = published("Kimi-K2-Instruct")
    left = {name: info for name, info in opened.tensors.items() if name != gone}
    with pytest.raises(CheckpointError, match=gone.removesuffix("_scale_inv").replace(".", r"\.")):
        checkpoint.claim(dataclasses.replace(opened, tensors=left), build(opened.config))


def test_a_foreign_tensor_is_named():
    opened = published("DeepSeek-R1")
    spare = next(iter(opened.tensors.values()))
    more = opened.tensors | {"model.layers.62.spare.weight": spare}
    with pytest.raises(CheckpointError, match=r"1 unknown tensors: model\.layers\.62\.spare\.weight"):
        checkpoint.claim(dataclasses.replace(opened, tensors=more), build(opened.config))
