"""Quantised checkpoints as plain ones, for dump_oracle: the independent oracles of tests/oracles decode every matrix.

Nothing of refmoe is imported: names, config and layouts are read here once more. Only what golden/tiny holds is known.
"""

import importlib
import json
import struct
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.uint32}  # all others: bytes
SUFFIXES = {
    "fp8_block": ("weight", "weight_scale_inv"), "int8_scaled": ("weight", "weight_scale"),
    "int_packed": ("weight_packed", "weight_scale", "weight_shape"), "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"), "mxfp4_blocks": ("_blocks", "_scales"),
}  # fmt: skip


def settings(config):
    """(format, its settings) of a quantization_config."""
    q = config["quantization_config"]
    if q["quant_method"] == "fp8":
        rows, cols = q["weight_block_size"]
        return "fp8_block", {"block_rows": rows, "block_cols": cols, ".weight_scale_inv": "BF16"}
    if q["quant_method"] == "gptq":
        return "gptq", {"bits": q["bits"], "group": q["group_size"], "symmetric": q["sym"], ".scales": "F16",
                        "zero_offset": int(q["checkpoint_format"] == "gptq")}  # fmt: skip
    if q["quant_method"] == "awq":
        return "awq", {"group": q["group_size"], ".scales": "F16"}
    if q["quant_method"] == "mxfp4":
        return "mxfp4_blocks", {}
    weights = q["config_groups"]["group_0"]["weights"]
    if q["format"] == "int-quantized":
        return "int8_scaled", {"block_rows": 1, "block_cols": 0, "symmetric": True, ".weight_scale": "F32"}
    return "int_packed", {"bits": weights["num_bits"], "group": weights["group_size"], "symmetric": True,
                          ".weight_scale": "BF16"}  # fmt: skip


def _size(format, parts):
    """Rows and columns of a matrix from the shapes of its parts."""
    first = next(iter(parts.values()))
    if format == "int_packed":
        return [int(n) for n in parts["weight_shape"]]
    if format == "gptq":
        return first.shape[1], len(parts["g_idx"])
    if format == "awq":
        return parts["scales"].shape[1], first.shape[0]
    return (first.shape[0], 32 * first.shape[1]) if format == "mxfp4_blocks" else first.shape


def read(path):
    """{name: (dtype, array)} of a safetensors file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    found = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            kind = NUMPY.get(entry["dtype"], np.uint8)
            found[name] = entry["dtype"], np.frombuffer(raw[begin:end], kind).reshape(entry["shape"])
    return found


def write(path, tensors):
    """{name: (dtype, array)} as a safetensors file."""
    header, at = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(array).tobytes() for _, array in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def dequantised(folder, target):
    """Write the model of `folder` into `target`, every quantised matrix as F32; stacks of experts as [E, in, out]."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    format, params = settings(config)
    oracle = importlib.import_module(f"tests.oracles.{format}")
    dot = "" if format == "mxfp4_blocks" else "."
    tensors = read(folder / "model.safetensors")
    stems = [name.removesuffix(dot + SUFFIXES[format][0]) for name in tensors if name.endswith(SUFFIXES[format][0])]
    for stem in stems:
        if stem + dot + SUFFIXES[format][1] not in tensors:
            continue  # plain
        parts = {suffix: tensors.pop(stem + dot + suffix)[1] for suffix in SUFFIXES[format]}
        if format != "mxfp4_blocks":
            tensors[stem + ".weight"] = "F32", oracle.bits(*_size(format, parts), params, **parts)
            continue
        experts = [{suffix: array[e] for suffix, array in parts.items()} for e in range(len(parts["_blocks"]))]
        tensors[stem] = "F32", np.stack([oracle.bits(*_size(format, one), params, **one).T for one in experts])
    del config["quantization_config"]
    target.mkdir(parents=True)
    write(target / "model.safetensors", tensors)
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    return target
