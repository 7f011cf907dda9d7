"""Tokenizers in GGUF metadata: published ones put into that form give their published ids; what cannot be used."""

import base64
import hashlib
import json

import making
import numpy as np
import pytest

from refmoe import detokenize, text
from refmoe.errors import TokenizerError
from refmoe.vocab import bpe, gguf, patterns, protobuf, sentencepiece
from refmoe.vocab.files import Source
from tests import fakes

ALPHABET = list(detokenize.byte_alphabet())
PATH = text.Path("model.gguf")


def metadata(model, tokens, types=None, **rest):
    """The keys of the tokenizer; types by id, 1 where nothing is said."""
    kinds = np.ones(len(tokens), np.int32)
    for number, kind in (types or {}).items():
        kinds[number] = kind
    return {f"tokenizer.ggml.{key}": value for key, value in
            ({"model": model, "tokens": tokens, "token_type": kinds} | rest).items()}  # fmt: skip


def load(found, vocab_size=200_000):
    return text.load(PATH, vocab_size, found)


def pairs(merges=(), types=None, more=(), **rest):
    """Byte pairs: 256 bytes, the joined tokens, then `more` with their types."""
    rest = {"bos_token_id": 0} | rest
    tokens = ALPHABET + [merge.replace(" ", "", 1) for merge in merges]
    types = {len(tokens) + n: kind for n, (_, kind) in enumerate(more)} | (types or {})
    return metadata("gpt2", tokens + [token for token, _ in more], types, merges=list(merges), **rest)


def check(tokenizer, cases, **options):
    for content, ids in cases:
        assert tokenizer.encode(content, **options) == ids
        assert tokenizer.decode(ids) == content or options


@pytest.mark.shared
def test_qwen():
    merges = making.published("tok-qwen/merges.txt.gz").decode().rstrip("\n").split("\n")
    config = json.loads(making.published("tok-qwen/tokenizer_config.json"))["added_tokens_decoder"]
    more = [(entry["content"], 3 if entry["special"] else 4) for entry in config.values()]
    more += [(f"[PAD{n}]", 5) for n in range(151669, 151936)]
    tokenizer = load(pairs(merges, more=more, pre="qwen2", add_bos_token=False, bos_token_id=151643,
                           eos_token_id=151645))  # fmt: skip
    cases = making.cases("tok-qwen/vectors.json.gz")
    assert len(cases) == 190 and tokenizer.size == 151669
    check(tokenizer, [case for case in cases if case[0].isascii()])
    check(tokenizer, cases, parse_special=False)
    assert tokenizer.encode("<|im_end|>", parse_special=True) == [151645] != tokenizer.encode("<|im_end|>")
    assert tokenizer.decode([151700]) == ""


def ranked(name, special, size, pre):
    """A rank file as converters put it: joined tokens by their bytes, merges that nobody needs."""
    lines = making.published(name).decode().split()
    names = bpe.byte_names([base64.b64decode(code) for code in lines[0::2]])
    tokens = names + [f"[PAD{n}]" for n in range(len(names), size)]
    types = dict.fromkeys(range(len(names), size), 5)
    for content, number in special.items():
        tokens[number], types[number] = content, 3
    return load(metadata("gpt2", tokens, types, pre=pre, merges=[]), size)


@pytest.mark.shared
def test_rank_files():
    facts = json.loads(making.published("tok-kimi-k2/special_tokens.json"))
    kimi = ranked("tok-kimi-k2/tiktoken.model.gz", facts["special"], 163840, "kimi-k2")
    check(kimi, making.cases("tok-kimi-k2/vectors.json.gz"))
    special = json.loads(making.published("tok-o200k/special_tokens.json"))["o200k_harmony_special"]
    o200k = ranked("tok-o200k/o200k_base.tiktoken.gz", special, 201088, "gpt-4o")
    check(o200k, making.cases("tok-o200k/vectors.json.gz"), parse_special=True)
    path = fakes.SHARED / "published" / "goldens" / "tokenizer-fingerprints-llamacpp.json"
    facts = json.loads(path.read_text("utf-8"))
    for tokenizer, name in ((kimi, "moonshotai/Kimi-K2-Base"), (o200k, "Xenova/gpt-4o")):
        expected = next(digest for model, digest in facts["values"].items() if model.startswith(name))
        assert hashlib.sha256(str(tokenizer.encode(facts["text"])).encode()).hexdigest() == expected


@pytest.mark.shared
@pytest.mark.parametrize(("version", "size"), [("v1", 32000), ("v3", 32768)])
def test_mistral(version, size):
    model = making.published(f"tok-mistral/tokenizer.model.{version}.gz")
    found = [dict(protobuf.fields(value)) for field, value in protobuf.fields(model) if field == 1]
    types = {n: piece[3] for n, piece in enumerate(found) if 3 in piece}
    scores = np.array([piece.get(2, 0.0) for piece in found], np.float32)
    found = metadata("llama", [piece[1].decode() for piece in found], types, scores=scores, bos_token_id=1,
                     eos_token_id=2, add_bos_token=True)  # fmt: skip
    tokenizer = load(found, size)
    for content, ids in making.cases(f"tok-mistral/vectors-{version}.json.gz"):
        assert tokenizer.encode(content, parse_special=True) == [1, *ids]
    del found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.bos_token_id"]
    assert load(found, size).encode("a")[0] == 1  # what a file of this kind means without these keys


@pytest.mark.shared
def test_deepseek_v3():
    """Only how text is cut can be checked without its tokens: pieces of the published cases."""
    path = fakes.SHARED / "published" / "goldens" / "tokenizer-deepseek-v3-r1.json"
    if not path.exists():
        pytest.skip(f"no published data at {path}")
    tokenizer = load(pairs(pre="deepseek-v3"))
    assert tokenizer.decode(tokenizer.encode(path.read_text("utf-8")[:2000])) == path.read_text("utf-8")[:2000]


def pieces(pre, content):
    """How a text is cut: everything within a piece joins, so that each piece is one token."""
    made = gguf.build(PATH, pairs(pre=pre), 1000)
    from tokenizers import Tokenizer

    library = Tokenizer.from_str(json.dumps(made))
    return [content.encode()[slice(*_bytes(content, span))].decode() for _, span in
            library.pre_tokenizer.pre_tokenize_str(content)]  # fmt: skip


def _bytes(content, span):
    return [len(content[:at].encode()) for at in span]


@pytest.mark.parametrize(("pre", "content", "expected"), [
    ("default", "Hi 1234 x's,\n\n a", ["Hi", " ", "123", "4", " x", "'", "s", ",", "\n\n", " a"]),
    ("gpt-2", "Hi 1234 x's,\n\n a", ["Hi", " 1234", " x", "'s", ",", "\n\n", " a"]),
    ("qwen2", "Hi 123 x'S,\n\n  a", ["Hi", " ", "1", "2", "3", " x", "'S", ",\n\n", " ", " a"]),
    ("llama-bpe", "Hi 1234 x'S,\n\n  a", ["Hi", " ", "123", "4", " x", "'S", ",\n\n", " ", " a"]),
    ("tekken", "HiThere 123 a", ["Hi", "There", " ", "1", "2", "3", " a"]),
    ("starcoder", "ab 123 x's", ["ab", " ", "1", "2", "3", " x", "'s"]),
    ("deepseek-v3", "Hi 1234中文abc, !x\n a", ["Hi", " ", "123", "4", "中文", "abc", ",", " !", "x", "\n", " a"]),
    ("deepseek-llm", "Hi 12中文 abc, ж\n\n\nx  ", ["Hi", " ", "1", "2", "中文", " abc", ",", " ж", "\n", "\n", "\n",
                                                  "x", "  "]),
    ("deepseek-coder", "Hi 12中文, x\n", ["Hi", " ", "1", "2", "中文", ",", " x", "\n"]),
    ("gpt-4o", "HelloWorld's 1234/\n", ["Hello", "World's", " ", "123", "4", "/\n"]),
    ("kimi-k2", "字a字 12", ["字", "a", "字", " ", "12"]),
])  # fmt: skip
def test_how_text_is_cut(pre, content, expected):
    assert pieces(pre, content) == expected


def test_every_known_way_of_cutting_keeps_the_text():
    for pre in patterns.GGUF:
        tokenizer = load(pairs(pre=pre))
        for content in ("Hello, World's 12345 字漢字\n\n\t x  ", "ÀÉ straße İstanbul\r\n🙂 a"):
            assert tokenizer.decode(tokenizer.encode(content, add_special=False)) == content


def test_roles_and_kinds():
    more = [("<s>", 3), ("</s>", 3), ("<think>", 4), ("[PAD]", 5), ("[PAD]", 5), ("last", 1)]
    found = pairs(["a b"], more=more, pre="gpt-2", bos_token_id=257, eos_token_id=258)
    tokenizer = load(found)
    assert tokenizer.encode("ab<s><think>", parse_special=True) == [256, 257, 259]
    assert tokenizer.encode("<think>") == [259] and len(tokenizer.encode("<s>")) == 3
    assert tokenizer.decode([257, 259, 260, 261, 256]) == "<think>ab" and tokenizer.size == 263
    assert load(found | {"tokenizer.ggml.add_bos_token": True}).encode("ab") == [257, 256]
    both = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    assert load(found | both).encode("ab") == [257, 256, 258]
    assert load(found | both).encode("ab", add_special=False) == [256]
    llama3 = found | {"tokenizer.ggml.pre": "llama-bpe"}
    assert load(llama3).encode("ab") == [257, 256]
    assert load(llama3 | {"tokenizer.ggml.add_bos_token": False}).encode("ab") == [256]


def test_whole_words_are_taken_where_the_family_does():
    tokens = [*ALPHABET, "abc"]
    for pre, ids in (("llama-bpe", [256]), ("gpt-2", [97, 98, 99]), ("kimi-k2", [256])):
        found = metadata("gpt2", tokens, merges=[], pre=pre, add_bos_token=False)
        ALPHABETIC = {token: n for n, token in enumerate(ALPHABET)}
        expected = ids if ids == [256] else [ALPHABETIC[letter] for letter in "abc"]
        assert load(found).encode("abc") == expected


def test_pieces_and_a_space_in_front():
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "▁a", "ab"]
    types = {0: 2, 1: 3, 2: 3} | dict.fromkeys(range(3, 259), 6)
    scores = np.array([0] * 259 + [-9, -8, -7, -1, -2], np.float32)
    found = metadata("llama", tokens, types, scores=scores)
    assert load(found).encode("ab é") == [1, 262, 261, 259, 3 + 0xC3, 3 + 0xA9]
    assert load(found | {"tokenizer.ggml.add_space_prefix": False}).encode("ab") == [1, 263]
    assert load(found | {"tokenizer.ggml.add_bos_token": False}).encode("ab") == [262, 261]


def test_no_tokenizer():
    assert load({"general.architecture": "llama"}) is None
    assert load(metadata("none", [])) is None


SMALL = pairs(pre="gpt-2", bos_token_id=0)


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": "bert"}, "model: expected gpt2, llama or none, found bert"),
    ({"model": 3}, "model: expected gpt2, llama or none, found 3"),
    ({"pre": "viking-9"}, "pre: expected one of default, "),
    ({"pre": ["qwen2"]}, "pre: expected one of"),
    ({"tokens": None}, "tokens: expected an array of strings"),
    ({"tokens": np.zeros(4, np.int32)}, "tokens: expected an array of strings, found ndarray"),
    ({"tokens": []}, "tokens: expected an array of strings"),
    ({"tokens": [*ALPHABET[:-1], "a"]}, "tokens: token 255 has the text of"),
    ({"tokens": [*ALPHABET[:-1], ""]}, "tokens: token 255 has no text"),
    ({"token_type": np.ones(255, np.int32)}, "token_type: expected 256 numbers, one for each token, found 255 int32"),
    ({"token_type": np.ones(256, np.float32)}, "token_type: expected 256 numbers"),
    ({"token_type": np.full(256, 7, np.int32)}, "token_type: expected numbers from 1 to 6, found 7"),
    ({"merges": None}, "merges: expected an array of strings"),
    ({"merges": ["ab"]}, "merge 0: expected two tokens with a space between, found ab"),
    ({"merges": ["a b c"]}, "merge 0: expected two tokens"),
    ({"merges": ["a b"]}, "merge 0: ab is no token"),
    ({"bos_token_id": 256}, "bos_token_id: expected an id from 0 to 255, found 256"),
    ({"bos_token_id": -1}, "bos_token_id: expected an id"),
    ({"bos_token_id": None, "add_bos_token": True}, "add_bos_token: expected an id of that token beside it"),
    ({"add_bos_token": 1}, "add_bos_token: expected true or false, found 1"),
    ({"add_sep_token": True}, "add_sep_token: expected false, found True"),
    ({"normalizer.lowercase": True}, "normalizer.lowercase: expected no such key, found True"),
    ({"precompiled_charsmap": np.zeros(3, np.uint8)}, "precompiled_charsmap: expected no such key"),
    ({"model": "llama"}, "scores: expected 256 numbers, one for each token, found NoneType"),
    ({"model": "llama", "scores": np.full(256, np.nan, np.float32)}, "scores: expected finite numbers"),
    ({"model": "llama", "scores": np.zeros(256, np.float32)}, "pre: expected no such key beside the model llama"),
])  # fmt: skip
def test_what_cannot_be_used_is_one_line(changes, message):
    found = SMALL | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(TokenizerError) as caught:
        load({key: value for key, value in found.items() if value is not None})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.gguf: ")


def test_more_tokens_than_rows():
    with pytest.raises(TokenizerError, match="token id 255, but the model's vocab_size is 200"):
        load(SMALL, 200)


def test_settings_by_field_are_those_of_the_files(tmp_path):
    """The numbers 3, 35, 41, 42 and 3, 4 mean in a SentencePiece model what vocab.gguf takes them for."""
    words = ["▁", "a", "b", "▁a"]
    model = making.sentencepiece(words)
    from_file = sentencepiece.build(Source(tmp_path, model, b"", {}, 1000))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    types = {0: 2, 1: 3, 2: 3} | dict.fromkeys(range(3, 259), 6)
    scores = np.array([0] * 259 + [0, -1, -2, -3], np.float32)
    assert gguf.build(tmp_path, metadata("llama", tokens, types, scores=scores), 1000) == from_file
