"""Text to token ids and back, on top of the `tokenizers` library and a checkpoint's tokenizer files (refmoe.vocab).

Encoding is the library's, with two differences from its defaults. Control tokens that merely appear in the text
("</s>", "<|im_end|>") are text, unless the caller asks for them; those that tokenizer.json itself adds (BOS) are
still added. Truncation and padding settings of the file are switched off. A token is a control token when the file
calls it special or when it has the shape <|...|> (some files do not call "<|User|>" special). Other added tokens (runs
of spaces, "<think>") are recognised as always. Decoding is defined in refmoe.detokenize.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.strict_json import read_json, show
from refmoe.detokenize import WINDOW, ByteStream, WindowStream, byte_rule
from refmoe.errors import ConfigError, TokenizerError
from refmoe.vocab.find import find

MAX_TEXT = 4 << 20  # characters that are encoded at once: a context of a million tokens; the library needs 0.5 GB then
_CONTROL = re.compile("<[|\uff5c].+[|\uff5c]>", re.DOTALL)
_PRIVATE = range(0xF0000, 0x10FF00)  # code points without meaning, which stand for added tokens in `encode_prompt`


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
            added = library.get_added_tokens_decoder()
            shaped = [token for token in added.values() if not token.special and _CONTROL.fullmatch(token.content)]
            if shaped:  # now the library skips them in text like special ones
                library.add_special_tokens([_special(token) for token in shaped])
            decoder = json.loads(library.decoder.__getstate__()) if library.decoder is not None else {}
        if not ids:
            raise TokenizerError(f"{show(source)}: the vocabulary is empty")
        if len(set(ids)) != len(ids):
            raise TokenizerError(f"{show(source)}: two tokens share one id")
        self.size = max(ids) + 1
        self.added = {i: token.content for i, token in added.items()}
        self.control = {t.content: i for i, t in added.items() if t.special or _CONTROL.fullmatch(t.content)}
        self._named = [token for token in self.added.values() if token.strip()]  # not runs of spaces
        self._special = {i for i, token in added.items() if token.special}
        self._alias: tuple[int, Any] | None = None
        self._bytes_of, self._strip = byte_rule(decoder)

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Ids of a text. add_special: with the BOS the checkpoint asks for; parse_special: special tokens written in
        the text are recognised. TokenizerError for text that is not Unicode (lone surrogates)."""
        _check(text)
        library = self._library
        if not parse_special and type(library.model).__name__ == "Unigram" and any(t in text for t in self.control):
            _, library = self._aliases(text)  # a unigram model would find the pieces of control tokens in the text
        with _errors_name(self.source):
            library.encode_special_tokens = not parse_special
            ids = library.encode(text, add_special_tokens=add_special).ids
        return [self._start, *ids] if add_special and self._start is not None else ids

    def encode_prompt(self, text: str, foreign: Iterable[int]) -> list[int]:
        """Ids of a rendered chat: all added tokens are recognised unless they begin at a `foreign` position.

        Foreign ones are text like any other. The library can only recognise all or none, so the others are written as
        private characters first, for a copy of the tokenizer that knows them under these names.
        """
        _check(text)
        own, found_foreign, at, foreign = [], False, 0, frozenset(foreign)
        names = sorted(self._named, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, names)) or "(?!)")
        while match := pattern.search(text, at):
            if match.start() in foreign:
                found_foreign, at = True, match.start() + 1
            else:
                own.append((match.start(), match.end()))
                at = match.end()
        if not found_foreign:
            with _errors_name(self.source):
                self._library.encode_special_tokens = False
                return list(self._library.encode(text, add_special_tokens=False).ids)
        base, library = self._aliases(text)
        number = {token: n for n, token in enumerate(self._named)}
        parts, at = [], 0
        for begin, end in own:
            parts += [text[at:begin], chr(base + number[text[begin:end]])]
            at = end
        with _errors_name(self.source):
            library.encode_special_tokens = False
            return list(library.encode("".join([*parts, text[at:]]), add_special_tokens=False).ids)

    def _aliases(self, text: str) -> tuple[int, Any]:
        """(first private character, the copy): the characters do not occur in the text."""
        used = {ord(character) for character in set(text)}
        count = len(self._named)
        if self._alias is None or used & set(range(self._alias[0], self._alias[0] + count)):
            for base in _PRIVATE[::count]:
                if not used & set(range(base, base + count)):
                    with _errors_name(self.source):
                        self._alias = base, _renamed(self._library, self._named, base)
                    break
            else:
                raise TokenizerError("text: holds too many different private-use characters beside added tokens")
        return self._alias

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens and unknown ids give none."""
        stream = self.stream()
        return "".join([stream.push(i) for i in ids]) + stream.flush()

    def stream(self, prompt: Sequence[int] = (), special: bool = False) -> ByteStream | WindowStream:
        """Text of ids that follow `prompt`, piece by piece: all pieces together are what the ids add to its text.
        special: special tokens give their names instead of nothing."""
        if self._bytes_of is None:
            return WindowStream(partial(self._library_decode, special=special), prompt[-WINDOW:])
        stream = ByteStream(partial(self._piece, self._bytes_of, special), self._strip)
        for i in prompt:
            stream.push(i)
        return stream

    def _piece(self, bytes_of: Callable[[str], bytes], special: bool, token_id: int) -> bytes:
        if token_id in self._special:
            return self.added[token_id].encode() if special else b""
        token = self._library.id_to_token(token_id) if 0 <= token_id < self.size else None
        return b"" if token is None else bytes_of(token)

    def _library_decode(self, ids: list[int], special: bool = False) -> str:
        with _errors_name(self.source):
            return str(self._library.decode([i for i in ids if 0 <= i < self.size], skip_special_tokens=not special))


def load(directory: Path, vocab_size: int, metadata: dict[str, Any] | None = None) -> Tokenizer | None:
    """The tokenizer of a checkpoint directory, or of the `metadata` of a GGUF file; None without one (refmoe.vocab says
    which there are). TokenizerError if it cannot be used or knows ids the model has no row for."""
    found = find(Path(directory), vocab_size, metadata)
    if found is None:
        return None
    path, content = found
    from tokenizers import Tokenizer as Library

    with _errors_name(path):
        library = Library.from_buffer(content)
        settings = inside(path.parent, "tokenizer_config.json", TokenizerError)
        start = None if metadata else _configured_start(settings, library)
    tokenizer = Tokenizer(library, path, start)
    if tokenizer.size > vocab_size:
        found_id = f"token id {tokenizer.size - 1}, but the model's vocab_size is {vocab_size}"
        raise TokenizerError(f"{show(path)}: {found_id}")
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


def _check(text: str) -> None:
    if not isinstance(text, str):
        raise TokenizerError(f"text: expected str, found {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise TokenizerError(f"text: has {len(text)} characters, at most {MAX_TEXT} are encoded")
    if lone := re.search("[\ud800-\udfff]", text):
        raise TokenizerError(f"text: character {lone.start()} is a lone surrogate (a byte that was not UTF-8)")


def _special(token: Any) -> Any:
    from tokenizers import AddedToken

    return AddedToken(token.content, special=True, normalized=token.normalized, lstrip=token.lstrip,
                      rstrip=token.rstrip, single_word=token.single_word)  # fmt: skip


def _renamed(library: Any, named: Sequence[str], base: int) -> Any:
    """A copy of a library tokenizer in which added token number n of `named` is called chr(base + n)."""
    content = json.loads(library.to_str())
    names = {token: chr(base + n) for n, token in enumerate(named)}
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return type(library).from_str(json.dumps(content))


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
