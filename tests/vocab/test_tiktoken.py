"""Rank files: published tokenizers with their vectors, joining by rank, special tokens, files that cannot be used."""

import hashlib
import json
import random

import making
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from refmoe import text
from refmoe.errors import TokenizerError
from refmoe.vocab import bpe
from tests import fakes

KIMI = {"[BOS]": 0, "[EOS]": 1, "<|im_end|>": 2, "<|im_user|>": 3, "<|tool_call_begin|>": 13}


def kimi(folder, tokens=making.LOW_BYTES, vocab_size=2000, **names):
    decoder = {str(len(tokens) + i): {"content": c, "special": i < 10} for c, i in (names or KIMI).items()}
    config = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder}
    making.write(folder, tiktoken__model=making.rank_file(tokens), tokenizer_config__json=config)
    return text.load(folder, vocab_size)


@pytest.fixture(scope="module")
def published_kimi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kimi")
    facts = json.loads(making.published("tok-kimi-k2/special_tokens.json"))
    names = {c: i - 163584 for part in ("special", "added_not_special") for c, i in facts[part].items()}
    decoder = {str(163584 + i): {"content": c, "special": c in facts["special"]} for c, i in names.items()}
    config = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder}
    ranks = making.published("tok-kimi-k2/tiktoken.model.gz")
    making.write(folder, tiktoken__model=ranks, tokenizer_config__json=config)
    return text.load(folder, 163840)


@pytest.fixture(scope="module")
def published_o200k(tmp_path_factory):
    ranks = making.published("tok-o200k/o200k_base.tiktoken.gz")
    return text.load(making.write(tmp_path_factory.mktemp("o200k"), o200k_base__tiktoken=ranks), 201088)


def check_vectors(tokenizer, cases, **options):
    for number, (content, ids) in enumerate(cases):
        assert tokenizer.encode(content, **options) == ids
        decoded = tokenizer.decode(ids)
        assert decoded == content or options
        cut = number * 7 % (len(ids) + 1)
        stream = tokenizer.stream(ids[:cut])
        if not tokenizer.decode(ids[:cut]).endswith("�"):
            assert tokenizer.decode(ids[:cut]) + "".join(map(stream.push, ids[cut:])) + stream.flush() == decoded


@pytest.mark.shared
def test_kimi_vectors(published_kimi):
    cases = making.cases("tok-kimi-k2/vectors.json.gz")
    assert len(cases) == 140
    check_vectors(published_kimi, cases)


@pytest.mark.shared
def test_kimi_special_tokens(published_kimi):
    facts = json.loads(making.published("tok-kimi-k2/special_tokens.json"))
    assert published_kimi.size == 163840
    for name, number in [*facts["special"].items(), *facts["added_not_special"].items()]:
        assert published_kimi.encode(name, parse_special=True) == [number]
        assert len(published_kimi.encode(name)) > 1  # in text it is text, whatever the file calls it
        assert published_kimi.decode([number]) == ("" if name in facts["special"] else name)
    assert published_kimi.encode("<|reserved_token_163700|>", parse_special=True) == [163700]


@pytest.mark.shared
def test_o200k_vectors(published_o200k):
    cases = making.cases("tok-o200k/vectors.json.gz")
    assert len(cases) == 140
    check_vectors(published_o200k, cases, parse_special=True)  # "<|endoftext|>" there counts as the special token
    check_vectors(published_o200k, [case for case in cases if "<|" not in case[0]])


@pytest.mark.shared
def test_o200k_special_tokens(published_o200k):
    facts = json.loads(making.published("tok-o200k/special_tokens.json"))["o200k_harmony_special"]
    for name, number in facts.items():
        assert published_o200k.encode(name, parse_special=True) == [number] != published_o200k.encode(name)
    assert published_o200k.size == 201088
    assert published_o200k.encode("<|reserved_200000|><|reserved_201087|>", parse_special=True) == [200000, 201087]


@pytest.mark.shared
def test_fingerprints_of_another_engine(published_kimi, published_o200k):
    path = fakes.SHARED / "published" / "goldens" / "tokenizer-fingerprints-llamacpp.json"
    facts = json.loads(path.read_text("utf-8"))
    for tokenizer, name in ((published_kimi, "moonshotai/Kimi-K2-Base"), (published_o200k, "Xenova/gpt-4o")):
        expected = next(digest for model, digest in facts["values"].items() if model.startswith(name))
        assert hashlib.sha256(str(tokenizer.encode(facts["text"])).encode()).hexdigest() == expected


def test_chinese_characters_are_words_of_their_own(tmp_path):
    tokens = [*making.LOW_BYTES, "字".encode()[:2], "字".encode(), "a字".encode(), b"bc", "字字".encode()]
    tokenizer = kimi(tmp_path, tokens)
    assert tokenizer.encode("a字") == [97, 257]  # never one piece, so the token of both is not used
    assert tokenizer.encode("字字bc") == [260, 259]
    assert tokenizer.encode("12345") == [*b"12345"] and tokenizer.encode(" bc") == [32, 259]


def test_words_are_split_before_joining(tmp_path):
    tokens = [*making.LOW_BYTES, b"3 ", b"'s", b"x'", b"x's", b" a", b"a ", b"  "]
    tokenizer = kimi(tmp_path, tokens)
    assert tokenizer.encode("x's") == [259] and tokenizer.encode("3 a") == [51, 260] and tokenizer.encode("a  a") == [
        97, 32, 260]  # fmt: skip


def test_special_tokens_and_reserved_names(tmp_path):
    tokenizer = kimi(tmp_path)
    assert tokenizer.size == 512
    assert tokenizer.encode("<|im_end|>[EOS]", parse_special=True) == [258, 257]
    assert tokenizer.encode("<|reserved_token_300|>", parse_special=True) == [300]
    assert tokenizer.encode("<|im_end|>") == list(b"<|im_end|>")
    assert kimi(tmp_path / "small", vocab_size=300).size == 300
    assert kimi(tmp_path / "far", **{"<|far|>": 700}).encode("<|far|>", parse_special=True) == [956]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9))
def test_any_ranks_join_as_tiktoken_does(seed):
    """Also ranks that no training gives: long tokens before short ones, tokens whose parts are unknown."""
    random_ = random.Random(seed)
    tokens = [b"a", b"b", b"c"]
    while len(tokens) < 40:
        token = bytes(random_.choices(b"abc", k=random_.randint(2, 6)))
        if token not in tokens:
            tokens.append(token)
    random_.shuffle(tokens)
    names = bpe.byte_names(tokens)
    vocab = {name: rank for rank, name in enumerate(names)}
    content = bpe.byte_level(vocab, bpe.merges(names, vocab), "[abc]+", [], whole_words=True)
    library = Library.from_str(json.dumps(content))
    for _ in range(20):
        word = bytes(random_.choices(b"abc", k=random_.randint(1, 24)))
        expected = making.by_rank(word, {token: rank for rank, token in enumerate(tokens)})
        assert library.encode(word.decode()).ids == expected


def bad_files():
    good = making.rank_file(making.LOW_BYTES)
    yield "empty", b"", "without a gap, found none of rank 0"
    yield "base64", good + b"!!! 256\n", "line 257: expected base64 of a token and its rank, found !!! 256"
    yield "no_rank", good + b"YWI=\n", "line 257: expected base64"
    yield "padding", good + b"YWI 256\n", "line 257: expected base64"
    yield "negative", good + b"YWI= -1\n", "line 257: expected base64"
    yield "words", b"<html>", "HTML"
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git-LFS pointer"
    yield "rank_twice", good + b"YWI= 5\n", "line 257: rank 5 comes twice"
    yield "token_twice", good + b"YQ== 256\n", "two ranks have the same token"
    yield "gap", good + b"YWI= 257\n", "found none of rank 256"
    yield "byte_missing", making.rank_file([*making.LOW_BYTES[:65], *making.LOW_BYTES[66:]]), "found none for 0x41"
    yield "beyond", good + b"YWI= 1000\n", "line 257: token id 1000, but the model's vocab_size is 1000"
    yield "huge_rank", good + b"YWI= " + b"9" * 5000 + b"\n", "line 257: "
    yield "long_token", making.rank_file([*making.LOW_BYTES, b"x" * 2000]), "a token has 2000 bytes, at most 1024"
    yield "binary", bytes(range(256)) * 10, "expected base64"


@pytest.mark.parametrize(("content", "message"), [pytest.param(*c[1:], id=c[0]) for c in bad_files()])
def test_broken_files_are_one_line(content, message, tmp_path):
    making.write(tmp_path, tiktoken__model=content)
    with pytest.raises(TokenizerError) as caught:
        text.load(tmp_path, 1000)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "tiktoken.model: " in str(caught.value)


def bad_settings():
    yield {"tokenizer_class": "OtherTokenizer"}, "tokenizer_class: expected TikTokenTokenizer"
    yield {"added_tokens_decoder": []}, "added_tokens_decoder: expected an object, found list"
    yield {"added_tokens_decoder": {"5": {"content": "<x>"}}}, "expected ids from 256 on, after the ranks, found 5"
    yield {"added_tokens_decoder": {"1000": {"content": "<x>"}}}, "from 0 to 999 (vocab_size), found 1000"
    yield {"added_tokens_decoder": {"x": {"content": "<x>"}}}, "expected an id from 0 to 999 (vocab_size), found -1"
    yield {"added_tokens_decoder": {"256": {}}}, "added_tokens_decoder: 256: expected content and flags"
    yield {"added_tokens_decoder": {"256": {"content": "a", "special": 1}}}, "expected content and flags"
    yield {"added_tokens_decoder": {"256": {"content": "a"}, "257": {"content": "a"}}}, "two ids have the same token"
    yield {"added_tokens_decoder": {"256": {"content": "a" * 5000}}}, "more than 4096 characters"


@pytest.mark.parametrize(("config", "message"), list(bad_settings()))
def test_broken_settings_are_one_line(config, message, tmp_path):
    making.write(tmp_path, tiktoken__model=making.rank_file(making.LOW_BYTES), tokenizer_config__json=config)
    with pytest.raises(TokenizerError) as caught:
        text.load(tmp_path, 1000)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_other_families_and_two_files(tmp_path):
    ranks = making.rank_file(making.LOW_BYTES)
    with pytest.raises(TokenizerError, match=r"is known for tiktoken\.model"):
        text.load(making.write(tmp_path / "a", cl100k_base__tiktoken=ranks), 1000)
    with pytest.raises(TokenizerError, match=r"expected one \*.tiktoken, found o200k_base.tiktoken, qwen.tiktoken"):
        text.load(making.write(tmp_path / "b", o200k_base__tiktoken=ranks, qwen__tiktoken=ranks), 1000)
    assert text.load(making.write(tmp_path / "c", o200k_base__tiktoken=ranks), 1000).encode("ab") == [97, 98]
    with pytest.raises(TokenizerError, match=r"tekken\.json: not supported alone"):
        text.load(making.write(tmp_path / "d", tekken__json={}), 1000)
    # tokenizer.json comes first where it is
    fakes.write_tokenizer(tmp_path / "a", fakes.byte_level())
    assert text.load(tmp_path / "a", 1000).encode("a") == [97]
