"""Byte pair encoding as the `tokenizers` library wants it: a vocabulary and a list of merges, best first.

tiktoken and SentencePiece have no list of merges: they join the two neighbours whose joined token ranks best, again and
again, the leftmost of equals first. The list made here holds every way to cut a token into two tokens, in the order of
the ranks of the joined ones, and gives the same result on every text. Why: take the first join that makes a token t of
some stretch of text. Until then nothing crossed its ends, so the joins inside were the ones the stretch would see
alone; the two parts are therefore the same wherever t is made, and they are one of its cuts. The list allows no join
that the ranks forbid, none is missing, and of two joins the better rank still comes first.
"""

from collections.abc import Sequence
from typing import Any

from refmoe.detokenize import byte_alphabet


def merges(ranked: Sequence[str], ids: dict[str, int]) -> list[tuple[str, str]]:
    """All cuts of the tokens into two tokens of `ids`, in the order of `ranked`; cuts of one token by the ids of their
    parts."""
    found = []
    for token in ranked:
        if len(token) == 2:
            if token[0] in ids and token[1] in ids:
                found.append((token[0], token[1]))
        elif len(token) > 2:
            cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
            if len(cuts) > 1:
                cuts.sort(key=lambda cut: (ids[cut[0]], ids[cut[1]]))
            found += cuts
    return found


def byte_names(tokens: Sequence[bytes]) -> list[str]:
    """Tokens in GPT-2's alphabet, one character per byte."""
    table = {byte: character for character, byte in byte_alphabet().items()}
    return [token.decode("latin-1").translate(table) for token in tokens]


def byte_level(vocab: dict[str, int], pairs: Sequence[Any], pattern: str | None, added: Sequence[dict[str, Any]],
               whole_words: bool, normalizer: dict[str, Any] | None = None) -> dict[str, Any]:
    """A tokenizer.json: text cut by `pattern` (None: GPT-2's), then pairs of bytes joined. whole_words: a piece that is
    a token is taken without joining, as tiktoken does."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern is None}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added), "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]} if pattern else level,
        "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": whole_words,
                  "vocab": vocab, "merges": [f"{left} {right}" for left, right in pairs]},
    }  # fmt: skip
