"""The tokenizer inside a GGUF file: tokenizer.ggml.tokens with types, and merges (gpt2) or scores (llama).

gpt2    byte pairs; tokenizer.ggml.pre names how text is split before. The patterns are those of the published
        tokenizer.json or rank file of the families, so Qwen's text is put in NFC, which llama.cpp leaves out. Kimi's
        and gpt-oss's pairs follow from the ranks, which are the ids, as in their rank files. Without `pre`, and for
        "default", the pieces are those of llama.cpp's default.
llama   SentencePiece BPE: pieces with scores, byte fallback, a space in front unless add_space_prefix is false.

Tokens of type 3 (control) and 2 (unknown) are special, those of type 4 (user defined) are added but not special, those
of type 5 (unused) stand for ids without a token. Of the keys of the tokenizer each is used, ignored, or refused here.
"""

from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint.gguf import Value
from refmoe.checkpoint.strict_json import show
from refmoe.vocab import bpe, patterns, sentencepiece
from refmoe.vocab.files import Source, added_token
from refmoe.vocab.sentencepiece import BYTE, CONTROL, UNKNOWN, UNUSED, USER

KEY = "tokenizer.ggml."
RANKED = ("kimi-k2", "gpt-4o")  # pre-tokenizers of families that are published as rank files
WHOLE = (*RANKED, "llama-bpe", "llama3", "llama-v3", "tekken")  # a piece that is a token is taken without joining
BOS = ("llama-bpe", "llama3", "llama-v3", "tekken")  # add_bos_token where the file does not say
USED = {"model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id", "eot_token_id",
        "eom_token_id", "unknown_token_id", "add_bos_token", "add_eos_token", "add_space_prefix"}  # fmt: skip
IGNORED = {"padding_token_id", "mask_token_id", "cls_token_id", "seperator_token_id", "prefix_token_id",
           "suffix_token_id", "middle_token_id", "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id",
           "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id", "token_type_count",
           "suppress_tokens"}  # what encoding does not know
FIXED = {"add_sep_token": False, "remove_extra_whitespaces": False}
NUMBERS = {"token_type": "iu", "scores": "iuf"}  # kinds of NumPy types


def build(path: Path, metadata: dict[str, Value], vocab_size: int) -> dict[str, Any] | None:
    """The tokenizer.json of the metadata of a GGUF file, None where there is no tokenizer. TokenizerError."""
    own = {key.removeprefix(KEY): value for key, value in metadata.items() if key.startswith(KEY)}
    kind = own.get("model", "none")
    if kind in ("none", "no_vocab"):
        return None
    source = Source(path, b"", b"", {}, vocab_size)
    if kind not in ("gpt2", "llama"):
        raise source.fail(f"{KEY}model: expected gpt2, llama or none, found {show(kind, 40)}")
    for key, value in own.items():
        if value is not FIXED.get(key, value) or key not in USED | IGNORED | FIXED.keys():
            wanted = str(FIXED.get(key, "no such key")).lower()
            raise source.fail(f"{KEY}{show(key, 60)}: expected {wanted}, found {show(value, 40)}")
    settings = {key: _flag(source, own, key) for key in ("add_bos_token", "add_eos_token", "add_space_prefix")}
    source = Source(path, b"", b"", settings, vocab_size)
    tokens, types = _tokens(source, own)
    return (_byte_pairs if kind == "gpt2" else _pieces)(source, own, tokens, types)


def _flag(source: Source, own: dict[str, Value], key: str) -> bool | None:
    value = own.get(key)
    if value is not None and type(value) is not bool:
        raise source.fail(f"{KEY}{key}: expected true or false, found {show(value, 40)}")
    return value


def _numbers(source: Source, own: dict[str, Value], key: str, count: int) -> list[Any]:
    values = own.get(key)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in NUMBERS[key] or len(values) != count:
        found = f"{len(values)} {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise source.fail(f"{KEY}{key}: expected {count} numbers, one for each token, found {found}")
    if key == "scores" and not np.isfinite(values).all():
        raise source.fail(f"{KEY}{key}: expected finite numbers")
    return [float(value) for value in values] if key == "scores" else list(values.tolist())


def _tokens(source: Source, own: dict[str, Value]) -> tuple[list[str], list[int]]:
    tokens = own.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        raise source.fail(f"{KEY}tokens: expected an array of strings, found {type(tokens).__name__}")
    if len(tokens) > source.vocab_size:
        found = f"token id {len(tokens) - 1}, but the model's vocab_size is {source.vocab_size}"
        raise source.fail(f"{KEY}tokens: {found}")
    types = _numbers(source, own, "token_type", len(tokens)) if "token_type" in own else [1] * len(tokens)
    seen: dict[str, int] = {}
    for number, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if not 1 <= kind <= 6:
            raise source.fail(f"{KEY}token_type: expected numbers from 1 to 6, found {kind}")
        if kind != UNUSED and (not token or seen.setdefault(token, number) != number):
            other = f"the text of {seen[token]}" if token else "no text"
            raise source.fail(f"{KEY}tokens: token {number} has {other}")
    return tokens, types


def _role(source: Source, own: dict[str, Value], key: str, tokens: list[str], default: int | None) -> int | None:
    """The id of a token with a role."""
    number = own.get(f"{key}_token_id", default)
    if number is not None and (type(number) is not int or not 0 <= number < len(tokens)):
        raise source.fail(f"{KEY}{key}_token_id: expected an id from 0 to {len(tokens) - 1}, found {show(number, 40)}")
    return number


def _added(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    return [added_token(n, token, kind != USER) for n, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind in (UNKNOWN, CONTROL, USER)]  # fmt: skip


def _byte_pairs(source: Source, own: dict[str, Value], tokens: list[str], types: list[int]) -> dict[str, Any]:
    pre = own.get("pre", "default")
    if not isinstance(pre, str) or pre not in patterns.GGUF:
        raise source.fail(f"{KEY}pre: expected one of {', '.join(patterns.GGUF)}, found {show(pre, 60)}")
    vocab = {token: n for n, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != UNUSED}
    pairs: Any
    if pre in RANKED:
        plain = [token for token, kind in zip(tokens, types, strict=True) if kind == 1]
        pairs = bpe.merges(plain, {token: vocab[token] for token in plain})
    else:
        pairs = _merges(source, own, vocab)
    first, *rest = patterns.GGUF[pre]
    normalizer = {"type": "NFC"} if pre in ("qwen2", "deepseek-r1-qwen") else None
    made = bpe.byte_level(vocab, pairs, first, _added(tokens, types), pre in WHOLE, normalizer)
    if rest:
        split, level = made["pre_tokenizer"]["pretokenizers"]
        more = [split | {"pattern": {"Regex": pattern}} for pattern in rest]
        made["pre_tokenizer"]["pretokenizers"] = [split, *more, level]
    asked = {"add_bos_token": pre in BOS, "add_eos_token": False} | {k: v for k, v in source.settings.items() if
                                                                     v is not None}  # fmt: skip
    roles = {41: _role(source, own, "bos", tokens, None), 42: _role(source, own, "eos", tokens, None)}
    for key, role in (("add_bos_token", roles[41]), ("add_eos_token", roles[42])):
        if asked[key] and role is None:
            raise source.fail(f"{KEY}{key}: expected an id of that token beside it, found none")
    around = Source(source.path, b"", b"", asked, source.vocab_size)
    made["post_processor"] = sentencepiece.around(around, dict(enumerate(tokens)), roles) or made["post_processor"]
    return made


def _merges(source: Source, own: dict[str, Value], vocab: dict[str, int]) -> list[tuple[str, str]]:
    merges = own.get("merges")
    if not isinstance(merges, list):
        raise source.fail(f"{KEY}merges: expected an array of strings, found {type(merges).__name__}")
    found = []
    for number, merge in enumerate(merges):
        left, space, right = merge.partition(" ") if merge[:1] != " " else ("", "", "")
        if not space or " " in right:
            raise source.fail(f"{KEY}merges: merge {number}: expected two tokens with a space between, found "
                              f"{show(merge, 60)}")  # fmt: skip
        for token in (left, right, left + right):
            if token not in vocab:
                raise source.fail(f"{KEY}merges: merge {number}: {show(token, 60)} is no token")
        found.append((left, right))
    return found


def _pieces(source: Source, own: dict[str, Value], tokens: list[str], types: list[int]) -> dict[str, Any]:
    scores = _numbers(source, own, "scores", len(tokens))
    for key in ("pre", "merges"):
        if own.get(key, "default") != "default":
            raise source.fail(f"{KEY}{key}: expected no such key beside the model llama, found one")
    _role(source, own, "unknown", tokens, 0)
    pieces = [(token or f"[EMPTY{n}]", score, kind) for n, (token, score, kind) in
              enumerate(zip(tokens, scores, types, strict=True))]  # fmt: skip
    prefix = source.settings["add_space_prefix"]
    trainer = {3: sentencepiece.BPE, 35: int(BYTE in types), 41: _role(source, own, "bos", tokens, 1),
               42: _role(source, own, "eos", tokens, 2)}  # fmt: skip
    return sentencepiece.of_pieces(source, pieces, trainer, {3: 1 if prefix is None else int(prefix), 4: 0})
