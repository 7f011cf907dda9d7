"""Rank files of tiktoken: one line "base64-of-the-token rank" for each token. The family decides what the file does not
hold: the pattern and the special tokens.

kimi   tiktoken.model: Kimi-K2, Moonlight. The 256 ids after the ranks are special tokens: those that
       added_tokens_decoder names, the others <|reserved_token_ID|>.
o200k  o200k*.tiktoken: gpt-oss. The special tokens of o200k_harmony up to id 201087, unless added_tokens_decoder has
       others.
"""

import binascii
from typing import Any

from refmoe.checkpoint.strict_json import show
from refmoe.errors import TokenizerError
from refmoe.vocab import bpe, patterns
from refmoe.vocab.files import Source, added_token, added_tokens

MAX_BYTES = 1024  # of one token; published ones have at most 256
KIMI_SPECIAL = 256
KIMI_CLASSES = ("TikTokenTokenizer", "TikTokenTokenizerFast")
HARMONY_SIZE = 201088
HARMONY = {
    199998: "<|startoftext|>", 199999: "<|endoftext|>", 200002: "<|return|>", 200003: "<|constrain|>",
    200005: "<|channel|>", 200006: "<|start|>", 200007: "<|end|>", 200008: "<|message|>", 200012: "<|call|>",
    200018: "<|endofprompt|>",
}  # fmt: skip


def build(source: Source) -> dict[str, Any]:
    """The tokenizer.json of a rank file."""
    if source.path.name == "tiktoken.model":
        kind = source.settings.get("tokenizer_class")
        if kind is not None and kind not in KIMI_CLASSES:
            raise source.fail(f"tokenizer_class: expected {KIMI_CLASSES[0]} beside this file, found {show(kind, 40)}")
        pattern, special = patterns.KIMI, _kimi
    elif source.path.name.startswith("o200k"):
        pattern, special = patterns.O200K, _harmony
    else:
        raise source.fail("how text is split is known for tiktoken.model (Kimi) and o200k*.tiktoken (gpt-oss) only")
    tokens = ranks(source)
    names = bpe.byte_names(tokens)
    vocab = {name: rank for rank, name in enumerate(names)}
    return bpe.byte_level(vocab, bpe.merges(names, vocab), pattern, special(source, len(tokens)), whole_words=True)


def ranks(source: Source) -> list[bytes]:
    """The tokens in the order of their ranks, which must be 0, 1, 2, ...; every single byte must be one of them."""
    found: dict[int, bytes] = {}
    for number, line in enumerate(source.content.split(b"\n"), start=1):
        if not line.strip():
            continue
        code, _, digits = line.strip().partition(b" ")
        try:
            token, rank = binascii.a2b_base64(code, strict_mode=True), int(digits) if digits.isdigit() else -1
        except ValueError:
            token, rank = b"", -1
        if not 0 < len(token) <= MAX_BYTES or not 0 <= rank < source.vocab_size:
            raise _bad_line(source, number, line, token)
        if rank in found:
            raise source.fail(f"line {number}: rank {rank} comes twice")
        found[rank] = token
    tokens = [found[rank] for rank in sorted(found)]
    if not tokens or max(found) != len(tokens) - 1:
        missing = next((rank for rank in range(len(tokens)) if rank not in found), 0)
        raise source.fail(f"expected the ranks 0, 1, 2, ... without a gap, found none of rank {missing}")
    distinct = set(tokens)
    if len(distinct) < len(tokens):
        raise source.fail("two ranks have the same token")
    for byte in range(256):
        if bytes([byte]) not in distinct:
            raise source.fail(f"expected a token for every single byte, found none for 0x{byte:02x}")
    return tokens


def _bad_line(source: Source, number: int, line: bytes, token: bytes) -> TokenizerError:
    if len(token) > MAX_BYTES:
        return source.fail(f"line {number}: a token has {len(token)} bytes, at most {MAX_BYTES} are read")
    digits = line.strip().partition(b" ")[2]
    if token and digits.isdigit():
        return source.fail(f"line {number}: token id {show(digits.decode(), 20)}, but the model's vocab_size is "
                           f"{source.vocab_size}")  # fmt: skip
    return source.fail(f"line {number}: expected base64 of a token and its rank, found "
                       f"{show(line[:60].decode('latin-1'))}")  # fmt: skip


def _kimi(source: Source, base: int) -> list[dict[str, Any]]:
    named = added_tokens(source)
    if early := [number for number in named if number < base]:
        raise source.fail(f"added_tokens_decoder: expected ids from {base} on, after the ranks, found {early[0]}")
    last = max([min(base + KIMI_SPECIAL, source.vocab_size) - 1, *named])
    return [named.get(i) or added_token(i, f"<|reserved_token_{i}|>", True) for i in range(base, last + 1)]


def _harmony(source: Source, base: int) -> list[dict[str, Any]]:
    named = added_tokens(source)
    if not named and base == min(HARMONY):
        named = {number: added_token(number, content, True) for number, content in HARMONY.items()}
        named |= {HARMONY_SIZE - 1: added_token(HARMONY_SIZE - 1, f"<|reserved_{HARMONY_SIZE - 1}|>", True)}
    if early := [number for number in named if number < base]:
        raise source.fail(f"added_tokens_decoder: expected ids from {base} on, after the ranks, found {early[0]}")
    return [named.get(i) or added_token(i, f"<|reserved_{i}|>", True) for i in range(base, max(named, default=-1) + 1)]
