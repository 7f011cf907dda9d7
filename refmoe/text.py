"""Text to token ids and back, on top of the `tokenizers` library and a checkpoint's tokenizer.json.

Encoding is the library's, with two differences from its defaults. Special tokens that merely appear in the text
("</s>", "<|im_end|>") are text, unless the caller asks for them; those that tokenizer.json itself adds (BOS) are
still added. Truncation and padding settings of the file are switched off. Tokens that are added but not special
(runs of spaces, "<think>") are recognised as always. Decoding is defined in refmoe.detokenize.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.strict_json import open_regular, read_json, show, what_else
from refmoe.detokenize import WINDOW, ByteStream, WindowStream, byte_rule
from refmoe.errors import ConfigError, TokenizerError

MAX_FILE = 64 << 20  # bytes; the largest published tokenizer.json has some 33 MB


class Tokenizer:
    """encode and decode; `size` is one more than the largest id, `source` the file that errors name."""

    def __init__(self, library: Any, source: Path, start: int | None = None):
        self.source = source
        self._library = library
        self._start = start  # put in front of a text because tokenizer_config.json says so
        with _errors_name(source):
            library.no_truncation()
            library.no_padding()
            ids = library.get_vocab(with_added_tokens=True).values()
            self._special = {i for i, token in library.get_added_tokens_decoder().items() if token.special}
            decoder = json.loads(library.decoder.__getstate__()) if library.decoder is not None else {}
        if not ids:
            raise TokenizerError(f"{show(source)}: the vocabulary is empty")
        if len(set(ids)) != len(ids):
            raise TokenizerError(f"{show(source)}: two tokens share one id")
        self.size = max(ids) + 1
        self._bytes_of, self._strip = byte_rule(decoder)

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Ids of a text. add_special: with the BOS the checkpoint asks for; parse_special: special tokens written in
        the text are recognised. TokenizerError for text that is not Unicode (lone surrogates)."""
        if not isinstance(text, str):
            raise TokenizerError(f"text: expected str, found {type(text).__name__}")
        if lone := re.search("[\ud800-\udfff]", text):
            raise TokenizerError(f"text: character {lone.start()} is a lone surrogate (a byte that was not UTF-8)")
        with _errors_name(self.source):
            self._library.encode_special_tokens = not parse_special
            ids = self._library.encode(text, add_special_tokens=add_special).ids
        return [self._start, *ids] if add_special and self._start is not None else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens and unknown ids give none."""
        stream = self.stream()
        return "".join([stream.push(i) for i in ids]) + stream.flush()

    def stream(self, prompt: Sequence[int] = ()) -> ByteStream | WindowStream:
        """Text of ids that follow `prompt`, piece by piece: all pieces together are what the ids add to its text."""
        if self._bytes_of is None:
            return WindowStream(self._library_decode, prompt[-WINDOW:])
        stream = ByteStream(partial(self._piece, self._bytes_of), self._strip)
        for i in prompt:
            stream.push(i)
        return stream

    def _piece(self, bytes_of: Callable[[str], bytes], token_id: int) -> bytes:
        token = self._library.id_to_token(token_id) if 0 <= token_id < self.size else None
        return b"" if token is None or token_id in self._special else bytes_of(token)

    def _library_decode(self, ids: list[int]) -> str:
        with _errors_name(self.source):
            return str(self._library.decode([i for i in ids if 0 <= i < self.size], skip_special_tokens=True))


def load(directory: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer of a checkpoint directory, None without tokenizer.json. TokenizerError if it cannot be used or
    knows ids the model has no row for."""
    path = inside(Path(directory), "tokenizer.json", TokenizerError)
    if not os.path.lexists(path):
        return None
    with open_regular(path, TokenizerError) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise TokenizerError(f"{show(path)}: has {size} bytes, at most {MAX_FILE} are read")
        content = file.read(MAX_FILE)
    if other := what_else(content[:200]):
        raise TokenizerError(f"{show(path)}: this is {other}")
    from tokenizers import Tokenizer as Library

    with _errors_name(path):
        library = Library.from_buffer(content)
        start = _configured_start(inside(path.parent, "tokenizer_config.json", TokenizerError), library)
    tokenizer = Tokenizer(library, path, start)
    if tokenizer.size > vocab_size:
        found = f"token id {tokenizer.size - 1}, but the model's vocab_size is {vocab_size}"
        raise TokenizerError(f"{show(path)}: {found}")
    return tokenizer


def boundary_ids(directory: Path, config: dict[str, Any]) -> tuple[int | None, tuple[int, ...]]:
    """(bos_token_id or None, all eos_token_ids): generation_config.json's where it has them, else config.json's."""
    path = inside(Path(directory), "generation_config.json", ConfigError)
    found: dict[str, tuple[int, ...]] = {"bos_token_id": (), "eos_token_id": ()}
    sources = [(Path(directory) / "config.json", config)]
    if path.exists():
        sources.append((path, read_json(path, "generation config")))
    for source, values in sources:
        for key in found:
            value = values.get(key)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            if any(type(i) is not int or i < 0 for i in ids):
                raise ConfigError(f"{show(source)}: {key}: expected a token id or a list of them, found {show(value)}")
            found[key] = tuple(ids) or found[key]
    return next(iter(found["bos_token_id"]), None), found["eos_token_id"]


def _configured_start(path: Path, library: Any) -> int | None:
    """BOS by tokenizer_config.json's add_bos_token, where tokenizer.json's post-processor adds nothing itself."""
    if library.num_special_tokens_to_add(False) or not path.exists():
        return None
    config = read_json(path, "tokenizer config", TokenizerError)
    if config.get("add_bos_token") is not True:
        return None
    token = config.get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    start: int | None = library.token_to_id(token) if isinstance(token, str) else None
    if start is None:
        raise TokenizerError(f"{show(path)}: add_bos_token is true, but no token is bos_token {show(token, 40)}")
    return start


@contextmanager
def _errors_name(source: Path) -> Iterator[None]:
    """Whatever the library raises becomes a TokenizerError; a Rust panic is no Exception, so BaseException."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, TokenizerError):
        raise
    except BaseException as reason:
        line = (str(reason).splitlines() or [type(reason).__name__])[0]
        raise TokenizerError(f"{show(source)}: {show(line)}") from reason
