"""Tokenizers put into the metadata of GGUF: read again (vocab.gguf, checked on its own) they give the published ids."""

import json

import making
import pytest

from refmoe import text
from refmoe.detokenize import byte_alphabet
from refmoe.errors import TokenizerError
from refmoe.vocab import gguf_export
from tests import fakes


def exported(folder, size, start=None, ends=()):
    """(keys, the tokenizer that is read from them)."""
    found = gguf_export.metadata(folder, size, start, ends)
    return found, text.load(text.Path("m.gguf"), size, {f"tokenizer.ggml.{key}": found[key] for key in found})


@pytest.mark.shared
@pytest.mark.parametrize(("kind", "version", "size"), [("model", "v1", 32000), ("json", "v3", 32768)])
def test_mistral(tmp_path, kind, version, size):
    name = f"tokenizer-{version}.json.gz" if kind == "json" else f"tokenizer.model.{version}.gz"
    (tmp_path / f"tokenizer.{kind}").write_bytes(making.published(f"tok-mistral/{name}"))
    found, tokenizer = exported(tmp_path, size, 1, (2,))
    assert (found["model"], found["add_bos_token"], found["eos_token_id"]) == ("llama", True, 2)
    for content, ids in making.cases(f"tok-mistral/vectors-{version}.json.gz"):
        assert tokenizer.encode(content, parse_special=True) == [1, *ids]


@pytest.mark.slow
@pytest.mark.shared
def test_qwen(tmp_path):
    merges = making.published("tok-qwen/merges.txt.gz")
    vocab = {character: n for n, character in enumerate(byte_alphabet())}
    for line in merges.decode().rstrip("\n").split("\n"):
        vocab[line.replace(" ", "")] = len(vocab)
    config = making.published("tok-qwen/tokenizer_config.json")
    making.write(tmp_path, vocab__json=vocab, merges__txt=merges, tokenizer_config__json=config)
    found, tokenizer = exported(tmp_path, 151936, None, (151645, 151643))
    assert (found["pre"], found["add_bos_token"]) == ("qwen2", False)
    assert (found["eos_token_id"], found["eot_token_id"]) == (151645, 151643)
    for content, ids in making.cases("tok-qwen/vectors.json.gz"):
        assert tokenizer.encode(content) == ids
    assert found["tokens"][151935] == "[PAD151935]" and found["token_type"][151935] == 5


@pytest.mark.slow
@pytest.mark.shared
def test_kimi(tmp_path):
    facts = json.loads(making.published("tok-kimi-k2/special_tokens.json"))
    names = {c: i for part in ("special", "added_not_special") for c, i in facts[part].items()}
    decoder = {str(i): {"content": c, "special": c in facts["special"]} for c, i in names.items()}
    making.write(tmp_path, tiktoken__model=making.published("tok-kimi-k2/tiktoken.model.gz"),
                 tokenizer_config__json={"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder})
    found, tokenizer = exported(tmp_path, 163840, None, (163586,))
    assert found["pre"] == "kimi-k2" and len(found["merges"]) > 163000
    for content, ids in making.cases("tok-kimi-k2/vectors.json.gz"):
        assert tokenizer.encode(content) == ids


def test_byte_pairs_and_pieces(tmp_path):
    found, tokenizer = exported(fakes.write_tokenizer(tmp_path / "a", fakes.byte_level()), 260)
    assert (found["model"], found["pre"], found["add_bos_token"]) == ("gpt2", "gpt-2", False)
    assert list(found["token_type"][255:]) == [1, 3, 3, 5, 5]
    assert tokenizer.encode("a<end>", parse_special=True)[-1] == 257
    other = fakes.write_tokenizer(tmp_path / "b", fakes.byte_level(), add_bos_token=True, bos_token="<s>")
    found, tokenizer = exported(other, 258)
    assert tokenizer.encode("a")[0] == 256 == found["bos_token_id"]
    found, tokenizer = exported(fakes.write_tokenizer(tmp_path / "c", fakes.fallback()), 290, 1, (2,))
    assert list(found["token_type"][:4]) == [2, 3, 3, 6] and found["add_space_prefix"] is True
    original = text.load(tmp_path / "c", 290)
    for content in ("a b", "ab z", "é"):
        assert tokenizer.encode(content) == original.encode(content)
    assert gguf_export.metadata(tmp_path, 9, None, (3,)) == {"model": "none", "eos_token_id": 3}


@pytest.mark.parametrize(("change", "part"), [
    (lambda made: made["model"].update(type="Unigram"), "model Unigram"),
    (lambda made: made["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer"),
    (lambda made: made.update(normalizer={"type": "NFKC"}), "normalizer"),
    (lambda made: made.update(pre_tokenizer={"type": "Whitespace"}), "add_prefix_space"),
    (lambda made: made["model"].update(merges=["a b"]), "merge 0: ab is no token"),
    (lambda made: made["added_tokens"].append(fakes.special(300, "<far>")), "ids"),
])  # fmt: skip
def test_what_has_no_form(tmp_path, change, part):
    made = fakes.byte_level()
    change(made)
    with pytest.raises(TokenizerError, match=part):
        exported(fakes.write_tokenizer(tmp_path, made), 260)
