"""Quantised checkpoints of published configs, their tensors named and shaped as published: all claimed, by header."""

import json
from collections import Counter
from math import ceil, prod
from pathlib import Path

import pytest

from refmoe import checkpoint
from refmoe.checkpoint import Checkpoint
from refmoe.checkpoint.safetensors import DTYPE_BITS, TensorInfo
from refmoe.program import build

ROOT = Path(__file__).parents[3] / "shared" / "published" / "configs"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not ROOT.is_dir(), reason="needs the folder ../shared with published configs"),
]


class Files:
    """Headers of a checkpoint that is nowhere."""

    def __init__(self, name):
        self.name, self.tensors = name, {}
        self.config = json.loads((ROOT / f"{name}.json").read_text("utf-8"))

    def add(self, name, dtype, *shape):
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        self.tensors[name] = TensorInfo(name, dtype, shape, Path("model.safetensors"), 0, size, (0, 0))

    def claims(self):
        opened = Checkpoint(Path(self.name), self.config, self.tensors, {}, ())
        return checkpoint.claim(opened, build(self.config, self.name))


def fp8(files, stem, rows, cols):
    files.add(f"{stem}.weight", "F8_E4M3", rows, cols)
    files.add(f"{stem}.weight_scale_inv", "BF16", ceil(rows / 128), ceil(cols / 128))


def gptq(files, stem, rows, cols):
    files.add(f"{stem}.qweight", "I32", cols // 8, rows)
    files.add(f"{stem}.qzeros", "I32", cols // 128, rows // 8)
    files.add(f"{stem}.scales", "F16", cols // 128, rows)
    files.add(f"{stem}.g_idx", "I32", cols)


def int4(files, stem, rows, cols):
    files.add(f"{stem}.weight_packed", "I32", rows, cols // 8)
    files.add(f"{stem}.weight_scale", "BF16", rows, cols // 32)
    files.add(f"{stem}.weight_shape", "I32", 2)


def plain(dtype):
    return lambda files, stem, rows, cols: files.add(f"{stem}.weight", dtype, rows, cols)


def qwen3_30b(name, dtype, store):
    files = Files(name)
    for stem in ("model.embed_tokens", "lm_head"):
        files.add(f"{stem}.weight", dtype, 151936, 2048)
    files.add("model.norm.weight", dtype, 2048)
    for layer in range(48):
        at = f"model.layers.{layer}"
        for stem, rows, cols in (("q", 4096, 2048), ("k", 512, 2048), ("v", 512, 2048), ("o", 2048, 4096)):
            store(files, f"{at}.self_attn.{stem}_proj", rows, cols)
        for stem, size in (("self_attn.q_norm", 128), ("self_attn.k_norm", 128), ("input_layernorm", 2048),
                           ("post_attention_layernorm", 2048)):  # fmt: skip
            files.add(f"{at}.{stem}.weight", dtype, size)
        files.add(f"{at}.mlp.gate.weight", dtype, 128, 2048)  # plain in every one of them
        for expert in range(128):
            for stem, rows, cols in (("gate", 768, 2048), ("up", 768, 2048), ("down", 2048, 768)):
                store(files, f"{at}.mlp.experts.{expert}.{stem}_proj", rows, cols)
    return files


@pytest.mark.parametrize(("name", "count", "dtype", "store", "format"), [
    ("Qwen3-30B-A3B-FP8", 37_491, "BF16", fp8, "fp8_block"),
    ("Qwen3-30B-A3B-Thinking-2507-FP8", 37_491, "BF16", fp8, "fp8_block"),
    ("Qwen3-30B-A3B-GPTQ-Int4", 48 * (4 * 388 + 5) + 3, "F16", gptq, "gptq"),
])
def test_qwen3_30b(name, count, dtype, store, format):
    files = qwen3_30b(name, dtype, store)
    assert len(files.tensors) == count
    claims = files.claims()
    assert Counter(matrix.format for matrix in claims.matrices.values()) == {format: 48 * 388, dtype.lower(): 2 + 48}
    assert not claims.ignored


def test_kimi_k2_thinking():
    """Only the routed experts are int4; the rest of each layer is bf16."""
    files = Files("Kimi-K2-Thinking")
    store = plain("BF16")
    for stem in ("model.embed_tokens", "lm_head"):
        store(files, stem, 163840, 7168)
    files.add("model.norm.weight", "BF16", 7168)
    for layer in range(61):
        at = f"model.layers.{layer}"
        for stem, rows, cols in (("q_a_proj", 1536, 7168), ("q_b_proj", 12288, 1536), ("kv_b_proj", 16384, 512),
                                 ("kv_a_proj_with_mqa", 576, 7168), ("o_proj", 7168, 8192)):  # fmt: skip
            store(files, f"{at}.self_attn.{stem}", rows, cols)
        for stem, size in (("self_attn.q_a_layernorm", 1536), ("self_attn.kv_a_layernorm", 512),
                           ("input_layernorm", 7168), ("post_attention_layernorm", 7168)):  # fmt: skip
            files.add(f"{at}.{stem}.weight", "BF16", size)
        shared = ".shared_experts" if layer else ""
        width = 2048 if layer else 18432
        for stem, rows, cols in (("gate", width, 7168), ("up", width, 7168), ("down", 7168, width)):
            store(files, f"{at}.mlp{shared}.{stem}_proj", rows, cols)
        if layer:
            store(files, f"{at}.mlp.gate", 384, 7168)
            files.add(f"{at}.mlp.gate.e_score_correction_bias", "F32", 384)
            for expert in range(384):
                for stem, rows, cols in (("gate", 2048, 7168), ("up", 2048, 7168), ("down", 7168, 2048)):
                    int4(files, f"{at}.mlp.experts.{expert}.{stem}_proj", rows, cols)
    claims = files.claims()
    assert Counter(matrix.format for matrix in claims.matrices.values()) == {
        "int_packed": 60 * 384 * 3, "bf16": 2 + 61 * 8 + 60}  # fmt: skip
    one = claims.matrices["e_gate", 1, 0]
    assert one.params == {"bits": 4, "group": 32, "symmetric": 1, ".weight_scale": "BF16", ".weight_shape": "I32"}


def test_gpt_oss_20b():
    files = Files("gpt-oss-20b")
    for stem in ("model.embed_tokens", "lm_head"):
        files.add(f"{stem}.weight", "BF16", 201088, 2880)
    files.add("model.norm.weight", "BF16", 2880)
    for layer in range(24):
        at = f"model.layers.{layer}"
        for stem, rows, cols in (("q", 4096, 2880), ("k", 512, 2880), ("v", 512, 2880), ("o", 2880, 4096)):
            files.add(f"{at}.self_attn.{stem}_proj.weight", "BF16", rows, cols)
            files.add(f"{at}.self_attn.{stem}_proj.bias", "BF16", rows)
        files.add(f"{at}.self_attn.sinks", "BF16", 64)
        for stem in ("input_layernorm", "post_attention_layernorm"):
            files.add(f"{at}.{stem}.weight", "BF16", 2880)
        files.add(f"{at}.mlp.router.weight", "BF16", 32, 2880)
        files.add(f"{at}.mlp.router.bias", "BF16", 32)
        for stem, rows in (("gate_up_proj", 5760), ("down_proj", 2880)):
            files.add(f"{at}.mlp.experts.{stem}_blocks", "U8", 32, rows, 90, 16)
            files.add(f"{at}.mlp.experts.{stem}_scales", "U8", 32, rows, 90)
            files.add(f"{at}.mlp.experts.{stem}_bias", "BF16", 32, rows)
    assert len(files.tensors) == 459
    claims = files.claims()
    formats = Counter(matrix.format for matrix in claims.matrices.values())
    assert set(formats) == {"bf16", "mxfp4_blocks"} and formats["bf16"] == 2 + 24 * 5 and not claims.ignored
    stored = sum(info.nbytes for name, info in files.tensors.items() if name.endswith(("_blocks", "_scales")))
    assert claims.nbytes["mxfp4_blocks"] == stored
