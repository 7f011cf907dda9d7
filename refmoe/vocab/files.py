"""Reading what lies beside a vocabulary: bounded files, tokenizer_config.json, and the tokens it adds."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.strict_json import open_regular, read_json, show, what_else
from refmoe.errors import TokenizerError

MAX_FILE = 64 << 20  # bytes; the largest published tokenizer.json has some 33 MB
MAX_TOKEN = 4096  # characters of an added token; published ones have fewer than 200
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class Source:
    """A vocabulary file with what is needed to understand it. `other` is merges.txt; `settings` hold
    tokenizer_config.json, and config.json's model_type under "model_type"."""

    path: Path
    content: bytes
    other: bytes
    settings: dict[str, Any]
    vocab_size: int

    def fail(self, message: str) -> TokenizerError:
        """An error that names the file."""
        return TokenizerError(f"{show(self.path)}: {message}")


def read(path: Path) -> bytes:
    """The bytes of a file of at most MAX_FILE."""
    with open_regular(path, TokenizerError) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise TokenizerError(f"{show(path)}: has {size} bytes, at most {MAX_FILE} are read")
        content = file.read(MAX_FILE)
    if other := what_else(content[:200]):
        raise TokenizerError(f"{show(path)}: this is {other}")
    return content


def optional_json(directory: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file, {} when there is no such file."""
    path = inside(directory, name, TokenizerError)
    return read_json(path, name, TokenizerError) if path.exists() else {}


def settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, with added_tokens.json and the model_type of config.json in it."""
    found = optional_json(directory, "tokenizer_config.json")
    if added := optional_json(directory, "added_tokens.json"):
        found = {"added_tokens.json": added} | found
    return found | {"model_type": optional_json(directory, "config.json").get("model_type")}


def added_token(token_id: int, content: str, special: bool, **flags: bool) -> dict[str, Any]:
    """An entry of added_tokens in tokenizer.json."""
    return {"id": token_id, "content": content} | dict.fromkeys(FLAGS, False) | flags | {"special": special}


def token_text(value: Any) -> str | None:
    """The text of a token in tokenizer_config.json, written as a string or as an object."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and value else None


def named_tokens(settings: dict[str, Any]) -> set[str]:
    """Tokens that tokenizer_config.json gives a role: bos_token, eos_token, ..., additional_special_tokens."""
    values = [value for key, value in settings.items() if key.endswith("_token")]
    more = settings.get("additional_special_tokens")
    values += more if isinstance(more, list) else []
    return {text for value in values if (text := token_text(value))}


def added_tokens(source: Source) -> dict[int, dict[str, Any]]:
    """Id -> entry, from added_tokens_decoder or else added_tokens.json (where only tokens with a role, or in the shape
    <|...|>, count as special)."""
    decoder = source.settings.get("added_tokens_decoder")
    found: dict[int, dict[str, Any]] = {}
    if decoder is not None:
        if not isinstance(decoder, dict):
            raise source.fail(f"added_tokens_decoder: expected an object, found {type(decoder).__name__}")
        for key, entry in decoder.items():
            content = token_text(entry)
            flags = {flag: value for flag in (*FLAGS, "special") if (value := entry.get(flag)) is not None} if (
                isinstance(entry, dict)) else {}  # fmt: skip
            if content is None or not all(isinstance(value, bool) for value in flags.values()):
                raise source.fail(f"added_tokens_decoder: {show(key, 20)}: expected content and flags, found "
                                  f"{show(entry, 80)}")  # fmt: skip
            number = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1
            found[number] = added_token(number, content, flags.pop("special", False), **flags)
    else:
        roles = named_tokens(source.settings)
        for content, number in source.settings.get("added_tokens.json", {}).items():
            special = content in roles or content.startswith("<|")
            found[number if type(number) is int else -1] = added_token(number, content, special)
    for number, entry in found.items():
        if not 0 <= number < source.vocab_size:
            raise source.fail(f"added token {show(entry['content'], 40)}: expected an id from 0 to "
                              f"{source.vocab_size - 1} (vocab_size), found {show(number)}")  # fmt: skip
        if len(entry["content"]) > MAX_TOKEN:
            raise source.fail(f"added token {number}: has more than {MAX_TOKEN} characters")
    names = [entry["content"] for entry in found.values()]
    if len(set(names)) < len(names):
        raise source.fail("added_tokens_decoder: two ids have the same token")
    return found
