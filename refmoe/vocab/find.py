"""Tokenizer files as published, turned into the one form that the `tokenizers` library reads: the text of a
tokenizer.json.

A GGUF file holds its tokenizer (vocab.gguf). A directory is asked in this order: tokenizer.json (taken as it is), a
rank file of tiktoken (vocab.tiktoken), vocab.json with merges.txt (vocab.pairs), a SentencePiece model
(vocab.sentencepiece). Large results are kept in the user's cache (vocab.cache), so that only the first start pays for
building.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.strict_json import show
from refmoe.errors import TokenizerError
from refmoe.vocab import cache, gguf, pairs, sentencepiece, tiktoken
from refmoe.vocab.files import Source, read, settings

BUILDERS: tuple[tuple[str, Callable[[Source], dict]], ...] = (
    ("tiktoken.model", tiktoken.build),
    ("*.tiktoken", tiktoken.build),
    ("vocab.json", pairs.build),
    ("tokenizer.model", sentencepiece.build),
    ("tokenizer.model.v*", sentencepiece.build),
)


def find(directory: Path, vocab_size: int, metadata: dict[str, Any] | None = None) -> tuple[Path, bytes] | None:
    """(the file that holds the vocabulary, the text of a tokenizer.json), None when there is no tokenizer.
    TokenizerError if it cannot be used. A GGUF file is asked nothing but its `metadata`."""
    if metadata:
        made = gguf.build(directory, metadata, vocab_size)
        return (directory, json.dumps(made, ensure_ascii=False).encode()) if made else None
    ready = inside(directory, "tokenizer.json", TokenizerError)
    if ready.exists() or ready.is_symlink():
        return ready, read(ready)
    for pattern, build in BUILDERS:
        names = sorted(path.name for path in directory.glob(pattern))
        if len(names) > 1:
            raise TokenizerError(f"{show(directory)}: expected one {pattern}, found {', '.join(names[:5])}")
        if names:
            return _built(directory, names[0], build, vocab_size)
    if (directory / "tekken.json").exists():
        raise TokenizerError(f"{show(directory / 'tekken.json')}: not supported alone; tokenizer.json is needed")
    return None


def _built(directory: Path, name: str, build: Callable[[Source], dict], vocab_size: int) -> tuple[Path, bytes]:
    path = inside(directory, name, TokenizerError)
    merges = inside(directory, "merges.txt", TokenizerError)
    other = read(merges) if name == "vocab.json" else b""
    source = Source(path, read(path), other, settings(directory), vocab_size)
    return path, cache.kept(source, lambda: json.dumps(build(source), ensure_ascii=False).encode())
