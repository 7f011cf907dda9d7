"""Stacks of experts: slices of stored tensors, plain ones transposed, in formats with suffixes as they are."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refmoe import checkpoint
from refmoe.checkpoint import matrices as matrices_module
from refmoe.errors import CheckpointError
from refmoe.numerics.codecs import f32_to_bf16, f32_to_f16
from refmoe.program import build

sys.path.insert(0, str(Path(__file__).parents[1] / "archs"))
from arch_configs import config

DTYPES = {"F32": lambda a: a, "BF16": f32_to_bf16, "F16": f32_to_f16}
E, M, H = 5, 44, 36
UP, DOWN = "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"
BLOCKS = SimpleNamespace(
    __name__="refmoe.formats.bf16",  # a stand-in for one with blocks and scales
    suffixes=("_blocks", "_scales"),
    dtypes=("U8", "U8"),
    stored_shapes=lambda rows, cols: {"_blocks": (rows, cols // 4, 2), "_scales": (rows, cols // 4)},
)


@pytest.fixture
def program():
    return build(config("gpt_oss", num_hidden_layers=1, layer_types=["full_attention"]))


def tensors(program, dtype="F32"):
    """Random tensors as transformers stores them, and the matrix of each expert."""
    rng, found, matrices = np.random.default_rng(1), {}, {}
    for role, _, expert, tensor, shape in program.expected():
        array = rng.standard_normal(shape).astype(np.float32)
        if expert is None:
            found[tensor.name + (".weight" if tensor.kind == "matrix" else "")] = ("F32", shape, array)
        else:
            matrices[role, expert] = array
    for role, name in (("e_gate_up", UP), ("e_down", DOWN)):
        stack = np.ascontiguousarray(np.stack([matrices[role, e].T for e in range(E)]))
        found[name] = (dtype, stack.shape, DTYPES[dtype](stack))
    return found, matrices


def opened(folder, stored):
    """A checkpoint directory with these tensors."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    checkpoint.write(folder / "model.safetensors", stored, {})
    return checkpoint.open(folder)


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_stacks_are_transposed(program, tmp_path, dtype):
    stored, matrices = tensors(program, dtype)
    claims = checkpoint.claim(opened(tmp_path, stored), program)
    assert not claims.ignored
    assert claims.nbytes[dtype.lower()] >= stored[UP][2].nbytes + stored[DOWN][2].nbytes
    weights = checkpoint.load(claims)
    for role in ("e_gate_up", "e_down"):
        assert len(weights[role, 0]) == E
        for e, weight in enumerate(weights[role, 0]):
            wanted = DTYPES[dtype](matrices[role, e])
            assert (weight.rows, weight.cols) == wanted.shape
            assert weight.parts[".weight"].tobytes() == wanted.tobytes()
    assert weights["b_gate_up", 0].shape == (E, 2 * M)


def test_slices_of_a_format_with_suffixes(program, tmp_path, monkeypatch):
    monkeypatch.setattr(matrices_module, "formats", lambda: (BLOCKS, *FORMATS))
    stored, _ = tensors(program)
    del stored[UP]
    blocks = np.arange(E * 2 * M * (H // 4) * 2, dtype=np.uint64).astype(np.uint8).reshape(E, 2 * M, H // 4, 2)
    scales = (np.arange(E * 2 * M * (H // 4)) % 251).astype(np.uint8).reshape(E, 2 * M, H // 4)
    stored |= {UP + "_blocks": ("U8", blocks.shape, blocks), UP + "_scales": ("U8", scales.shape, scales)}
    claims = checkpoint.claim(opened(tmp_path, stored), program)
    parts = claims.matrices["e_gate_up", 0, 3].parts
    assert {s: (info.name, info.shape) for s, info in parts.items()} == {
        "_blocks": (UP + "[3]_blocks", (2 * M, H // 4, 2)),
        "_scales": (UP + "[3]_scales", (2 * M, H // 4)),
    }
    raw = checkpoint.read([parts["_blocks"], parts["_scales"]])
    assert raw[0].tobytes() == blocks[3].tobytes() and raw[1].tobytes() == scales[3].tobytes()
    assert claims.matrices["e_down", 0, 0].format == "f32"


FORMATS = matrices_module.formats()


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        (UP, (E, 2 * M, H), r"gate_up_proj\[0\]\.weight in .* has shape \[36, 88\], the config asks for \[88, 36\]"),
        (UP, (E + 1, H, 2 * M), r"unknown tensors: .*gate_up_proj\[5\]"),
        (UP, (E - 1, H, 2 * M), r"missing tensors: .*gate_up_proj\[4\]"),
        (UP, (H, 2 * M), "gate_up_proj in .* has shape .*, expected one matrix for each expert"),
        (DOWN, (0, M, H), "down_proj in .* has shape .*, expected one matrix for each expert"),
        (DOWN, (20000, 1, 1), "down_proj in .* has shape .*, expected one matrix for each expert"),
        (DOWN, (E * M * H,), "down_proj in .* has shape .*, expected one matrix for each expert"),
    ],
)
def test_stacks_that_do_not_fit(program, tmp_path, name, shape, text):
    stored, _ = tensors(program)
    stored[name] = ("F32", shape, np.zeros(shape, np.float32))
    with pytest.raises(CheckpointError, match=text):
        checkpoint.claim(opened(tmp_path, stored), program)


def test_a_missing_stack_is_named_once(program, tmp_path):
    stored, _ = tensors(program)
    del stored[UP]
    with pytest.raises(CheckpointError, match=f"1 missing tensors: {UP}$"):
        checkpoint.claim(opened(tmp_path, stored), program)


def test_other_types_are_refused(program, tmp_path):
    stored, _ = tensors(program)
    stored[UP] = ("I64", (E, H, 2 * M), np.zeros((E, H, 2 * M), np.int64))
    with pytest.raises(CheckpointError, match="dtype I64, supported for a matrix"):
        checkpoint.claim(opened(tmp_path, stored), program)
