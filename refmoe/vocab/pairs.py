"""vocab.json with merges.txt: byte pairs as published beside (or, here, instead of) a tokenizer.json.

The two files do not say how text is split: tokenizer_class or model_type must name Qwen (its own pattern, NFC) or
GPT-2.
"""

from typing import Any

from refmoe.checkpoint.strict_json import parse, show
from refmoe.errors import TokenizerError
from refmoe.vocab import bpe, patterns
from refmoe.vocab.files import Source, added_tokens


def build(source: Source) -> dict[str, Any]:
    """The tokenizer.json of vocab.json and merges.txt."""
    kind = source.settings.get("tokenizer_class")
    name = str(source.settings.get("model_type") if kind is None else kind).lower().removesuffix("fast")
    if name.startswith("qwen"):
        pattern, normalizer = patterns.QWEN, {"type": "NFC"}
    elif name in ("gpt2tokenizer", "gpt2"):
        pattern, normalizer = None, None
    else:
        raise source.fail("how text is split is not known: expected tokenizer_class Qwen2Tokenizer or GPT2Tokenizer in "
                          f"tokenizer_config.json, found {show(kind, 40)}")  # fmt: skip
    vocab, added = _vocabulary(source), added_tokens(source)
    for number, entry in added.items():
        vocab[entry["content"]] = number  # so that the library keeps these ids whatever gaps are between them
    return bpe.byte_level(vocab, _merges(source, vocab), pattern, list(added.values()), False, normalizer)


def _vocabulary(source: Source) -> dict[str, int]:
    vocab = parse(source.content, show(source.path), TokenizerError)
    if not isinstance(vocab, dict) or not vocab:
        raise source.fail("expected an object of token: id")
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number < source.vocab_size:
            raise source.fail(f"token {show(token, 40)}: expected an id from 0 to {source.vocab_size - 1} "
                              f"(vocab_size), found {show(number, 40)}")  # fmt: skip
    return vocab


def _merges(source: Source, vocab: dict[str, int]) -> list[tuple[str, str]]:
    where = show(source.path.parent / "merges.txt")
    try:
        lines = source.other.decode("utf-8").split("\n")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"{where}: not UTF-8 at byte {problem.start}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, space, right = line.rstrip("\r").partition(" ")
        if not space or left not in vocab or right not in vocab or left + right not in vocab:
            raise TokenizerError(f"{where}: line {number}: expected two tokens of vocab.json whose joined text is one, "
                                 f"found {show(line, 60)}")  # fmt: skip
        found.append((left, right))
    return found
