"""What every op test does with its golden vectors, and helpers to compare the fast schedule with the plain kernel."""

import dataclasses

import numpy as np
import pytest

from refmoe import formats, golden, jit, ops
from refmoe.numerics import counter

PARTS = (1, 2, 3, 5)
needs_jit = pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: there is no fast schedule")


def share_everything(monkeypatch):
    """No launch is too small to be shared: `parts` above 1 always takes the parallel kernels."""
    if jit.ENABLED:
        for name in ("absorb", "attention", "elementwise", "latent", "matmul"):
            monkeypatch.setattr(f"refmoe.kernels.{name}.SMALL", 0)


def normal(name, *shape, scale=1.0):
    """A bell-shaped test input."""
    return counter.fill_normal(11, counter.stream_of(name), int(np.prod(shape)), scale).reshape(shape)


def of(op):
    """Parametrisation over the golden vectors of an op."""
    loaded = [golden.load(path) for path in golden.cases(op=op)]
    return pytest.mark.parametrize("case", loaded, ids=[case.name for case in loaded])


def assert_same(found, expected, what=""):
    """Equal bits, or a message with the first place that differs."""
    if golden.same(found, expected):
        return
    assert found.dtype == expected.dtype and found.shape == expected.shape, f"{what}: {found.dtype}{found.shape}"
    both_nan = (found != found) & (expected != expected)
    differs = np.argwhere((found.view(f"u{found.itemsize}") != expected.view(f"u{found.itemsize}")) & ~both_nan)
    at = tuple(int(i) for i in differs[0])
    raise AssertionError(f"{what}: {len(differs)} of {found.size} differ, first at {at}: "
                         f"{found[at]!r}, expected {expected[at]!r}")


def check(case, oracle, kills):
    """The whole life of a vector: kernels and oracle have its bits, the bound holds, rows are alone, mutants die."""
    quiet = np.errstate(all="ignore")
    with quiet:
        for name, result in golden.run(case).items():
            assert_same(result, case.tensors[name], f"plain {name}")
        for parts in PARTS[:3]:
            for name, result in golden.run(case, "fast", parts).items():
                assert_same(result, case.tensors[name], f"fast {name}, {parts} parts")
        for name, result in oracle.bits(**case.inputs, **case.attrs).items():
            assert_same(result, case.tensors[name], f"oracle {name}")
        check_bound(case, oracle)
        check_rows(case)
        for key in (*case.bugs, *kills.get(case.name, ())):
            mutants = oracle.MUTANTS[key]
            for mutant in mutants if isinstance(mutants, tuple) else (mutants,):
                check_killed(case, oracle, key, mutant)


def check_bound(case, oracle):
    """Expected results lie within the derived bound of the binary64 reference, where that is finite."""
    for name, (value, bound) in _reference(case, oracle).items():
        sure = np.isfinite(value) & np.isfinite(bound) & np.isfinite(case.tensors[name])
        error = np.abs(case.tensors[name].astype(float) - value)
        assert (error <= bound)[sure].all(), f"{name}: error {(error / bound)[sure].max()} of the bound"


def _reference(case, oracle):
    return oracle.reference(**case.inputs, **case.attrs) if hasattr(oracle, "reference") else {}


def check_rows(case):
    """A row alone gives the bits it has among others."""
    axes = {param.name: param.axes for param in golden.alternative(case).params if param.axes}
    batched = [name for name in case.inputs if axes[name][0] == "T"]
    if not batched:
        return
    rows = len(case.tensors[batched[0]])
    for t in range(rows) if jit.ENABLED else (0, rows - 1):
        one = {name: array[t:t + 1] for name, array in case.inputs.items() if name in batched}
        kept = [name for name in case.inputs if axes[name][0] == "S"]  # the cache of a sequence
        one |= {name: case.tensors[name][:case.tensors["positions"][t] + 1] for name in kept}
        alone = dataclasses.replace(case, tensors=case.tensors | one)
        for path in ("plain", "fast"):
            for name, result in golden.run(alone, path).items():
                assert_same(result, case.tensors[name][t:t + 1], f"{path} {name}, row {t} alone")


def check_killed(case, oracle, key, mutant):
    """The mutant's result differs by more than two correct implementations could."""
    bounds = _reference(case, oracle)
    for name, result in mutant(**case.inputs, **case.attrs).items():
        expected = case.tensors[name]
        if result.shape != expected.shape or not np.array_equal(result != result, expected != expected):
            return
        if expected.dtype == np.int64 or name not in bounds or key in getattr(oracle, "ORDER", ()):
            if not golden.same(result.astype(expected.dtype), expected):
                return
        else:
            bound = np.nan_to_num(bounds[name][1], nan=0.0, posinf=1e300)
            apart = np.nan_to_num(np.abs(result.astype(float) - expected.astype(float)))
            if (apart > 2 * bound).any():
                return
    raise AssertionError(f"{case.op} {case.name}: the mutant {key} survives")


def check_all_hunted(op, oracle, kills):
    """Every mutant of the oracle is killed by some vector, and every named case exists."""
    loaded = [golden.load(path) for path in golden.cases(op=op)]
    assert set(kills) <= {case.name for case in loaded}
    hunted = {key for case in loaded for key in (*case.bugs, *kills.get(case.name, ()))}
    assert hunted == set(oracle.MUTANTS)


def check_clause(name, format=False):
    """The Golden line of the clause of an op or a format names the vectors that exist."""
    module, paths = (formats.get(name), golden.cases(format=name)) if format else (ops.get(name), golden.cases(op=name))
    text = module.__doc__.partition("\nGolden")[2].partition("\nOrigin")[0]
    family, _, named = text.partition(":")
    assert family.strip() == (f"formats/{name}" if format else name)
    assert sorted(case.strip() for case in named.split(",")) == [path.stem for path in paths]
