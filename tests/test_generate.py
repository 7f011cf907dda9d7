"""Generation around a model whose logits are a table: stop rules, streaming text, digest, arguments."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

import refmoe
from refmoe import jit, text
from refmoe.errors import RefmoeError, TokenizerError, UsageError
from refmoe.generate import Options, StopStrings, peak_memory
from tests import fakes

TOKENIZER = text.Tokenizer(Library.from_str(json.dumps(fakes.byte_level())), text.Path("memory"))
SENTENCE = "the cat sat."


def spell(message, **options):
    """A model that writes `message` after "!", then goes on with id 0."""
    path = list(b"!" + message.encode())
    assert len(set(path)) == len(path)
    return fakes.model(fakes.chain(258, path), TOKENIZER, **options)


def test_greedy_path_text_and_length():
    model = spell("world, 12")
    generation = model.generate(list(b"!"), max_tokens=9)
    steps = list(generation)
    assert [step.id for step in steps] == generation.ids == list(b"world, 12")
    assert "".join(step.text for step in steps) == generation.text == "world, 12"
    assert generation.finish_reason == "length" and generation.prompt_ids == [33]
    assert model.engine.batches == [[[33]], *([[i]] for i in b"world, 1")]  # the last token is not run


def test_any_end_id_ends_and_has_no_text():
    table = fakes.chain(258, [33, 97, 98, 257, 99])
    for eos in ((257,), (4, 257), (257, 256)):
        generation = fakes.model(table, TOKENIZER, eos=eos).generate([33])
        assert [step.text for step in generation] == ["a", "b", ""]
        assert generation.ids == [97, 98, 257] and generation.finish_reason == "eos"
    assert len(list(fakes.model(table, TOKENIZER).generate([33], max_tokens=20))) == 20


def test_unfinished_character_appears_at_the_end():
    for eos, reason in (((99,), "eos"), ((), "length")):
        table = fakes.chain(258, [33, 0xE2, 0x82, 99])
        generation = fakes.model(table, TOKENIZER, eos=eos).generate([33], max_tokens=3 if eos else 2)
        assert [step.text for step in generation] == (["", "", "�"] if eos else ["", "�"])
        assert generation.finish_reason == reason


def test_context_ends_a_generation():
    model = spell("abcdefgh", context=5)
    generation = model.generate([33, 33, 33])
    assert len(list(generation)) == 3 and generation.finish_reason == "length"  # positions 3 and 4, and one more token
    assert len(list(model.generate([33] * 5))) == 1
    with pytest.raises(UsageError, match="prompt has 6 tokens, the model's context is 5"):
        model.generate([33] * 6)


@pytest.mark.parametrize(
    ("stop", "shown", "count"),
    [(("c",), "ab", 3), (("cd",), "ab", 4), (("zz", "de"), "abc", 5), (("bcx", "d"), "abc", 4), (("abcdef",), "", 6),
     (("bc", "abc"), "", 3), (("q",), "abcdefgh", 8), ("ef", "abcd", 6), (("h!",), "abcdefgh", 8)],
)  # fmt: skip
def test_stop_strings_cut_before_them(stop, shown, count):
    model = spell("abcdefgh")
    generation = model.generate([33], max_tokens=8, stop=stop)
    steps = list(generation)
    assert "".join(step.text for step in steps) == generation.text == shown
    assert len(steps) == count
    assert generation.finish_reason == ("length" if count == 8 else "stop")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_do_not_depend_on_the_pieces(pieces, stops):
    def run(parts):
        stopper = StopStrings(stops)
        shown = ""
        for part in parts:
            shown += stopper.push(part)
            assert not any(stop in shown for stop in stops)
        return shown + stopper.flush(), stopper.hit

    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    expected = (whole[: min(ends)[1]], True) if ends else (whole, False)
    assert run(pieces) == run(list(whole)) == run([whole]) == expected


def test_held_back_text_is_only_what_could_be_a_stop():
    stopper = StopStrings(["</end>"])
    assert [stopper.push(part) for part in ("a<", "/", "b<", "</", "en", "d", ">", "c")] == [
        "a", "", "</b", "<", "", "", "", ""]  # fmt: skip


def test_digest_covers_logits_and_ids():
    model = spell("xyz")
    generation = model.generate([33], max_tokens=3)
    assert generation.digest == hashlib.sha256().hexdigest()
    list(generation)
    expected = hashlib.sha256()
    for before, token in zip(b"!xy", b"xyz", strict=True):
        expected.update(model.engine.table[before].astype("<f4").tobytes() + token.to_bytes(4, "little"))
    assert generation.digest == expected.hexdigest()


def test_log_probabilities_on_demand():
    table = np.zeros((4, 4), np.float32)
    table[:, 2] = np.float32(1.0)
    steps = list(fakes.model(table).generate([0], max_tokens=2, logprobs=3))
    assert [i for i, _ in steps[0].top_logprobs] == [2, 0, 1]
    assert steps[0].logprob == steps[0].top_logprobs[0][1] == pytest.approx(1 - np.log(3 + np.e), abs=1e-7)
    first = next(fakes.model(table).generate([0]))
    assert first.logprob == steps[0].logprob and first.top_logprobs == ()
    assert next(fakes.model(table).generate([0], logprobs=None)).logprob is None
    # they are the model's, whatever the sampler does
    other = next(fakes.model(table).generate([0], temperature=5.0, seed=1, repetition_penalty=2.0, top_k=1))
    assert other.logprob == steps[0].logprob


def test_sampling_is_reproducible():
    table = np.zeros((50, 50), np.float32)
    runs = [list(fakes.model(table).generate([1], max_tokens=20, temperature=1.0, seed=seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    begin = [step.id for step in fakes.model(table).generate([1], max_tokens=5, temperature=1.0, seed=3)]
    assert begin == [step.id for step in runs[0]][:5]


def test_repetition_penalty_sees_prompt_and_output():
    table = np.tile(np.array([4.0, 3.9, 3.8, 0.0], np.float32), (4, 1))
    ids = [step.id for step in fakes.model(table).generate([0], max_tokens=3, repetition_penalty=1.5)]
    assert ids == [1, 2, 0]


def test_nan_logits_are_counted_and_no_maximum_stops():
    table = np.zeros((4, 4), np.float32)
    table[:, 3], table[2, :] = np.nan, np.nan
    generation = fakes.model(table).generate([0], max_tokens=2)
    assert [step.id for step in generation] == [0, 0] and generation.nan_steps == 2
    with pytest.raises(RefmoeError, match="no finite maximum"):
        list(fakes.model(table).generate([2]))


def test_timings_and_memory():
    generation = spell("abc").generate([33, 33], max_tokens=1)
    list(generation)
    timings = generation.timings
    assert timings["load_s"] == 0.25 and timings["prompt_tokens"] == 2 and timings["generated_tokens"] == 1
    assert timings["decode_tokens_per_s"] is None and timings["prefill_tokens_per_s"] > 0
    assert peak_memory() > 1 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", 0), ("max_tokens", 10**12), ("max_tokens", 1.5), ("logprobs", -1), ("logprobs", 10**6),
     ("stop", ("",)), ("stop", ""), ("stop", (b"x",)), ("stop", ("x" * 5000,)), ("stop", ("x",) * 100),
     ("stop", None), ("stop", 5), ("temperature", -1), ("seed", 2**64), ("top_p", 0)],
)  # fmt: skip
def test_options_out_of_range(name, value):
    with pytest.raises(UsageError, match=f"^{name}: expected"):
        Options(**{name: value})
    with pytest.raises(UsageError, match=f"^{name}: expected"):
        fakes.model(np.zeros((4, 4))).generate([0], **{name: value})  # before the first step


@pytest.mark.parametrize("ids", [
    [], [4], [-1], [0, True], [1.0], ["1"], [2**70], [None], "12", 1, None, np.array(1), [[0], 1],
])  # fmt: skip
def test_ids_are_checked_before_anything_runs(ids):
    model = fakes.model(np.zeros((4, 4)))
    for call in (model.forward, model.generate, model.trace):
        with pytest.raises(UsageError, match=r"^ids"):
            call(ids)
    assert model.engine.batches == []


@pytest.mark.parametrize("ids", [5, None, [1.0], ["a"], [True], "ab", [[1]]])
def test_ids_to_decode_are_checked(ids):
    with pytest.raises(UsageError, match=r"^ids"):
        fakes.model(np.zeros((4, 4))).decode(ids)


def test_ids_may_be_any_integers():
    model = fakes.model(np.eye(4))
    for ids in ([1, 2], (1, 2), np.array([1, 2]), np.array([1, 2], np.uint8), range(1, 3)):
        np.testing.assert_array_equal(model.forward(ids), np.eye(4, dtype=np.float32)[[1, 2]])


def test_forward_of_several_sequences_is_one_batch():
    model = fakes.model(np.eye(4))
    first, second = model.forward([[1, 2], (3,)])
    assert first.shape == (2, 4) and second.shape == (1, 4) and len(model.engine.batches) == 1


def test_without_a_tokenizer():
    model = fakes.model(np.zeros((4, 4)))
    assert [step.text for step in model.generate([0], max_tokens=2)] == ["", ""]
    for call in (lambda: model.encode("a"), lambda: model.decode([1])):
        with pytest.raises(TokenizerError, match=r"no tokenizer.json"):
            call()
    with pytest.raises(UsageError, match=r"^stop: the model has no tokenizer"):
        model.generate([0], stop=["x"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kv_dtype", "f16"),
        ("kv_dtype", None),
        ("activations", "int4"),
        ("activations", "x"),
        ("threads", 0),
        ("threads", True),
        ("threads", 10**6),
        ("threads", 1.0),
    ],
)
def test_load_checks_its_arguments_first(name, value):
    with pytest.raises(UsageError, match=f"^{name}: "):
        refmoe.load("not looked at", **{name: value})


@pytest.mark.shared
def test_stories_greedy_text_is_the_published_one():
    folder = fakes.SHARED / "data" / "stories260k"
    if not folder.exists():
        pytest.skip(f"no published checkpoint at {folder}")
    if not jit.ENABLED:
        pytest.skip("260,000 parameters are too many for the plain interpreter")
    golden = json.loads((folder / "golden.json").read_text())
    model = refmoe.load(folder)
    generation = model.generate([1], max_tokens=256, logprobs=None)
    assert [1, *(step.id for step in generation)] == golden["published_greedy_256"]["ids"]
    assert golden["published_greedy_256"]["stdout"].startswith(generation.text[:560])
