"""The sampler against its clause: an independent oracle, pinned draws, special values, statistics, settings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmoe import sampler
from refmoe.errors import RefmoeError, UsageError
from refmoe.numerics import counter
from tests.oracles import sampler as oracle

NEUTRAL = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
CHOICES = {
    "plain": {"temperature": 1.0},
    "cold": {"temperature": 0.05},
    "hot": {"temperature": 30.0},
    "top_k": {"temperature": 1.0, "top_k": 5},
    "top_p": {"temperature": 0.8, "top_p": 0.7},
    "min_p": {"temperature": 1.3, "min_p": 0.1},
    "penalty": {"temperature": 1.0, "repetition_penalty": 1.3},
    "all": {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.1},
}


def row(seed, vocab=97, scale=4.0):
    return counter.fill_normal(seed, 7, vocab, scale)


def mask(vocab, ids):
    seen = np.zeros(vocab, bool)
    seen[list(ids)] = True
    return seen


@pytest.mark.parametrize("name", CHOICES)
def test_draws_equal_the_oracle(name):
    options = NEUTRAL | CHOICES[name]
    for n in range(12):
        logits, seen = row(n), {n, 3 * n % 97, 50}
        logits[[5, 60]] = logits[20]  # ties
        for position in range(4):
            found = sampler.choose(logits, mask(97, seen), position, sampler.Settings(seed=n << 40, **options))
            assert found == oracle.choose(logits.tolist(), seen, position, seed=n << 40, **options), (n, position)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=1, max_size=40),
    st.floats(2.0**-10, 2.0**10), st.integers(0, 50), st.floats(2.0**-20, 1.0), st.floats(0.0, 1.0),
    st.floats(0.5, 2.0), st.integers(0, 2**64 - 1), st.integers(0, 2**40),
)  # fmt: skip
def test_any_logits_and_options_equal_the_oracle(values, temperature, top_k, top_p, min_p, penalty, seed, position):
    logits = np.array([*values, 0.0], np.float32)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    options["repetition_penalty"] = penalty
    seen = set(range(0, logits.size, 3))
    chosen = sampler.Settings(seed=seed, **options)
    try:
        found = sampler.choose(logits, mask(logits.size, seen), position, chosen)
    except RefmoeError:
        largest = float(np.abs(logits[np.isfinite(logits)]).max())
        assert largest * 2 > float(np.finfo(np.float32).max)  # the penalty overflowed
        return
    assert found == oracle.choose(logits.tolist(), seen, position, seed=seed, **options)


def test_pinned_draws():
    """Golden: the draw of a port with the same clause. Logits are fill_normal(1, 7, 1000, 5)."""
    logits = row(1, 1000, 5.0)
    state = sampler.Sampler(sampler.Settings(temperature=1.0, seed=42), 1000, [0])
    assert [state.next(logits) for _ in range(12)] == [446, 432, 727, 356, 512, 512, 956, 512, 342, 956, 342, 512]
    chosen = sampler.Settings(temperature=0.7, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=2**64 - 1)
    state = sampler.Sampler(chosen, 1000, [0, 1, 2])
    assert [state.next(logits) for _ in range(12)] == [956, 512, 342, 356, 886, 446, 442, 569, 26, 381, 342, 342]


def test_a_draw_depends_on_seed_and_position_only():
    logits, seen = row(3), mask(97, [])
    chosen = sampler.Settings(temperature=2.0, seed=9)
    draws = [sampler.choose(logits, seen, position, chosen) for position in range(30)]
    assert [sampler.choose(logits, seen, position, chosen) for position in reversed(range(30))] == draws[::-1]
    other = sampler.Settings(temperature=2.0, seed=10)
    assert [sampler.choose(logits, seen, position, other) for position in range(30)] != draws


def test_frequencies_follow_the_softmax():
    logits = np.array([2.0, 1.0, 0.0, -1.0, 1.0, -np.inf], np.float32)
    weights = np.exp(np.where(np.isfinite(logits), logits, -1e9) / 1.5)
    chosen, seen = sampler.Settings(temperature=1.5, seed=5), mask(6, [])
    counts = np.bincount([sampler.choose(logits, seen, p, chosen) for p in range(4000)], minlength=6)
    expected = 4000 * weights / weights.sum()
    assert counts[5] == 0
    assert float(((counts[:5] - expected[:5]) ** 2 / expected[:5]).sum()) < 20.0  # chi-square, 4 degrees: p = 5e-4


def test_greedy_takes_the_lowest_of_equal_ids_and_never_nan():
    greedy = sampler.Settings()
    for values, expected in (
        ([1.0, 3.0, 3.0, 2.0], 1),
        ([math.nan, -5.0, math.nan, -5.0], 1),
        ([-0.0, 0.0], 0),
        ([0.0, -0.0], 0),
        ([-math.inf, -3.0], 1),
    ):
        assert sampler.choose(np.array(values, np.float32), mask(len(values), []), 0, greedy) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("values", [[math.nan, math.nan], [-math.inf, -math.inf], [math.inf, 1.0]])
def test_no_finite_maximum_is_an_error(values, temperature):
    with pytest.raises(RefmoeError, match="no finite maximum"):
        sampler.choose(np.array(values, np.float32), mask(2, []), 0, sampler.Settings(temperature=temperature))


def test_sampling_never_takes_nan_or_minus_infinity():
    logits = np.array([math.nan, -math.inf, 0.0, -1.0], np.float32)
    chosen = sampler.Settings(temperature=100.0)
    assert {sampler.choose(logits, mask(4, []), p, chosen) for p in range(200)} == {2, 3}


def test_ties_at_the_cut_keep_the_lower_id():
    logits = np.array([0.0, 1.0, 1.0, 1.0, 0.5], np.float32)
    two = sampler.Settings(temperature=1.0, top_k=2)
    assert {sampler.choose(logits, mask(5, []), p, two) for p in range(100)} == {1, 2}
    narrow = sampler.Settings(temperature=1.0, top_p=1e-6)
    assert {sampler.choose(logits, mask(5, []), p, narrow) for p in range(100)} == {1}
    same = sampler.Settings(temperature=1.0, min_p=1.0)
    assert {sampler.choose(logits, mask(5, []), p, same) for p in range(100)} == {1, 2, 3}


def test_penalty_counts_an_id_once_and_follows_the_sign():
    logits = np.array([3.0, 2.0, -1.0, -1.5], np.float32)
    assert sampler.choose(logits, mask(4, [0]), 0, sampler.Settings(repetition_penalty=1.4)) == 0
    assert sampler.choose(logits, mask(4, [0]), 0, sampler.Settings(repetition_penalty=1.6)) == 1
    negative = np.array([-1.0, -1.5], np.float32)
    assert sampler.choose(negative, mask(2, [0]), 0, sampler.Settings(repetition_penalty=1.6)) == 1
    state = sampler.Sampler(sampler.Settings(repetition_penalty=1.6), 4, [])
    assert [state.next(logits) for _ in range(3)] == [0, 1, 0]
    np.testing.assert_array_equal(logits, np.array([3.0, 2.0, -1.0, -1.5], np.float32))  # the row is not written to


def test_extreme_temperatures():
    logits = np.array([1.0, 1.0 + 2.0**-20, 0.0], np.float32)
    assert sampler.choose(logits, mask(3, []), 0, sampler.Settings(temperature=1e-40, seed=3)) == 1
    assert sampler.choose(logits, mask(3, []), 0, sampler.Settings(temperature=1e-60)) == 1  # rounds to 0: greedy
    hot = sampler.Settings(temperature=3e38)
    assert {sampler.choose(logits, mask(3, []), p, hot) for p in range(50)} == {0, 1, 2}


def test_log_probabilities_equal_the_oracle():
    for n in range(5):
        logits = row(n, 61)
        assert sampler.log_probabilities(logits, [0, 7, 60]) == [oracle.log_probability(logits, i) for i in (0, 7, 60)]
    logits = np.array([math.nan, 0.0, 0.0, -math.inf], np.float32)
    assert sampler.log_probabilities(logits, [1, 2, 3]) == [-0.6931471805599453, -0.6931471805599453, -math.inf]


def test_best_ranks_and_breaks_ties_by_id():
    logits = np.array([1.0, math.nan, 3.0, 1.0, 3.0, -math.inf, 0.0], np.float32)
    assert sampler.best(logits, 3) == [2, 4, 0]
    assert sampler.best(logits, 0) == []
    assert sampler.best(logits, 99) == [2, 4, 0, 3, 6]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("temperature", math.nan), ("temperature", math.inf), ("temperature", 1e39),
     ("temperature", True), ("temperature", "1"), ("top_p", 0.0), ("top_p", 2.0), ("top_p", math.nan), ("top_k", -1),
     ("top_k", 1.0), ("top_k", 2**40), ("min_p", -0.1), ("min_p", 1.1), ("repetition_penalty", 0.0),
     ("repetition_penalty", -1.0), ("repetition_penalty", math.inf), ("seed", -1), ("seed", 2**70), ("seed", 1.5)],
)  # fmt: skip
def test_settings_out_of_range(name, value):
    with pytest.raises(UsageError, match=f"^{name}: expected .* found "):
        sampler.Settings(**{name: value})
