"""vocab.json with merges.txt: Qwen's published pairs with their vectors, and files that cannot be used."""

import json

import making
import pytest

from refmoe import detokenize, text
from refmoe.errors import TokenizerError

ALPHABET = {character: i for i, character in enumerate(detokenize.byte_alphabet())}
QWEN = {"tokenizer_class": "Qwen2Tokenizer"}


def load(folder, vocab=ALPHABET, merges=b"", vocab_size=1000, **others):
    files = {"tokenizer_config__json": QWEN} | others
    return text.load(making.write(folder, vocab__json=vocab, merges__txt=merges, **files), vocab_size)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    merges = making.published("tok-qwen/merges.txt.gz")
    vocab = dict(ALPHABET)
    for line in merges.decode().rstrip("\n").split("\n"):
        vocab[line.replace(" ", "")] = len(vocab)
    config = making.published("tok-qwen/tokenizer_config.json")
    return load(tmp_path_factory.mktemp("qwen"), vocab, merges, 151936, tokenizer_config__json=config)


@pytest.mark.shared
def test_qwen_vectors(qwen):
    cases = making.cases("tok-qwen/vectors.json.gz")
    assert len(cases) == 190 and qwen.size == 151669
    for content, ids in cases:
        assert qwen.encode(content) == ids
    config = json.loads(making.published("tok-qwen/tokenizer_config.json"))
    for number, token in config["added_tokens_decoder"].items():
        assert qwen.encode(token["content"], parse_special=True) == [int(number)]
        assert (qwen.encode(token["content"]) == [int(number)]) == (not token["content"].startswith("<|"))


def test_pairs_and_added_tokens(tmp_path):
    vocab = ALPHABET | {"ab": 256, "Ġab": 257}
    merges = b"#version: 0.2\na b\n\xc4\xa0 ab\r\n"
    added = {"<|im_end|>": 300, "<think>": 400}
    tokenizer = load(tmp_path, vocab, merges, added_tokens__json=added)
    assert tokenizer.encode("ab ab") == [256, 257]
    assert tokenizer.encode("<think><|im_end|>", parse_special=True) == [400, 300]
    assert tokenizer.encode("<think>") == [400] and len(tokenizer.encode("<|im_end|>")) == 10
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")  # NFC
    assert tokenizer.decode([256, 400, 300, 257]) == "ab<think> ab"


def test_the_pattern_is_known_from_the_class_or_the_model_type(tmp_path):
    vocab = ALPHABET | {"12": 256}
    assert load(tmp_path / "a", vocab, b"1 2\n").encode("12") == [ALPHABET["1"], ALPHABET["2"]]  # single digits
    gpt2 = load(tmp_path / "b", vocab, b"1 2\n", tokenizer_config__json={"tokenizer_class": "GPT2TokenizerFast"})
    assert gpt2.encode("12") == [256]
    folder = tmp_path / "c"
    making.write(folder, config__json={"model_type": "qwen3_moe"})
    assert load(folder, vocab, b"1 2\n", tokenizer_config__json={}).encode("12") == [ALPHABET["1"], ALPHABET["2"]]
    with pytest.raises(TokenizerError, match="how text is split is not known"):
        load(tmp_path / "d", tokenizer_config__json={"tokenizer_class": "OtherTokenizer"})


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [(b"[]", b"", "vocab.json: expected an object"), (b"{}", b"", "expected an object"), (b"{", b"", "not JSON"),
     ({"a": -1}, b"", "token a: expected an id from 0 to 999"), ({"a": 1000}, b"", "expected an id from 0 to 999"),
     ({"a": "1"}, b"", "token a: expected an id"), ({"a": 1, "b": 1}, b"", "two tokens share one id"),
     ({"a": 1}, b"a b\n", "merges.txt: line 1: expected two tokens"), ({"a": 1}, b"aa\n", "merges.txt: line 1"),
     ({"a": 1, "b": 2}, b"a b\n", "merges.txt: line 1"), ({"a": 1}, b"\xff", "merges.txt: not UTF-8 at byte 0")],
)  # fmt: skip
def test_broken_files_are_one_line(vocab, merges, message, tmp_path):
    with pytest.raises(TokenizerError) as caught:
        load(tmp_path, vocab, merges)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_merges_are_needed(tmp_path):
    making.write(tmp_path, vocab__json=ALPHABET, tokenizer_config__json=QWEN)
    with pytest.raises(TokenizerError, match=r"merges.txt: no such file"):
        text.load(tmp_path, 1000)
