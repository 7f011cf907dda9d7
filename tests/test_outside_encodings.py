"""Other software's opinion of quantised matrices: compressed-tensors, transformers. Skipped where they are missing.

Their decoders multiply in the type of the scale; the scale is widened to binary32 before they see it, so that they
round where the clauses do and the bits must be equal.
"""

import numpy as np
import pytest

from refmoe import formats
from refmoe.weight import Weight

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
INT, FLOAT = {"type": "int", "dynamic": False}, {"type": "float", "dynamic": False, "symmetric": True}
CASES = {
    "int4 groups": ("pack-quantized", "int_packed", INT | {"num_bits": 4, "strategy": "group", "group_size": 32}),
    "int4 groups, asymmetric": ("pack-quantized", "int_packed", INT | {
        "num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": False}),
    "int8 channel, asymmetric": ("pack-quantized", "int_packed", INT | {
        "num_bits": 8, "strategy": "channel", "symmetric": False}),
    "int3 groups, asymmetric": ("pack-quantized", "int_packed", INT | {
        "num_bits": 3, "strategy": "group", "group_size": 8, "symmetric": False}),
    "int6 channel": ("pack-quantized", "int_packed", INT | {"num_bits": 6, "strategy": "channel"}),
    "w8a8 channel": ("int-quantized", "int8_scaled", INT | {"num_bits": 8, "strategy": "channel"}),
    "w8a8 groups, asymmetric": ("int-quantized", "int8_scaled", INT | {
        "num_bits": 8, "strategy": "group", "group_size": 16, "symmetric": False}),
    "fp8 channel": ("float-quantized", "fp8_scaled", FLOAT | {"num_bits": 8, "strategy": "channel"}),
    "fp8 blocks": ("float-quantized", "fp8_scaled", FLOAT | {
        "num_bits": 8, "strategy": "block", "block_structure": [20, 24]}),
    "mxfp8": ("mxfp8-quantized", "fp8_scaled", FLOAT | {
        "num_bits": 8, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}),
    "mxfp4": ("mxfp4-pack-quantized", "mxfp4_packed", FLOAT | {
        "num_bits": 4, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}),
}  # fmt: skip
ROWS, COLS = 70, 96


def raw(tensor):
    """The bytes of a tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().copy()


def extremes(w, args):
    """Smallest and largest weight of each part with a scale of its own."""
    if args.strategy == "channel":
        return w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    rows, cols = args.block_structure if args.strategy == "block" else (1, args.group_size)
    padded = torch.nn.functional.pad(w, (0, -w.shape[1] % cols, 0, -w.shape[0] % rows))
    parts = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // cols, cols)
    return parts.amin((1, 3)), parts.amax((1, 3))


@pytest.mark.parametrize("name", CASES)
def test_compressed_tensors(name):
    compressors = pytest.importorskip("compressed_tensors.compressors.base")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    from compressed_tensors.quantization.utils import calculate_qparams

    layout, format, settings = CASES[name]
    args = quantization.QuantizationArgs(**settings)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    library = compressors.BaseCompressor.get_value_from_registry(layout)
    w = torch.randn(ROWS, COLS, generator=torch.Generator().manual_seed(len(name)))
    scale, zero = calculate_qparams(*(bound.bfloat16() for bound in extremes(w, args)), args)
    stored = library.compress({"weight": w, "weight_scale": scale, "weight_zero_point": zero}, scheme)
    wide = dict(stored)
    if wide["weight_scale"].is_floating_point():
        wide["weight_scale"] = wide["weight_scale"].float()
    expected = library.decompress(wide, scheme)["weight"].float().numpy()

    params = {"int_packed": {"bits": args.num_bits, "group": args.group_size or 0, "symmetric": int(args.symmetric)},
              "mxfp4_packed": {}}.get(format)  # fmt: skip
    if params is None:
        rows, cols = args.block_structure or (1, args.group_size or 0)
        params = {"block_rows": rows, "block_cols": cols, "symmetric": int(args.symmetric)}
    names = {torch.bfloat16: "BF16", torch.uint8: "U8", torch.float32: "F32"}
    params |= {".weight_scale": names[stored["weight_scale"].dtype], ".weight_shape": "I64"}
    parts = {"." + key: raw(value) for key, value in stored.items() if key != "weight_zero_point" or not args.symmetric}
    weight = Weight(format, ROWS, COLS, parts, params)
    assert formats.check(weight) is None
    assert np.array_equal(formats.decode(weight).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("blocks", [(16, 32), None])
def test_fp8_of_transformers(blocks):
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    codes = torch.randint(0, 127, (64, COLS), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    rows, cols = blocks or (64, COLS)
    scale = torch.rand(64 // rows, COLS // cols, generator=torch.Generator().manual_seed(4))
    expected = fp8._dequantize_fp8_weight(codes.view(torch.float8_e4m3fn), scale, blocks, torch.float32)
    params = {"block_rows": rows, "block_cols": cols, ".weight_scale_inv": "F32"}
    weight = Weight("fp8_block", 64, COLS, {".weight": raw(codes), ".weight_scale_inv": raw(scale)}, params)
    assert np.array_equal(formats.decode(weight), expected.numpy())


def test_mxfp4_of_transformers():
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    generator = torch.Generator().manual_seed(5)
    blocks = torch.randint(0, 256, (3, ROWS, 2, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(100, 140, (3, ROWS, 2), dtype=torch.uint8, generator=generator)
    expected = mxfp4.convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # [3, in, out]
    for expert in range(3):
        parts = {"_blocks": raw(blocks[expert]), "_scales": raw(scales[expert])}
        found = formats.decode(Weight("mxfp4_blocks", ROWS, 64, parts))
        assert np.array_equal(found, expected[expert].T.numpy())


def test_awq_of_compressed_tensors():
    autoawq = pytest.importorskip("compressed_tensors.entrypoints.convert.converters.autoawq")
    rows, cols, group = 48, 64, 16
    generator = torch.Generator().manual_seed(6)

    def words(*shape):
        return torch.randint(-(2**31), 2**31, shape, dtype=torch.int64, generator=generator).to(torch.int32)

    qweight, qzeros = words(cols, rows // 8), words(cols // group, rows // 8)
    scales = torch.rand(cols // group, rows, generator=generator).half()
    q, scale, zero = autoawq.AutoAWQConverter(4, group)._convert_gemm_module(qweight, scales, qzeros)
    spread = (q.int() - zero.int().repeat_interleave(group, 1)).float() * scale.float().repeat_interleave(group, 1)
    parts = {".qweight": raw(qweight), ".qzeros": raw(qzeros), ".scales": raw(scales)}
    weight = Weight("awq", rows, cols, parts, {"group": group, ".scales": "F16"})
    assert np.array_equal(formats.decode(weight), spread.numpy())
