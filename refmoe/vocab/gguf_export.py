"""The metadata of a tokenizer for a GGUF file: the inverse of vocab.gguf, out of whatever files the tokenizer lies in.

gpt2    byte pairs: tokens, types, merges, and `pre`, the name of the patterns that cut a text (vocab.patterns)
llama   SentencePiece BPE: the score of a piece is the negative place of the first merge that makes it; pieces that no
        merge makes are behind all others
Ids without a token are filled with unused ones. Refused is what GGUF cannot say: other models and normalizers, patterns
without a name, tokens around a text that are no BOS and EOS. The result is read again and compared with the original
before it is given out; only NFC may be more than before, as GGUF has no key for it (vocab.gguf).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refmoe.checkpoint.strict_json import show
from refmoe.errors import TokenizerError
from refmoe.vocab import find, gguf, patterns
from refmoe.vocab.files import settings, token_text
from refmoe.vocab.sentencepiece import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER

NFC = {"type": "NFC"}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, SPACES]}
ROLES = ("eos", "eot", "eom")  # keys for the ids that end a text


def metadata(directory: Path, vocab_size: int, start: int | None, ends: Sequence[int]) -> dict[str, Any]:
    """Keys behind tokenizer.ggml., none but the ids of `start` and `ends` without a tokenizer. TokenizerError."""
    roles = {f"{role}_token_id": end for role, end in zip(ROLES, ends, strict=False)}
    roles |= {} if start is None else {"bos_token_id": start}
    found = find.find(directory, vocab_size)
    if found is None:
        return {"model": "none"} | roles
    source, content = found
    original, configured = json.loads(content), settings(directory)
    try:
        made = _tokens(original, vocab_size)
        made |= (_pieces if original["model"].get("byte_fallback") else _byte_pairs)(original, made["tokens"])
        for role, ids in zip(("bos", "eos"), _around(original, configured), strict=True):
            made[f"add_{role}_token"] = bool(ids)
            roles |= {f"{role}_token_id": ids[0]} if ids else {}
        made |= roles
        keys = {f"{gguf.KEY}{key}": value for key, value in made.items()}
        again = gguf.build(source, keys, vocab_size) or {}
        problem = next((part for part, same in _compared(original, configured, again) if not same), None)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = show(error, 80)
    if problem:
        raise TokenizerError(f"{show(source)}: expected a tokenizer that GGUF has a form for, found another: {problem}")
    return made


def _byte_pairs(original: dict[str, Any], _: list[str]) -> dict[str, Any]:
    model, found = original["model"], _patterns(original["pre_tokenizer"])
    whole = bool(model.get("ignore_merges"))
    names = [name for name, known in patterns.GGUF.items() if known == found and (name in gguf.WHOLE) == whole]
    if model["type"] != "BPE" or not names:
        raise ValueError(f"model {model['type']}, pre_tokenizer")
    return {"model": "gpt2", "pre": names[0], "merges": [" ".join(pair) for pair in _merges(original)]}


def _patterns(pre_tokenizer: dict[str, Any]) -> tuple[str, ...]:
    """The expressions that cut a text."""
    *splits, level = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = {(one["type"], one["behavior"], one["invert"]) for one in splits}
    if (level["type"], level["add_prefix_space"]) != ("ByteLevel", False) or kinds > {("Split", "Isolated", False)}:
        raise ValueError("pre_tokenizer")
    return tuple(one["pattern"]["Regex"] for one in splits) + ((patterns.GPT2,) if level["use_regex"] else ())


def _merges(original: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in original["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _pieces(original: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    model, cut = original["model"], original["pre_tokenizer"]
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(_merges(original)):
        rank.setdefault(left + right, number)
    return {"model": "llama", "scores": np.array([-rank.get(token, len(rank)) for token in tokens], np.float32),
            "unknown_token_id": model["vocab"][model["unk_token"]], "add_space_prefix":
            original["normalizer"] == PREPEND or (cut is not None and cut["prepend_scheme"] != "never")}  # fmt: skip


def _by_id(original: dict[str, Any]) -> dict[int, str]:
    found = {number: token for token, number in original["model"]["vocab"].items()}
    return found | {entry["id"]: entry["content"] for entry in original["added_tokens"]}


def _tokens(original: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """All tokens and their types."""
    model, places = original["model"], _by_id(original)
    types = {entry["id"]: CONTROL if entry["special"] else USER for entry in original["added_tokens"]}
    if model.get("byte_fallback"):
        types |= {model["vocab"].get(f"<0x{byte:02X}>", -1): BYTE for byte in range(256)}
        types[model["vocab"][model["unk_token"]]] = UNKNOWN
    kinds = [types.get(n, NORMAL if n in places else UNUSED) for n in range(vocab_size)]
    return {"tokens": [places.get(n, f"[PAD{n}]") for n in range(vocab_size)], "token_type": np.array(kinds, np.int32)}


def _around(made: dict[str, Any], configured: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Ids that are put before and behind a text."""
    outer = made["post_processor"] or {"type": "none"}
    steps = outer["processors"] if outer["type"] == "Sequence" else [outer]
    sides: tuple[list[int], list[int]] = ([], [])
    for one in (one for one in steps if one["type"] == "TemplateProcessing"):
        names = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in one["single"]]
        where = names.index(None)
        for side, among in zip(sides, (names[:where], names[where + 1 :]), strict=True):
            side += [one["special_tokens"][name]["ids"][0] for name in among]
    if not sides[0] and configured.get("add_bos_token") is True:
        sides[0].extend(n for n, token in _by_id(made).items() if token == token_text(configured.get("bos_token")))
    if len(sides[0]) > 1 or len(sides[1]) > 1:
        raise ValueError("tokens around a text")
    return sides


def _compared(original: dict[str, Any], configured: dict[str, Any], again: dict[str, Any]) -> list[tuple[str, bool]]:
    """(part, the same in both)."""
    tokens, others = _by_id(original), _by_id(again)
    added = [{(e["id"], e["content"], e["special"]) for e in one["added_tokens"]} for one in (original, again)]
    unknown = original["model"].get("unk_token")
    found = [("ids", all(others.get(n) == token for n, token in tokens.items())),
             ("added tokens", {e for e in added[0] ^ added[1] if e[1] != unknown} == set()),
             ("tokens around a text", _around(original, configured) == _around(again, {}))]  # fmt: skip
    if again["model"]["byte_fallback"]:
        mine, theirs = ([left + right for left, right in _merges(one)] for one in (original, again))
        return [*found, ("normalizer", original["normalizer"] in (None, PREPEND)),
                ("order of merges", list(dict.fromkeys(mine)) == list(dict.fromkeys(theirs)))]  # fmt: skip
    return [*found, ("normalizer", original["normalizer"] in (None, again["normalizer"])),
            ("merges", _merges(original) == _merges(again)),
            ("patterns", _patterns(original["pre_tokenizer"]) == _patterns(again["pre_tokenizer"]))]  # fmt: skip
