"""Tokenizer files in and out: published vectors, streaming, special tokens, and files that cannot be used."""

import gzip
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

from refmoe import detokenize, text
from refmoe.errors import ConfigError, TokenizerError
from tests import fakes


def loaded(folder, content, vocab_size=1000, **config):
    return text.load(fakes.write_tokenizer(folder, content, **config), vocab_size)


def streamed(tokenizer, prompt, ids):
    stream = tokenizer.stream(prompt)
    return [stream.push(i) for i in ids] + [stream.flush()]


def published(name):
    path = fakes.SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"no published data at {path}")
    return path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """The Qwen tokenizer, built from its published merges."""
    split = json.loads(published("tok-qwen/split_pattern.json"))["split_pattern"]
    merges = [tuple(line.split(" ")) for line in published("tok-qwen/merges.txt.gz").decode().rstrip("\n").split("\n")]
    vocab = {character: i for i, character in enumerate(detokenize.byte_alphabet())}
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    library = Library(models.BPE(vocab=vocab, merges=merges))
    library.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), level])
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("<|im_end|>", special=True)])
    folder = tmp_path_factory.mktemp("qwen")
    library.save(str(folder / "tokenizer.json"))
    return text.load(folder, 151936), library


@pytest.mark.shared
def test_qwen_vectors(qwen):
    tokenizer, library = qwen
    cases = [case for group in json.loads(published("tok-qwen/vectors.json.gz")).values() for case in group]
    assert len(cases) == 190
    for n, case in enumerate(cases):
        assert tokenizer.encode(case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == library.decode(case["ids"])
        cut = n * 7 % (len(case["ids"]) + 1)
        if not tokenizer.decode(case["ids"][:cut]).endswith("�"):
            pieces = streamed(tokenizer, case["ids"][:cut], case["ids"][cut:])
            assert tokenizer.decode(case["ids"][:cut]) + "".join(pieces) == tokenizer.decode(case["ids"])


@pytest.mark.shared
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_mistral_vectors(version, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(published(f"tok-mistral/tokenizer-{version}.json.gz"))
    tokenizer, library = text.load(tmp_path, 32768), Library.from_file(str(tmp_path / "tokenizer.json"))
    vectors = json.loads(published(f"tok-mistral/vectors-{version}.json.gz"))
    cases = vectors if isinstance(vectors, list) else [case for group in vectors.values() for case in group]
    assert len(cases) == 140
    for case in cases:
        # One vector holds "<s>[PAD]</s>" and expects the special ids: that is what parse_special is for.
        assert tokenizer.encode(case["text"], parse_special=True) == [1, *case["ids"]]
        if "<s>" not in case["text"]:
            assert tokenizer.encode(case["text"], add_special=False) == case["ids"]
        assert tokenizer.decode(case["ids"]) == library.decode(case["ids"])


@pytest.mark.shared
def test_stories_tokenizer():
    golden = json.loads(published("stories260k/golden.json"))
    tokenizer = text.load(fakes.SHARED / "data" / "stories260k", 512)
    for prompt, ids in golden["encode_with_bos"].items():
        assert tokenizer.encode(prompt) == ids
    ids = golden["published_greedy_256"]["ids"]
    assert ids[0] == 1 and tokenizer.encode("") == [1]
    pieces = streamed(tokenizer, ids[:1], ids[1:])
    assert golden["published_greedy_256"]["stdout"].startswith("".join(pieces)[:500])
    assert "".join(pieces) == tokenizer.decode(ids)
    assert pieces[0] == "Once" and pieces[1] == " upon"  # the space before the first word is gone, others stay


def test_special_tokens_in_text_are_text(tmp_path):
    tokenizer = loaded(tmp_path, fakes.fallback())
    assert tokenizer.encode("a</s>a") == [1, 286, *(3 + b for b in b"</"), 278, 3 + ord(">"), 260]
    assert tokenizer.encode("a</s>", parse_special=True) == [1, 286, 2]
    assert tokenizer.encode("a") == [1, 286]
    assert tokenizer.encode("a", add_special=False) == [286]
    level = loaded(tmp_path / "level", fakes.byte_level())
    assert level.encode("<end>") == list(b"<end>") and level.encode("<end>", parse_special=True) == [257]


def test_foreign_control_tokens_of_a_prompt_are_text(tmp_path):
    level = loaded(tmp_path / "level", fakes.byte_level())
    prompt = "<s>a<end>b<end>"
    assert level.encode_prompt(prompt, ()) == [256, 97, 257, 98, 257]
    assert level.encode_prompt(prompt, [4]) == [256, 97, *b"<end>b", 257]
    assert level.encode_prompt(prompt, range(15)) == list(prompt.encode())
    assert level.encode_prompt("<s\U000f0000><s>", [0]) == [*b"<s", *"\U000f0000".encode(), 62, 256]
    assert level.encode_prompt("<s>\U000f0000<s>", [0]) == [*"<s>\U000f0000".encode(), 256]
    fallback = loaded(tmp_path / "fallback", fakes.fallback())  # its control tokens are in the vocabulary too
    for prompt, foreign in (("a</s>a", [1]), ("<s>a</s>", [0, 4])):
        assert fallback.encode_prompt(prompt, ()) == fallback.encode(prompt, add_special=False, parse_special=True)
        assert fallback.encode_prompt(prompt, foreign) == fallback.encode(prompt, add_special=False)
    assert fallback.encode_prompt("<s>a</s>a", [4]) == [1, *fallback.encode("a</s>a", add_special=False)]


def test_tokens_in_angle_bars_are_control_tokens(tmp_path):
    content = fakes.byte_level()
    for number, token in ((258, "<｜User｜>"), (259, "<think>"), (260, "<|a|>")):
        content["added_tokens"].append(fakes.special(number, token) | {"special": False})
    tokenizer = loaded(tmp_path, content)
    assert tokenizer.encode("<think>") == [259] and tokenizer.encode("<|a|>") == list(b"<|a|>")
    assert tokenizer.encode("<｜User｜>") == list("<｜User｜>".encode())
    assert tokenizer.encode("<｜User｜><|a|>", parse_special=True) == [258, 260]
    assert tokenizer.decode([258, 97, 260, 257]) == "<｜User｜>a<|a|>"  # what the file calls special is not shown
    assert "".join(map(tokenizer.stream(special=True).push, [257, 97, 258])) == "<end>a<｜User｜>"
    assert set(tokenizer.control) == {"<s>", "<end>", "<｜User｜>", "<|a|>"}


def test_too_long_a_text(tmp_path):
    tokenizer = loaded(tmp_path, fakes.byte_level())
    with pytest.raises(TokenizerError, match=r"^text: has 4194305 characters, at most 4194304 are encoded"):
        tokenizer.encode("a" * ((4 << 20) + 1))


def test_start_token_by_tokenizer_config(tmp_path):
    def encode(name, **config):
        return loaded(tmp_path / name, fakes.byte_level(), **config).encode("a")

    assert encode("plain") == [97]
    assert encode("off", add_bos_token=False, bos_token="<s>") == [97]
    assert encode("on", add_bos_token=True, bos_token="<s>") == [256, 97]
    assert encode("object", add_bos_token=True, bos_token={"content": "<s>"}) == [256, 97]
    with pytest.raises(TokenizerError, match="add_bos_token is true, but no token is bos_token"):
        encode("unknown", add_bos_token=True, bos_token="<nix>")
    # tokenizer.json adds BOS itself: its word counts, and BOS comes once
    assert loaded(tmp_path / "own", fakes.fallback(), add_bos_token=True, bos_token="<s>").encode("a") == [1, 286]


def test_truncation_and_padding_of_the_file_are_off(tmp_path):
    content = fakes.byte_level()
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                          "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    assert loaded(tmp_path, content).encode("hello") == list(b"hello")


def test_characters_appear_when_complete(tmp_path):
    for folder, content, first in (("level", fakes.byte_level(), 0), ("fallback", fakes.fallback(), 3)):
        tokenizer = loaded(tmp_path / folder, content)
        assert streamed(tokenizer, [first + 97], [first + b for b in "é€𝄞".encode()]) == [
            "", "é", "", "", "€", "", "", "", "𝄞", ""]  # fmt: skip
        assert streamed(tokenizer, [], [first + 0xE2, first + 0x82]) == ["", "", "�"]  # unfinished at the end
        assert streamed(tokenizer, [], [first + 0xE2, first + 97]) == ["", "�a", ""]  # cannot be finished any more
        assert streamed(tokenizer, [], [first + 0xFF] * 3) == ["�", "�", "�", ""]
        assert streamed(tokenizer, [first + 0xC3], [first + 0xA9]) == ["é", ""]  # begun in the prompt


def test_special_and_unknown_ids_give_no_text(tmp_path):
    for n, content in enumerate((fakes.byte_level(), fakes.fallback(), fakes.words())):
        tokenizer = loaded(tmp_path / str(n), content)
        assert tokenizer.decode([999, tokenizer.size, -1, 2**40]) == ""
    assert loaded(tmp_path, fakes.byte_level()).decode([97, 257, 256, 98]) == "ab"


def test_leading_space_is_stripped_once(tmp_path):
    tokenizer = loaded(tmp_path, fakes.fallback())
    assert tokenizer.decode([1, 286, 286]) == "a a"
    assert streamed(tokenizer, [1], [286, 286]) == ["a", " a", ""]
    assert streamed(tokenizer, [1, 286], [286]) == [" a", ""]
    assert tokenizer.decode([259, 259, 260]) == " a"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 290), max_size=12), st.integers(0, 12))
def test_streaming_equals_decoding(ids, cut):
    for tokenizer, library in TOKENIZERS:
        whole = tokenizer.decode(ids)
        assert "".join(streamed(tokenizer, [], ids)) == whole
        ready = "".join(streamed(tokenizer, [], ids[:cut])[:-1])  # without what an unfinished character leaves
        assert ready + "".join(streamed(tokenizer, ids[:cut], ids[cut:])) == whole
        if "�" not in whole:
            assert whole == library.decode(ids)


def test_byte_level_equals_the_library_on_any_ids():
    tokenizer, library = TOKENIZERS[0]
    for n in range(500):
        ids = [(n * k * k + 7 * k + n) % 258 for k in range(n % 9)]
        assert tokenizer.decode(ids) == library.decode(ids)


def test_other_decoders_go_through_the_library(tmp_path):
    tokenizer = loaded(tmp_path, fakes.words())
    assert tokenizer.encode("once upon a time") == [1, 2, 3, 4]
    assert tokenizer.decode([1, 2, 0, 3]) == "once upon a"
    assert streamed(tokenizer, [1], [2, 3, 0, 4]) == [" upon", " a", "", " time", ""]
    assert "".join(streamed(tokenizer, [1] * 50, [1] * 100)) == " once" * 100
    pieces = streamed(tokenizer, [1], [5] * 40 + [2])  # a real U+FFFD is late, but not for ever
    assert "".join(pieces) == " �" * 40 + " upon" and pieces[10:20] != [""] * 10


@pytest.mark.parametrize("value", ["\ud800", "ok \udcff"])
def test_lone_surrogates_are_refused(value, tmp_path):
    with pytest.raises(TokenizerError, match=r"^text: character [03] is a lone surrogate"):
        loaded(tmp_path, fakes.byte_level()).encode(value)


def test_any_other_text_is_encoded(tmp_path):
    tokenizer = loaded(tmp_path, fakes.byte_level())
    for value in ("", "\0", "a\0b", "﷽", "\r\n\t", "\U0010ffff", "e\u0301", "x" * 10000):
        assert tokenizer.decode(tokenizer.encode(value)) == value
    with pytest.raises(TokenizerError, match="expected str, found bytes"):
        tokenizer.encode(b"abc")


def broken_files():
    ok = fakes.byte_level()
    yield "empty", b"", "tokenizer.json"
    yield "cut", json.dumps(ok).encode()[:300], "EOF"
    yield "unknown_model", json.dumps(ok | {"model": {"type": "Foo"}}).encode(), "tokenizer.json"
    yield "no_model", b"{}", "Model missing"
    yield "negative_id", json.dumps(ok | {"model": fakes.bpe({"a": -1})}).encode(), "tokenizer.json"
    yield "shared_id", json.dumps(ok | {"model": fakes.bpe({"a": 0, "b": 0})}).encode(), "two tokens share one id"
    yield "empty_vocabulary", json.dumps(ok | {"model": fakes.bpe({}), "added_tokens": []}).encode(), "is empty"
    yield "unknown_merge", json.dumps(ok | {"model": fakes.bpe({"a": 0}, merges=["x y"])}).encode(), "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    yield "bad_regex", json.dumps(ok | {"pre_tokenizer": split}).encode(), "tokenizer.json"
    large = fakes.bpe(detokenize.byte_alphabet() | {"zz": 5000})
    yield "large_id", json.dumps(ok | {"model": large}).encode(), "token id 5000, but the model's vocab_size is 1000"
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git-LFS pointer"
    yield "page", b"<!DOCTYPE html><html></html>", "HTML"
    yield "deep", b'{"model":' * 100000, "tokenizer.json"


@pytest.mark.parametrize(("content", "message"), [pytest.param(*c[1:], id=c[0]) for c in broken_files()])
def test_broken_files_are_one_line(content, message, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        text.load(tmp_path, 1000)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "tokenizer.json" in str(caught.value)


def test_a_pattern_that_explodes_is_one_line(tmp_path, capfd):
    content = fakes.byte_level() | {"pre_tokenizer": {
        "type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}}  # fmt: skip
    tokenizer = loaded(tmp_path, content)
    with pytest.raises(TokenizerError, match=r"tokenizer.json: .*retry-limit"):
        tokenizer.encode("x" * 28 + "z")


def test_files_that_are_no_files(tmp_path):
    assert text.load(tmp_path, 10) is None
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(TokenizerError, match="not a regular file"):
        text.load(tmp_path, 10)
    os.mkfifo(tmp_path / "pipe")
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "tokenizer.json").symlink_to(tmp_path / "pipe")
    with pytest.raises(TokenizerError, match=r"tokenizer.json: "):
        text.load(folder, 10)


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(500 << 20)
    with pytest.raises(TokenizerError, match="has 524288000 bytes, at most"):
        text.load(tmp_path, 10)


def test_boundary_ids(tmp_path):
    assert text.boundary_ids(tmp_path, {}) == (None, ())
    config = {"bos_token_id": 1, "eos_token_id": 2}
    assert text.boundary_ids(tmp_path, config) == (1, (2,))
    file = tmp_path / "generation_config.json"
    file.write_text('{"eos_token_id": [5, 6], "temperature": 0.6}')
    assert text.boundary_ids(tmp_path, config) == (1, (5, 6))
    file.write_text('{"eos_token_id": null, "bos_token_id": 7}')
    assert text.boundary_ids(tmp_path, config) == (7, (2,))
    for bad in ('"2"', "true", "-1", "[2, null]", "2.5", "{}"):
        file.write_text(f'{{"eos_token_id": {bad}}}')
        with pytest.raises(ConfigError, match=r"generation_config.json: eos_token_id: expected a token id"):
            text.boundary_ids(tmp_path, config)
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"generation_config.json"):
        text.boundary_ids(tmp_path, config)


def _pairs():
    for content in (fakes.byte_level(), fakes.fallback()):
        library = Library.from_str(json.dumps(content))
        yield text.Tokenizer(library, text.Path("memory")), Library.from_str(json.dumps(content))


TOKENIZERS = tuple(_pairs())
