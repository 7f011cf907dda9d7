"""SentencePiece models: the published ones against their tokenizer.json and vectors, both algorithms, hostile bytes."""

import json
from itertools import pairwise

import making
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmoe import text
from refmoe.errors import TokenizerError
from refmoe.vocab import files, protobuf, sentencepiece

LETTERS = ["▁", *"abcdefgh"]


def load(folder, model, vocab_size=1000, **config):
    extra = {"tokenizer_config__json": config} if config else {}
    return text.load(making.write(folder, tokenizer__model=model, **extra), vocab_size)


@pytest.mark.shared
@pytest.mark.parametrize(("version", "size"), [("v1", 32000), ("v3", 32768)])
def test_published_models(version, size, tmp_path):
    model = making.published(f"tok-mistral/tokenizer.model.{version}.gz")
    tokenizer = load(tmp_path, model, size)
    cases = making.cases(f"tok-mistral/vectors-{version}.json.gz")
    assert len(cases) == 140
    for content, ids in cases:
        assert tokenizer.encode(content, parse_special=True) == [1, *ids]
    built = sentencepiece.build(files.Source(tmp_path / "x", model, b"", {}, size))
    published = json.loads(making.published(f"tok-mistral/tokenizer-{version}.json.gz"))
    built["model"]["merges"] = [" ".join(pair) for pair in built["model"]["merges"]]
    for key in ("model", "added_tokens", "normalizer", "pre_tokenizer", "decoder"):
        assert built[key] == published[key], key


def by_score(content, pieces):
    """SentencePiece's rule: of all neighbours that form a piece, the best score is joined first, then the leftmost."""
    parts = list("▁" + content.replace(" ", "▁") if not content.startswith(" ") else content.replace(" ", "▁"))
    while True:
        found = [(-pieces[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in pieces]
        if not found:
            return parts
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc▁", min_size=2, max_size=5), unique=True, max_size=30),
       st.lists(st.text("abc ", max_size=20)))  # fmt: skip
def test_neighbours_of_the_best_score_are_joined(words, contents):
    words = words + LETTERS
    source = files.Source(text.Path("memory"), making.sentencepiece(words), b"", {"add_bos_token": False}, 1000)
    library = _library(sentencepiece.build(source))
    scores = {word: -float(n) for n, word in enumerate(words)}
    for content in contents:
        expected = by_score(content, scores) if content else []
        assert library.encode(content).tokens == expected


def _library(content):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(content))


def test_bytes_bos_and_specials(tmp_path):
    tokenizer = load(tmp_path / "a", making.sentencepiece(["▁a", *LETTERS]))
    assert tokenizer.encode("aé") == [1, 259, 3 + 0xC3, 3 + 0xA9] and tokenizer.decode([1, 259, 198, 172]) == "aé"
    assert tokenizer.encode("</s>a", add_special=False, parse_special=True) == [2, 261]
    assert tokenizer.encode("</s>")[1:3] == [260, 3 + ord("<")]  # as text
    assert load(tmp_path / "b", making.sentencepiece(LETTERS), add_bos_token=False).encode("a") == [259, 260]
    both = load(tmp_path / "c", making.sentencepiece(LETTERS), add_eos_token=True, bos_token="<s>")
    assert both.encode("a") == [1, 259, 260, 2]
    no_bytes = load(tmp_path / "d", making.sentencepiece(LETTERS, fallback=0))
    assert no_bytes.encode("aéé") == [1, 3, 4, 0]


def test_added_tokens_and_user_symbols(tmp_path):
    user = making.sentencepiece(LETTERS, more=[making.piece("<sep>", kind=4)])
    added = {"270": {"content": "<|im_end|>", "special": True}}
    tokenizer = load(tmp_path, user, added_tokens_decoder=added)
    assert tokenizer.encode("<sep>a", add_special=False) == [259, 261]
    assert tokenizer.encode("<|im_end|>", add_special=False, parse_special=True) == [270]
    assert 270 not in tokenizer.encode("<|im_end|>")
    renamed = load(tmp_path / "c", user, added_tokens_decoder={"1": {"content": "<begin>", "special": True}})
    assert renamed.encode("a") == [1, 260, 261] and renamed.encode("<begin>", parse_special=True) == [1, 1]
    assert 1 not in renamed.encode("<s>", add_special=False, parse_special=True)
    with pytest.raises(TokenizerError, match="has the id of another piece, 5"):
        load(tmp_path / "b", user, added_tokens_decoder={"5": {"content": "<x>"}})


def test_unigram(tmp_path):
    words = ["▁ab", "▁abc", *LETTERS]
    tokenizer = load(tmp_path, making.sentencepiece(words, kind=1))
    assert tokenizer.encode("abc") == [1, 260]  # score -1; any other cut is worse
    assert tokenizer.decode([1, 260]) == "abc"
    for ids in (tokenizer.encode("abc</s>"), tokenizer.encode_prompt("<s>abc</s>", [6])):
        assert ids[0] == 1 and not {0, 1, 2} & set(ids[1:]) and tokenizer.decode(ids) == "abc</s>"
    assert tokenizer.encode("abc</s>", parse_special=True) == [1, 260, 2]


def test_spaces_by_the_normalizer(tmp_path):
    extra = making.field(3, 1) + making.field(4, 1)
    assert load(tmp_path / "a", making.sentencepiece(LETTERS, normal=extra)).encode(" a  b ") == [1, 259, 260, 259, 261]
    bare = making.field(3, 0) + making.field(4, 0)
    assert load(tmp_path / "b", making.sentencepiece(LETTERS, normal=bare)).encode("a  b") == [1, 260, 259, 259, 261]


def bad_files():
    yield "empty", b"", "it has no pieces"
    yield "text", b"hello world, this is no model", "not a SentencePiece model"
    yield "ranks", making.rank_file(making.LOW_BYTES), "not a SentencePiece model"
    yield "cut", making.sentencepiece(LETTERS)[:100], "not a SentencePiece model"
    yield "length", b"\x0a\xff\xff\xff\xff\x0f", "bytes announced"
    yield "varint", b"\x08" + b"\xff" * 20, "a number without an end"
    yield "twice", making.sentencepiece(["a", "a", *LETTERS]), "two pieces have the same text"
    yield "no_text", making.sentencepiece(["", *LETTERS]), "expected a text, a finite score and a type"
    yield "nan", making.sentencepiece(LETTERS, more=[making.piece("x", float("nan"))]), "expected a text, a finite"
    yield "type", making.sentencepiece(LETTERS, more=[making.piece("x", kind=9)]), "expected a text, a finite score"
    yield "not_utf8", making.field(1, making.field(1, b"\xff")), "not a SentencePiece model"
    yield "no_unknown", making.piece("a"), "expected a piece for unknown text"
    yield "words", making.sentencepiece(LETTERS, kind=3), "model_type: expected 1 (unigram) or 2 (bpe), found 3"
    yield "beyond", making.sentencepiece([f"x{n}" for n in range(1000)]), "token id 1000, but the model's vocab_size"
    few = making.sentencepiece(LETTERS).replace(b"<0x00>", b"<0x0g>")
    yield "bytes", few, "byte_fallback: expected 256 pieces <0x00> to <0xFF>"
    white = making.sentencepiece(LETTERS, normal=making.field(5, 0))
    yield "white_space", white, "escape_whitespaces: expected true"
    yield "piece_is_a_number", making.field(1, 5), "not a SentencePiece model"


@pytest.mark.parametrize(("content", "message"), [pytest.param(*c[1:], id=c[0]) for c in bad_files()])
def test_broken_files_are_one_line(content, message, tmp_path):
    with pytest.raises(TokenizerError) as caught:
        load(tmp_path, content)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "tokenizer.model: " in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.binary(max_size=4))
def test_any_bytes_end_in_one_error_or_a_tokenizer(content, at, change):
    model = making.sentencepiece(LETTERS)
    for raw in (content, model[:at] + change + model[at + len(change) :]):
        try:
            sentencepiece.build(files.Source(text.Path("memory"), raw, b"", {}, 1000))
        except TokenizerError as problem:
            assert "\n" not in str(problem)


def test_fields_of_every_wire_type():
    data = making.field(1, 300) + making.field(2, 0.5) + making.field(3, b"xy") + b"\x21" + b"12345678"
    assert list(protobuf.fields(data)) == [(1, 300), (2, 0.5), (3, b"xy"), (4, b"12345678")]
    for bad in (b"\x00\x01", b"\x0b", b"\x0d12", b"\x08"):
        with pytest.raises(ValueError, match="at byte"):
            list(protobuf.fields(bad))
