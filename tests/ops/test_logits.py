"""logits: vectors; the head is the product of linear."""

from refmoe import ops
from tests import vectors
from tests.oracles import logits as oracle

KILLS = {
    "near_tie": ("rounded_to_bf16",),
    "tied_head": ("capped",),
}


@vectors.of("logits")
def test_vector(case):
    vectors.check(case, oracle, KILLS)


def test_coverage():
    vectors.check_all_hunted("logits", oracle, KILLS)
    vectors.check_clause("logits")


def test_equals_linear():
    x, w = vectors.normal("logits x", 3, 37), vectors.normal("logits w", 70, 37)
    plain = ops.get("linear").plain(x, w)
    vectors.assert_same(ops.get("logits").plain(x, w), plain)
    for parts in vectors.PARTS:
        vectors.assert_same(ops.get("logits").bind((ops.wrap(w),), {}, parts)(x), plain)
