"""companions - tokenizer, chat template and suggested sampling beside the weights: copied from a directory, or made
from the metadata of a GGUF file."""

import json
import shutil
from pathlib import Path
from typing import Any

from refmoe import checkpoint, program
from refmoe.chat import template
from refmoe.suggested import sampling
from refmoe.vocab.find import find

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tiktoken.model", "vocab.json", "merges.txt",
         "special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.jinja",
         "chat_template.json")  # fmt: skip


def write(folder: Path, opened: checkpoint.Checkpoint, built: program.Program) -> None:
    """Into a folder. TokenizerError if a GGUF file's cannot be used; OSError."""
    if not opened.metadata:
        for name in FILES:
            if (source := opened.file(name)) is not None:
                shutil.copyfile(source, folder / name)
        return
    for name, content in _made(opened, built).items():
        (folder / name).write_bytes(content)


def _made(opened: checkpoint.Checkpoint, built: program.Program) -> dict[str, bytes]:
    """Name of a file -> what it holds."""
    found: dict[str, bytes] = {}
    vocabulary = find(opened.path, int(built.dims["V"]), opened.metadata)
    if vocabulary is not None:
        found["tokenizer.json"] = vocabulary[1]
        names = {token["id"]: token["content"] for token in json.loads(vocabulary[1]).get("added_tokens", ())}
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        for key in ("bos_token", "eos_token"):
            ids = opened.config.get(f"{key}_id")
            first = next(iter(ids if isinstance(ids, list) else [ids]), None)
            if first in names:
                config[key] = names[first]
        if chat := template.load(opened.path, {}, opened.metadata):
            several = [{"name": name, "template": text} for name, text in chat.texts.items()]
            config["chat_template"] = chat.texts["default"] if list(chat.texts) == ["default"] else several
        found["tokenizer_config.json"] = _json(config)
    if suggested := sampling(opened.path, opened.metadata):
        found["generation_config.json"] = _json(suggested | {"do_sample": suggested.get("temperature") != 0})
    return found


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
