"""tokens - the token ids that another program makes of texts and conversations, against the checkpoint's own.

The file is JSON: a list of {"text": ..., "ids": [...]} or {"messages": [...], "ids": [...]}, with "add_special" (begin
with the BOS that the checkpoint asks for; default true), "parse_special", "tools" and "thinking" where they matter.
Every id counts: a prompt that is one token longer is another prompt.
"""

import json
from pathlib import Path
from typing import Any

from refmoe.errors import RefmoeError, UsageError

LARGEST = 64 << 20


def compare(model: Any, path: str | Path) -> list[dict[str, Any]]:
    """One fact for each entry: equal, and where the first difference is. UsageError for a file that is no such list."""
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        entries = json.loads(file.read_text("utf-8"))
        if not isinstance(entries, list) or not all(_fits(entry) for entry in entries) or not entries:
            raise ValueError("not a list of objects with ids, and text or messages")
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageError(f"{file}: expected a JSON list of texts and their ids: {str(problem)[:160]}") from None
    return [_one(model, n, entry) for n, entry in enumerate(entries)]


def _prompt(model: Any, entry: dict[str, Any]) -> list[int]:
    from refmoe.chat.template import prompt

    if model.template is None:
        raise UsageError(f"{model.checkpoint.path}: no chat template, so messages cannot be compared")
    words, tools, thinking = (entry.get(key) for key in ("messages", "tools", "thinking"))
    return prompt(model.template, model.need_tokenizer(), words, tools, thinking)[1]


def _fits(entry: Any) -> bool:
    return (isinstance(entry, dict) and isinstance(entry.get("ids"), list)
            and all(type(token) is int for token in entry["ids"]) and (("text" in entry) != ("messages" in entry)))


def _one(model: Any, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        if "text" in entry:
            ours = model.encode(entry["text"], entry.get("add_special", True), entry.get("parse_special", False))
        else:
            ours = _prompt(model, entry)
    except RefmoeError as problem:
        return {"entry": number, "equal": False, "problem": str(problem)}
    theirs = entry["ids"]
    first = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    if ours == theirs:
        return {"entry": number, "equal": True, "tokens": len(ours)}
    return {"entry": number, "equal": False, "expected_tokens": len(ours), "found_tokens": len(theirs),
            "position": first, "expected": ours[first : first + 4], "found": theirs[first : first + 4]}  # fmt: skip
