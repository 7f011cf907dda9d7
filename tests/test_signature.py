"""signature: the grammar of op signatures, solving of axes, and that every op of the package has one."""

import pytest

from refmoe import signature
from refmoe.errors import ProgramError
from refmoe.signature import Param, match, parse


def one(text):
    return parse(f"x - y.\n\nSignature   {text}\nSemantics   z", "here")[0]


@pytest.mark.parametrize("path", sorted(signature.OPS.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_op_has_a_signature(path):
    for alternative in signature.load(path.stem):
        assert alternative.params and alternative.results


def test_parse():
    found = one("x f32[T,N*D], w matrix[E][F,I], y f32[...], k i64 -> a f32[T,k], b i64[D/2]")
    assert found.params == (
        Param("x", "f32", ("T", "N*D")),
        Param("w", "matrix", ("E", "F", "I"), True),
        Param("y", "f32", ("...",)),
        Param("k", "i64", None),
    )
    assert found.results == (Param("a", "f32", ("T", "k")), Param("b", "i64", ("D/2",)))


def test_wrapped_lines_and_alternatives():
    text = "Signature   a f32[T],\n            b f32[T] -> y f32[T]\n          | a f32[T] -> y f32[T]\nOrder  c -> d"
    assert [len(found.params) for found in parse(text, "here")] == [2, 1]


@pytest.mark.parametrize(
    "text", ["x f32[T]", "x f64[T] -> y f32[T]", "x -> y f32", "f32[T] -> y f32[T]", "x f32[T+1] -> y f32[T]"]
)
def test_malformed(text):
    with pytest.raises(ProgramError, match="here: Signature: expected"):
        one(text)


def test_missing():
    with pytest.raises(ProgramError, match="expected a Signature line"):
        parse("no clause", "here")
    for name in ("no_such_op", "../errors", ""):
        with pytest.raises(ProgramError, match="expected a file"):
            signature.load(name)


def test_solving():
    rope = one("x f32[T,N*D], f f32[D/2] -> y f32[T,N*D], z f32[N]")
    assert match(rope, {"x": ("f32", (7, 48)), "f": ("f32", (4,))}, {}) == [("f32", (7, 48)), ("f32", (6,))]
    assert "a multiple of 10" in match(rope, {"x": ("f32", (7, 48)), "f": ("f32", (5,))}, {})
    norm = one("x f32[T,N*D] -> y f32[T,N*D]")
    assert match(norm, {"x": ("f32", (7, 48))}, {}) == [("f32", (7, 48))]
    assert "does not follow" in match(one("x f32[T,N*D] -> y f32[N]"), {"x": ("f32", (7, 48))}, {})


def test_scalars_that_state_an_axis():
    route = one("x f32[T,E], k i64 -> ids i64[T,k]")
    assert match(route, {"x": ("f32", (7, 9))}, {"k": 3}) == [("i64", (7, 3))]
    assert "expected an attribute" in match(route, {"x": ("f32", (7, 9))}, {})


def test_any_shape_is_the_same_everywhere():
    gate = one("a f32[...], b f32[...] -> y f32[...]")
    assert match(gate, {"a": ("f32", (1, 2, 3)), "b": ("f32", (1, 2, 3))}, {}) == [("f32", (1, 2, 3))]
    assert "elsewhere" in match(gate, {"a": ("f32", (1, 2, 3)), "b": ("f32", (1, 6))}, {})


def test_types_and_counts():
    add = one("a f32[T], b i64[T] -> y f32[T]")
    assert "expected i64, found f32" in match(add, {"a": ("f32", (3,)), "b": ("f32", (3,))}, {})
    assert "expected an input" in match(add, {"a": ("f32", (3,))}, {})
    assert "expected 1 axes" in match(add, {"a": ("f32", (3, 1)), "b": ("i64", (3,))}, {})
    assert "axis T: expected 3" in match(add, {"a": ("f32", (3,)), "b": ("i64", (4,))}, {})
