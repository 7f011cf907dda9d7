"""vec: every vector and tile operation against NumPy, bounds of partial loads and stores included."""

import numpy as np
import pytest

from refmoe import jit

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no vectors", allow_module_level=True)

from refmoe.jit import kernel
from refmoe.numerics import vec
from tests import vectors
from tests.oracles import arithmetic

ELEMENTS = {"f32": (vec.F32, np.uint32), "bf16": (vec.BF16, np.uint16), "f16": (vec.F16, np.uint16)}
WIDEN = {
    "f32": lambda codes: codes.view(np.float32),
    "bf16": lambda codes: (codes.astype(np.uint32) << 16).view(np.float32),
    "f16": lambda codes: codes.view(np.float16).astype(np.float32),
}


@kernel
def load_all(tag, source, count, whole, partial):
    vec.store16(vec.address(whole), vec.load16(tag, vec.address(source)))
    vec.store16(vec.address(partial), vec.load_partial(tag, vec.address(source), count))


@kernel
def store_first(x, count, y):
    vec.store_partial(vec.address(y), vec.load16(vec.F32, vec.address(x)), count)


@kernel
def arithmetic_of(x, y, z, out):
    a, b = vec.load16(vec.F32, vec.address(x)), vec.load16(vec.F32, vec.address(y))
    c = vec.load16(vec.F32, vec.address(z))
    base = vec.address(out)
    vec.store16(base, vec.vadd(a, b))
    vec.store16(base + 64, vec.vsub(a, b))
    vec.store16(base + 128, vec.vmul(a, b))
    vec.store16(base + 192, vec.vdiv(a, b))
    vec.store16(base + 256, vec.vmax(a, b))
    vec.store16(base + 320, vec.vmin(a, b))
    vec.store16(base + 384, vec.vfma(a, b, c))
    vec.store16(base + 448, vec.narrow(vec.widen(a)))
    vec.store16(base + 512, vec.splat(vec.lane(a, 5)))
    vec.store16(base + 576, vec.splat(vec.tree(a)))
    vec.prefetch(base)


@kernel
def tiles_of(tag, a, b, out, count):
    where, left, right = vec.address(out), vec.address(a), vec.address(b)
    step = 16 * tag.itemsize
    t = vec.tile_fma(vec.tile_zero(2, 3), tag, left, step, right, 64)
    vec.tile_store(where, t)
    t = vec.tile_load(t, where)
    vec.tile_store(where + 384, vec.tile_fma_partial(t, tag, left, step, right, 64, count))
    vec.tile_store(where + 768, vec.tile_scale_add(vec.tile_zero(2, 3), tag, right, left))
    vec.tile_store(where + 1152, vec.tile_add(t, t))
    vec.store16(where + 1536, vec.tile_trees(t))


@kernel
def scaled(x, shifted, y):
    """x * 2**n of one value, through sixteen equal lanes."""
    y[0] = np.float64(vec.lane(vec.scale_exponent(vec.splat(x), vec.splat(shifted)), 0))


@pytest.mark.parametrize("name", ELEMENTS)
def test_loads_widen_exactly_and_read_nothing_more(name):
    """All kinds of codes; lanes beyond the count are +0 though the memory behind them holds nan."""
    tag, dtype = ELEMENTS[name]
    codes = np.random.default_rng(1).integers(0, 1 << 16, (60, 16)).astype(dtype)
    codes[0, :] = np.arange(16)
    if name == "f32":
        codes = codes << np.uint32(16) | np.uint32(0x1234)
    whole, partial = np.empty(16, np.float32), np.empty(16, np.float32)
    for row in codes:
        for count in range(17):
            load_all(tag, row.view(tag.dtype) if name != "f32" else row.view(np.float32), count, whole, partial)
            wide = WIDEN[name](row)
            vectors.assert_same(whole, wide)
            vectors.assert_same(partial, np.where(np.arange(16) < count, wide, np.float32(0)))


@pytest.mark.parametrize("count", range(17))
def test_partial_stores_write_nothing_more(count):
    x, y = vectors.normal("store", 16), np.full(20, 7, np.float32)
    store_first(x, count, y)
    assert y[count:].tolist() == [7.0] * (20 - count)
    vectors.assert_same(y[:count], x[:count])


def test_arithmetic():
    rng = np.random.default_rng(2)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, 1.0], np.float32)
    for _ in range(50):
        x, y, z = (np.where(rng.random(16) < 0.3, rng.choice(special, 16), rng.normal(size=16)).astype(np.float32)
                   for _ in range(3))
        out = np.empty((10, 16), np.float32)
        arithmetic_of(x, y, z, out)
        with np.errstate(all="ignore"):
            fused = [arithmetic.fma(float(a), float(b), float(c)) for a, b, c in zip(x, y, z, strict=True)]
            wanted = [x + y, x - y, x * y, x / y, np.where(x > y, x, y), np.where(x < y, x, y), fused, x, [x[5]] * 16,
                      [arithmetic.tree([float(v) for v in x])] * 16]
        for found, want in zip(out, wanted, strict=True):
            vectors.assert_same(found, np.array(want, np.float32))


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("count", [1, 11])
def test_tiles(name, count):
    """Two rows of stored elements against three of f32."""
    tag, _ = ELEMENTS[name]
    values = vectors.normal("tile a", 3, 16)
    codes = {"f32": values, "f16": values.astype(np.float16).view(np.int16),
             "bf16": (values.view(np.uint32) >> 16).astype(np.uint16)}[name]
    unsigned = codes.view(np.uint32 if name == "f32" else np.uint16)
    a, b = WIDEN[name](unsigned), vectors.normal("tile b", 3, 16)
    out = np.empty((25, 16), np.float32)
    tiles_of(tag, np.ascontiguousarray(codes), b, out, count)

    def fused(x, y, z):
        rows = zip(x, y, z, strict=True)
        return np.array([arithmetic.fma(float(p), float(q), float(r)) for p, q, r in rows], np.float32)

    first = [fused(a[r], b[c], np.zeros(16)) for r in range(2) for c in range(3)]
    keep = np.arange(16) < count
    second = [fused(np.where(keep, a[i // 3], 0), np.where(keep, b[i % 3], 0), first[i]) for i in range(6)]
    scaled_rows = [fused(np.full(16, b[0, r]), a[c], np.zeros(16)) for r in range(2) for c in range(3)]
    trees = [arithmetic.tree([float(v) for v in vector]) for vector in first] + [0.0] * 10
    wanted = [*first, *second, *scaled_rows, *[v + v for v in first], trees]
    for i, want in enumerate(wanted):
        vectors.assert_same(out[i], np.array(want, np.float32), f"vector {i}")


def test_scale_exponent():
    y = np.empty(1)
    for n in (-150, -1, 0, 1, 128):
        scaled(1.25, n + 1.5 * 2.0**52, y)
        assert y[0] == 1.25 * 2.0**n


def test_address_needs_contiguous_memory():
    @kernel
    def where(x):
        return vec.address(x)

    x = np.zeros((4, 4), np.float32)
    assert where(x) == x.ctypes.data
    with pytest.raises(Exception, match="C-contiguous"):
        where(x[:, ::2])
