"""Other software's opinion of GGUF files: the gguf package's writer and decoders, llama.cpp's decoders and logits.

Skipped where these packages are not installed; nothing here is needed to use refmoe.
"""

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refmoe
from refmoe import formats, quantize
from refmoe.checkpoint import gguf as ours
from refmoe.checkpoint.gguf_write import write
from refmoe.checkpoint.reading import read
from tests import fakes, gguf_maker, quantised, tiny

TYPES = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13,
         "q6_k": 14, "iq4_nl": 20, "iq4_xs": 23, "mxfp4_halves": 39}  # fmt: skip


def any_bytes(format, rows=64, cols=512):
    """A matrix of random bytes: inf, nan and subnormal scales among them."""
    (weight,) = quantised.weights(format, rows, cols)
    raw = np.random.default_rng(TYPES[format]).integers(0, 256, weight.parts[".weight"].size, dtype=np.uint8)
    weight.parts[".weight"] = raw
    return weight


def equal_bits(found, expected):
    nan = np.isnan(expected)
    assert np.array_equal(nan, np.isnan(found))
    assert np.array_equal(found.view(np.uint32)[~nan], np.ascontiguousarray(expected).view(np.uint32)[~nan])


@pytest.mark.parametrize("format", TYPES)
def test_decoders_of_the_gguf_package(format):
    gguf = pytest.importorskip("gguf")
    weight = any_bytes(format)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(weight.parts[".weight"].reshape(weight.rows, -1),
                                          gguf.GGMLQuantizationType(TYPES[format]))  # fmt: skip
    equal_bits(formats.decode(weight), expected)


class Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64),
                ("size", ctypes.c_size_t), ("quantised", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]  # fmt: skip


@pytest.mark.parametrize("format", TYPES)
def test_decoders_of_llama_cpp(format):
    """dequantize_row_* as compiled, whatever its compiler contracts: every product is exact, so nothing can differ."""
    package = pytest.importorskip("llama_cpp")
    library = ctypes.CDLL(str(next((Path(package.__file__).parent / "lib").glob("libggml-base.so"))))
    library.ggml_get_type_traits.restype, library.ggml_get_type_traits.argtypes = ctypes.POINTER(Traits), [ctypes.c_int]
    traits = library.ggml_get_type_traits(TYPES[format]).contents
    assert (traits.block, traits.size) == (formats.get(format).ELEMENTS, formats.get(format).SIZE)
    weight, expected = any_bytes(format), np.empty(64 * 512, np.float32)
    traits.to_float(weight.parts[".weight"].ctypes.data, expected.ctypes.data, expected.size)
    equal_bits(formats.decode(weight).reshape(-1), expected)


def test_files_of_the_gguf_package(tmp_path):
    gguf = pytest.importorskip("gguf")
    values = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_tensor("a.weight", values)
    blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = ours.read_header(tmp_path / "m.gguf")
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "é"] and header.metadata["llama.block_count"] == 3
    a, b = read(list(header.tensors.values()))
    assert a.tobytes() == values.tobytes() and b.tobytes() == blocks.tobytes()


# The same file through llama.cpp, in another process because it prints as it likes
LLAMA = """
import sys, numpy as np
from llama_cpp import llama_cpp as C
path, out, ids = sys.argv[1], sys.argv[2], [int(i) for i in sys.argv[3].split(",")]
C.llama_backend_init()
model = C.llama_model_load_from_file(path.encode(), C.llama_model_default_params())
assert model, "not loaded"
settings = C.llama_context_default_params()
settings.n_ctx = settings.n_batch = 64
settings.n_threads = settings.n_threads_batch = 1
if len(sys.argv) > 4:
    settings.yarn_beta_fast, settings.yarn_beta_slow = float(sys.argv[4]), 1.0
settings.type_k = settings.type_v = settings.flash_attn_type = 0
context = C.llama_init_from_model(model, settings)
batch = C.llama_batch_init(len(ids), 0, 1)
batch.n_tokens = len(ids)
for n, token in enumerate(ids):
    batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0], batch.logits[n] = token, n, 1, 0, 1
assert C.llama_decode(context, batch) == 0
size = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model))
rows = [np.ctypeslib.as_array(C.llama_get_logits_ith(context, n), shape=(size,)).copy() for n in range(len(ids))]
np.save(out, np.stack(rows))
"""


def llama_cpp(path, folder, *settings):
    """Logits f32[T,V] of IDS."""
    command = [sys.executable, "-c", LLAMA, str(path), str(folder / "out.npy"), ",".join(map(str, IDS)), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(folder / "out.npy")


IDS = [1, 5, 9, 2, 7, 3, 11, 38, 20, 21, 22, 23]
MORE = {"num_experts": 5, "num_local_experts": 5, "moe_intermediate_size": 12, "decoder_sparse_step": 1}
GPT_OSS = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 4.0, "truncate": False,
           "original_max_position_embeddings": 8}  # fmt: skip
FIXED_IN_GPT_OSS = ("swiglu_limit", "swiglu_alpha", "layer_types", "initial_context_length", "rope_scaling",
                    "rope_theta")  # fmt: skip


def gpt_oss(folder):
    """The tiny model with the settings that are fixed in GGUF files."""
    shutil.copytree(tiny.TINY / "gpt_oss", folder)
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in FIXED_IN_GPT_OSS} | {"rope_parameters": GPT_OSS}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen3", "olmoe", "kimi_k2", "qwen2_moe", "qwen3_moe", "gpt_oss"])
def test_logits_of_llama_cpp(tmp_path, name):
    """Weights and cache in binary32 on both sides. Both are within the bound of tests/test_tiny.py of the exact result,
    for sums in any order; seen here are 1e-5 to 1e-4 of logits up to 14."""
    pytest.importorskip("llama_cpp")
    from tests.test_tiny import bound

    folder, path = tmp_path / "model", tmp_path / "model.gguf"
    if name == "gpt_oss":
        gpt_oss(folder)
    elif name in ("qwen2_moe", "qwen3_moe"):
        extra = {"head_dim": 8} if name == "qwen3_moe" else {"shared_expert_intermediate_size": 16}
        fakes.write_checkpoint(folder, model_type=name, norm_topk_prob=name == "qwen3_moe", **extra, **MORE)
    else:
        folder = tiny.TINY / name
    gguf_maker.convert(folder, path, **{"tokenizer.ggml.model": "none"})
    expected, found = llama_cpp(path, tmp_path), refmoe.load(path).forward(IDS)
    assert np.abs(found - expected).max() < 2 * bound(name, np.abs(expected).max())
    assert np.array_equal(found.argmax(1), expected.argmax(1))


# Widths that all block types fit, for each architecture of GGUF
SPARSE = {"mlp_only_layers": [], "decoder_sparse_step": 1, "head_dim": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
LATENT = {"num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 256, "q_lora_rank": 256,
          "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64}  # fmt: skip
WIDE = {
    "llama": HEADS, "mixtral": HEADS, "qwen2-yarn": HEADS, "qwen3": HEADS, "glm4_moe": HEADS, "gpt_oss": HEADS,
    "olmoe": {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64},
    "qwen2_moe": HEADS | SPARSE | {"norm_topk_prob": False, "shared_expert_intermediate_size": 256},
    "qwen3_moe": HEADS | SPARSE | {"norm_topk_prob": True}, "deepseek_v2": LATENT, "kimi_k2": LATENT,
}  # fmt: skip


def wide(folder, name):
    """A random model in bf16."""
    config = json.loads((tiny.TINY / name / "config.json").read_text())
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size"), 256)
    config |= {key: value for key, value in sizes.items() if key in config} | WIDE[name] | {"num_hidden_layers": 2}
    for key in FIXED_IN_GPT_OSS if name == "gpt_oss" else ():
        config.pop(key, None)
    config |= {"rope_parameters": GPT_OSS} if name == "gpt_oss" else {}
    return fakes.random_checkpoint(folder, config, "BF16", 0.06)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["bf16", "q8_0", "q4_0", "q4_k"])
@pytest.mark.parametrize("name", WIDE)
def test_llama_cpp_reads_what_quantize_writes(tmp_path, name, format):
    """The file itself: half of the positions within 6 % (llama.cpp rounds activations to bf16 or 8 bits, which may
    choose other experts). With the weights as the gguf package decodes them, in binary32: within 2e-4.

    Of deepseek2 files it does not use beta_fast and beta_slow: it is told them."""
    pytest.importorskip("llama_cpp")
    package = pytest.importorskip("gguf")
    path, told = tmp_path / "model.gguf", ("1",) if name == "kimi_k2" else ()
    report = quantize.run(wide(tmp_path / "model", name), path, format)
    assert not report.kept and not report.notes
    expected, found = llama_cpp(path, tmp_path, *told), refmoe.load(path).forward(IDS)
    error = np.sqrt(((found - expected) ** 2).mean(axis=1) / (expected**2).mean(axis=1))
    assert np.median(error) < 0.06
    reader, header, plain = package.GGUFReader(path), ours.read_header(path), {}
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        plain[tensor.name] = ("F32", shape, package.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape))
    write(tmp_path / "plain.gguf", header.metadata, plain)
    expected = llama_cpp(tmp_path / "plain.gguf", tmp_path, *told)
    assert np.abs(found - expected).max() < 2e-4
    assert np.array_equal(found.argmax(1), expected.argmax(1))
