"""SentencePiece models (tokenizer.model): pieces with scores, in protobuf.

bpe      neighbours are joined into the piece of the best score (vocab.bpe); unknown characters become bytes
unigram  the cut of the text with the best sum of scores
White space is U+2581 and one is put in front of the text. The result is the tokenizer.json that is published beside
such files; the SentencePiece library itself differs from it for text that begins with a space: it puts U+2581 in front
of that too.
"""

import base64
import math
from typing import Any

from refmoe.checkpoint.strict_json import show
from refmoe.vocab import bpe, protobuf
from refmoe.vocab.files import Source, added_token, added_tokens

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # types of pieces
UNIGRAM, BPE = 1, 2  # types of models


def build(source: Source) -> dict[str, Any]:
    """The tokenizer.json of a SentencePiece model."""
    try:
        parts = list(protobuf.fields(source.content))
        pieces = [_piece(source, value, n) for n, value in enumerate(v for field, v in parts if field == 1)]
        trainer, normal = (_settings(parts, field) for field in (2, 3))
    except (ValueError, TypeError) as problem:
        raise source.fail(f"not a SentencePiece model: {show(problem)}") from None
    return of_pieces(source, pieces, trainer, normal)


def of_pieces(source: Source, pieces: list[tuple[str, float, int]], trainer: dict[int, Any],
              normal: dict[int, Any]) -> dict[str, Any]:
    """The tokenizer.json of pieces (text, score, type) and the trainer's and normalizer's settings by field number."""
    ids = {piece: number for number, (piece, _, _) in enumerate(pieces)}
    if not pieces or len(ids) < len(pieces):
        raise source.fail("two pieces have the same text" if pieces else "not a SentencePiece model: it has no pieces")
    added = _added(source, pieces, ids)
    prefix = normal.get(3, 1) == 1
    special = {number: piece for piece, number in ids.items() if pieces[number][2] == CONTROL}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": _normalizer(source, normal),
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first" if prefix else "never",
                          "split": False},
        "post_processor": around(source, special, trainer),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": int(prefix), "stop": 0}]},
        "model": _model(source, pieces, ids, trainer, added),
    }  # fmt: skip


def _piece(source: Source, value: Any, number: int) -> tuple[str, float, int]:
    found = dict(protobuf.fields(value))
    text, score, kind = found.get(1, b""), found.get(2, 0.0), found.get(3, NORMAL)
    piece = text.decode("utf-8") if isinstance(text, bytes) else ""
    if not piece or not isinstance(score, float) or not math.isfinite(score) or kind not in range(1, 7):
        raise ValueError(f"piece {number}: expected a text, a finite score and a type from 1 to 6")
    if number >= source.vocab_size:
        raise source.fail(f"token id {number}, but the model's vocab_size is {source.vocab_size}")
    return piece, score, int(kind)


def _settings(parts: list, field: int) -> dict[int, Any]:
    return dict(protobuf.fields(b"".join(value for number, value in parts if number == field)))


def _added(source: Source, pieces: list, ids: dict[str, int]) -> list[dict[str, Any]]:
    """Control pieces, symbols that are never cut, and what tokenizer_config.json adds behind the pieces. It may also
    give control pieces other names (files of one vocabulary differ in them); `ids` then has these."""
    found = {n: added_token(n, piece, kind != USER) for n, (piece, _, kind) in enumerate(pieces)
             if kind in (UNKNOWN, CONTROL, USER)}  # fmt: skip
    for number, entry in added_tokens(source).items():
        other = number < len(pieces) and entry["content"] not in ids
        if ids.get(entry["content"], number) != number or (other and pieces[number][2] != CONTROL):
            raise source.fail(f"added_tokens_decoder: token {show(entry['content'], 40)} has the id of another piece, "
                              f"{number}")  # fmt: skip
        if other:
            del ids[pieces[number][0]]
            ids[entry["content"]] = number
        found[number] = entry
    return [found[number] for number in sorted(found)]


def _normalizer(source: Source, normal: dict[int, Any]) -> dict[str, Any] | None:
    if normal.get(5, 1) != 1:
        raise source.fail("escape_whitespaces: expected true, found false")
    steps: list[dict[str, Any]] = []
    if table := normal.get(2):
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode("ascii")})
    if normal.get(4, 1) == 1:  # remove_extra_whitespaces; one space in front becomes the one that is put there
        steps += [{"type": "Strip", "strip_left": False, "strip_right": True},
                  {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]  # fmt: skip
    return {"type": "Sequence", "normalizers": steps} if steps else None


def around(source: Source, special: dict[int, str], trainer: dict[int, Any]) -> dict[str, Any] | None:
    """Tokens put around a text: BOS unless add_bos_token says no, EOS only if add_eos_token says so."""
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    used = {}
    for key, default, field, place in (("add_bos_token", True, 41, 0), ("add_eos_token", False, 42, 1)):
        wanted, number = source.settings.get(key), trainer.get(field, 1 + place)
        if (default if wanted is None else wanted is True) and number in special:
            token = special[number]
            single.insert(place * len(single), {"SpecialToken": {"id": token, "type_id": 0}})
            used[token] = {"id": token, "ids": [number], "tokens": [token]}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": used} if used else None


def _model(source: Source, pieces: list, ids: dict[str, int], trainer: dict[int, Any], added: list) -> dict[str, Any]:
    kind, fallback = trainer.get(3, UNIGRAM), trainer.get(35, 0) == 1
    bytes_found = sum(1 for _, _, kind in pieces if kind == BYTE)
    if fallback and any(f"<0x{byte:02X}>" not in ids for byte in range(256)):
        raise source.fail(f"byte_fallback: expected 256 pieces <0x00> to <0xFF>, found {bytes_found}")
    unknown = next((n for n, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN), None)
    if unknown is None:
        raise source.fail("expected a piece for unknown text, found none")
    if kind == UNIGRAM:
        scored = [[piece, score] for piece, score, _ in pieces]
        return {"type": "Unigram", "unk_id": unknown, "vocab": scored, "byte_fallback": fallback}
    if kind != BPE:
        raise source.fail(f"model_type: expected 1 (unigram) or 2 (bpe), found {show(kind, 20)}")
    text = {piece: n for piece, n in ids.items() if pieces[n][2] in (NORMAL, USER)}
    best = sorted(text, key=lambda piece: -pieces[text[piece]][1])
    later = {entry["content"]: entry["id"] for entry in added}
    return {"type": "BPE", "dropout": None, "unk_token": pieces[unknown][0], "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": fallback, "ignore_merges": False,
            "vocab": ids | later, "merges": bpe.merges(best, text)}  # fmt: skip
