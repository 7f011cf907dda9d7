"""What verifiers of others got wrong (catalogue V), and what is no bug (catalogue OK)."""

import dataclasses

import numpy as np
import pytest

from refmoe import golden, ops, verifier
from refmoe.numerics import counter, rope_tables


def case_of(op, name):
    return golden.load(golden.root() / "ops" / op / f"{name}.safetensors")


def judged(case, found, profile="f32-any-order"):
    return verifier.judge(case.op, case.inputs, case.attrs, found, case.expected, profile, case.name)


def normal(name, *shape, scale=1.0):
    return counter.fill_normal(21, counter.stream_of(name), int(np.prod(shape)), scale).reshape(shape)


def test_v01_every_element_counts():
    case = case_of("linear", "many_rows")
    rng = np.random.default_rng(0)
    for flat in rng.choice(case.expected["y"].size, 20, replace=False):
        y = case.expected["y"].copy()
        y.reshape(-1)[flat] += np.float32(0.01)
        assert judged(case, {"y": y}).outputs[0].wrong == 1


def test_v02_v03_other_experts_with_the_same_weights_are_wrong():
    case = case_of("route_softmax_topk_renorm", "experts_64_choose_8")
    ids = case.expected["ids"].copy()
    ids[:, -1] = [next(e for e in range(64) if e not in row) for row in ids]
    verdict = judged(case, {"ids": ids, "weights": case.expected["weights"]})
    assert verdict.status == "WRONG" and "is better by" in verdict.outputs[0].reason
    assert judged(case, {"weights": case.expected["weights"]}).status == "MISSING"


@pytest.mark.parametrize(("op", "keys"), [
    ("attention", {"window": lambda case: case.attrs["window"] < len(case.inputs["k"])}),
    ("route_sigmoid_groups", {"groups": lambda case: case.attrs["groups"] > 1,
                              "factor": lambda case: case.attrs["factor"] != 1,
                              "bias": lambda case: np.ptp(case.inputs["bias"]) > 0.1}),
    ("attention_sinks", {"sinks": lambda case: (case.inputs["sinks"] > -5).any()}),
    ("rms_norm", {"eps": lambda case: (case.inputs["x"].astype(float)**2).mean(axis=1).min() < case.attrs["eps"]}),
    ("swiglu_clamped", {"limit": lambda case: (abs(case.inputs["x"]) > case.attrs["limit"]).any()}),
])  # fmt: skip
def test_v07_v08_features_are_on_and_matter(op, keys):
    cases = [golden.load(path) for path in golden.cases(op=op)]
    for key, on in keys.items():
        assert sum(bool(on(case)) for case in cases) >= 1, key


def test_v10_ties_are_ruled():
    case = case_of("route_softmax_topk", "tie_at_cut")
    ids = case.expected["ids"].copy()
    ids[0] = [1, 3]  # experts 2 and 3 are equal: the lower one is chosen
    verdict = judged(case, {"ids": ids, "weights": case.expected["weights"]})
    assert verdict.status == "WRONG" and verdict.diagnosis[0].id == "R15"
    assert judged(case, {"ids": ids, "weights": case.expected["weights"]}, "bf16").status == "WRONG"


def test_v13_many_rows_and_one():
    rows = {len(golden.load(path).inputs["x"]) for path in golden.cases(op="linear")}
    assert 1 in rows and max(rows) > 32


def test_ok1_softmax_before_or_after_the_choice():
    case = case_of("route_softmax_topk_renorm", "experts_128_choose_8")
    chosen = np.take_along_axis(case.inputs["logits"], case.expected["ids"], 1)
    e = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    assert judged(case, {"ids": case.expected["ids"], "weights": weights}).status == "WITHIN"


def test_ok2_rows_permuted_together():
    """Queries and keys in another order of the head's elements: the scores are the same sums."""
    case = case_of("attention", "grouped_heads")
    size = case.inputs["q"].shape[1] // case.attrs["heads"]
    order = np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)])

    def moved(x):
        return np.ascontiguousarray(x.reshape(len(x), -1, size)[..., order].reshape(x.shape))

    y = ops.get("attention").plain(**case.inputs | {"q": moved(case.inputs["q"]), "k": moved(case.inputs["k"])},
                                   **case.attrs)  # fmt: skip
    assert judged(case, {"y": y}).status in ("WITHIN", "EXACT")


def test_ok3_latent_attention_absorbed_or_expanded():
    """The expanded form, in binary64, lies within what binary32 may make of the absorbed form."""
    heads, p, u, r, rope, rows = 3, 8, 6, 12, 4, 5
    w, x = normal("w", heads * (p + u), r, scale=0.3), normal("x", rows, heads * p)
    q_rope, latent, k_rope = (normal(n, rows, c) for n, c in (("q", heads * rope), ("c", r), ("k", rope)))
    at, scale = np.arange(rows), 0.3
    absorbed = ops.get("absorb_query").plain(x, w, heads)
    attended = ops.get("latent_attention").plain(absorbed, q_rope, latent, k_rope, at, scale, heads)
    found = ops.get("expand_value").plain(attended, w, u, heads)
    wide = w.reshape(heads, p + u, r).astype(float)
    keys, values = (np.einsum("hpr,sr->shp", part, latent) for part in (wide[:, :p], wide[:, p:]))
    s = np.einsum("thp,shp->hts", x.reshape(rows, heads, p), keys)
    s = (s + np.einsum("thq,sq->hts", q_rope.reshape(rows, heads, rope), k_rope)) * scale
    s = np.where(at[None, :, None] >= at, s, -np.inf)
    weight = np.exp(s - s.max(axis=2, keepdims=True))
    expanded = np.einsum("hts,shu->thu", weight / weight.sum(axis=2, keepdims=True), values).reshape(rows, -1)
    assert np.abs(found - expanded).max() < 1e-5


def test_ok4_the_order_of_the_chosen_is_free():
    case = case_of("route_sigmoid_groups_renorm", "experts_256_groups_8_choose_8")
    order = np.random.default_rng(0).permutation(case.attrs["k"])
    verdict = judged(case, {name: array[:, order] for name, array in case.expected.items()})
    assert verdict.status == "WITHIN" and not verdict.excused
    assert verdict.outputs[0].reordered == len(case.expected["ids"])
    assert judged(case, {"ids": case.expected["ids"], "weights": case.expected["weights"][:, order]}).status == "WRONG"


def test_ok5_shifted_positions_show_at_rope_only():
    size, rows = 16, 6
    x, inv_freq = normal("x5", rows, size), rope_tables.default(size, 10000.0)
    inputs = {"x": x, "positions": np.arange(rows), "inv_freq": inv_freq}
    shifted = ops.get("rope_half").plain(x, np.arange(rows) + 1, inv_freq, 1.0)
    verdict = verifier.judge("rope_half", inputs, {"amplitude": 1.0}, {"y": shifted})
    assert verdict.status == "WRONG" and verdict.diagnosis[0].id == "positions_moved"
    k, v = normal("k5", rows, size), normal("v5", rows, size)

    def attended(start):
        at = np.arange(rows) + start
        turn = [ops.get("rope_half").plain(y, at, inv_freq, 1.0) for y in (x, k)]
        return turn, ops.get("attention").plain(*turn, v, np.arange(rows), 0.25, 1 << 30, 1, 1)

    (q0, k0), _ = attended(0)
    _, y1 = attended(1)
    case = {"q": q0, "k": k0, "v": v, "positions": np.arange(rows)}
    attrs = {"scale": 0.25, "window": 1 << 30, "heads": 1, "kv_heads": 1}
    assert np.abs(y1 - ops.get("attention").plain(**case, **attrs)).max() < 1e-5


def test_ok6_gate_and_up_in_one_matrix():
    case = case_of("linear", "many_rows")
    both = ops.get("linear").plain(case.inputs["x"], np.concatenate([case.inputs["w"], case.inputs["w"]]))
    assert judged(case, {"y": both[:, : len(case.inputs["w"])]}).status == "EXACT"


def test_excused_ids_are_counted_and_wrong_ones_are_not_excused():
    """Two logits apart by less than their rounding: either may be chosen; apart by more: not."""
    logits = np.zeros((1, 4), np.float32)
    for gap, status in ((2.0**-25, "WITHIN"), (2.0**-10, "WRONG")):
        logits[0] = [1.0, 0.5, 0.5 - gap, -1.0]
        probs = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
        found = {"ids": np.array([[0, 2]]), "weights": probs[:, [0, 2]].astype(np.float32)}
        expected = {"ids": np.array([[0, 1]]), "weights": probs[:, [0, 1]].astype(np.float32)}
        verdict = verifier.judge("route_softmax_topk", {"logits": logits}, {"k": 2}, found, expected)
        assert verdict.status == status and verdict.excused == (status == "WITHIN"), gap


def test_equal_rows_with_other_bits_are_noted():
    case = case_of("expert_linear", "permuted_tokens")
    y = case.expected["y"].copy()
    y[5] = np.nextafter(y[5], np.float32(9))  # the same token and experts as row 0
    verdict = judged(case, {"y": y})
    assert verdict.status == "WITHIN" and "equal inputs, other results" in verdict.notes[0]
    strict = dataclasses.replace(verifier.profile("f32-any-order"), batch_invariant=True)
    verdict = judged(case, {"y": y}, strict)
    assert verdict.status == "WRONG" and verdict.diagnosis[0].id == "N05"
    assert not judged(case, case.expected, strict).notes
