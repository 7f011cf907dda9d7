"""Philox4x32-10: published known answers, the layout of the stream in plain integers, and the shape of its values."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest

from refmoe import jit
from refmoe.errors import UsageError
from refmoe.numerics import codecs, counter

# counter, key, answer: kat_vectors of Random123
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def philox(key, x):
    """The generator in Python integers."""
    x, key = list(x), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(q >> 32) ^ x[1] ^ key[0], q % 2**32, (p >> 32) ^ x[3] ^ key[1], p % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return x


def block(seed, stream, position):
    return philox((seed % 2**32, seed >> 32), (position % 2**32, position >> 32, stream, 0))


def centred(a, b):
    return (a >> 16) + (a & 0xFFFF) + (b >> 16) + (b & 0xFFFF) - 131070


@pytest.mark.parametrize(("start", "key", "answer"), KNOWN)
def test_known_answers(start, key, answer):
    arguments = [np.uint64(v) for v in words(key) + words(start)]
    assert [int(v) for v in counter.philox(*arguments)] == words(answer) == philox(words(key), words(start))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize(("position", "stream"), [(0, 0), (1, 0), (0, 1), (2**32, 7), (2**40 + 5, 2**32 - 1)])
def test_uniform_is_the_first_word_of_the_block(seed, position, stream):
    got = counter.uniform32(seed, position, stream)
    assert type(got) is np.float32
    assert Fraction(float(got)) == Fraction(block(seed, stream, position)[0] >> 8, 2**24)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 103])
def test_fills_use_the_words_in_order(count):
    seed, stream = 0x0123456789ABCDEF, 0xFEDCBA98
    step = np.float32(np.float32(0.02) * np.float32(1 / math.sqrt((2**32 - 1) / 3)))
    uniform = [Fraction(block(seed, stream, i // 4)[i % 4] >> 8, 2**23) - 1 for i in range(count)]
    pairs = [block(seed, stream, i // 2)[2 * (i % 2) :][:2] for i in range(count)]
    normal = np.array([np.float32(np.float32(centred(*pair)) * step) for pair in pairs], np.float32)
    assert [Fraction(float(v)) for v in counter.fill_uniform(seed, stream, count)] == uniform
    assert np.array_equal(counter.fill_normal(seed, stream, count, 0.02), normal)
    assert np.array_equal(counter.fill_bf16(seed, stream, count, 0.02), codecs.f32_to_bf16(normal))


def test_pinned_values():
    """A change here changes every golden file and every seeded text."""
    assert counter.UNIT.view(np.uint32) == 0x37DDB3D7
    assert counter.fill_normal(1, 2, 4).view(np.uint32).tolist() == [0x3ED970A6, 0xBF8C2AE5, 0x3FE198A3, 0xC011F890]
    assert counter.fill_bf16(1, 2, 5, 0.02).tolist() == [0x3C0B, 0xBCB3, 0x3D10, 0xBD3B, 0xBC6E]
    assert [int(counter.uniform32(1, p, 0) * 2**24) for p in range(3)] == [14936070, 11274260, 4150707]
    assert counter.stream_of("x") == 1108767021


def test_moments():
    count = 1_000_000 if jit.ENABLED else 10_000
    error = 5 / math.sqrt(count)
    normal, uniform = counter.fill_normal(3, 1, count), counter.fill_uniform(3, 2, count)
    assert abs(normal.mean(dtype=np.float64)) < error
    assert abs(normal.std(dtype=np.float64) - 1) < error
    assert np.abs(normal).max() < 3.47
    assert abs(uniform.mean(dtype=np.float64)) < error
    assert -1 <= uniform.min() < -0.99 and 0.99 < uniform.max() < 1
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < error


def test_seeds_and_streams_are_independent():
    first = counter.fill_uniform(1, 1, 400)
    for seed, stream in ((1, 2), (2, 1), (1 + 2**32, 1)):
        assert np.count_nonzero(first == counter.fill_uniform(seed, stream, 400)) < 3


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed):
    for draw in (lambda: counter.uniform32(seed, 0, 0), lambda: counter.fill_uniform(seed, 0, 4)):
        with pytest.raises(UsageError, match="seed: expected 0 <= seed < 2\\^64"):
            draw()


def test_stream_of_a_name():
    name = "model.layers.0.mlp.gate.weight"
    assert counter.stream_of(name) == int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


@pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: there is only the Python side")
def test_compiled_equals_python():
    rng = np.random.default_rng(5)
    for _ in range(200):
        arguments = [np.uint64(v) for v in rng.integers(0, 1 << 32, 6)]
        assert [int(v) for v in counter.philox(*arguments)] == [int(v) for v in counter.philox.py_func(*arguments)]
