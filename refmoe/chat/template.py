"""Where a checkpoint keeps its chat template, and a prompt from messages.

chat_template.jinja (with additional_chat_templates/NAME.jinja) comes before chat_template.json, and that before
tokenizer_config.json, whose chat_template is a string or a list of named ones. A GGUF file has it in its metadata.
With tools the one named "tool_use" is taken if there is one, else "default". The tokens bos_token, eos_token, ... that
a template writes are those of tokenizer_config.json, else of special_tokens_map.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refmoe.chat import sandbox
from refmoe.checkpoint.directory import inside
from refmoe.checkpoint.strict_json import show
from refmoe.errors import TokenizerError, UsageError
from refmoe.text import Tokenizer
from refmoe.vocab.files import optional_json, read, token_text

MAX_TEMPLATE = 1 << 20  # characters; published templates have fewer than 20,000
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
METADATA = "tokenizer.chat_template"  # the key of GGUF; named templates have ".NAME" behind it
REASONING = ("reasoning_content", "thinking", "reasoning")  # names that templates know for the text of thinking


@dataclass(frozen=True)
class Template:
    """Template texts by name, the file that errors name, and the tokens templates may write."""

    texts: dict[str, str]
    path: Path
    tokens: dict[str, str]

    def text(self, tools: bool = False) -> str:
        """The one for a conversation with or without tools."""
        name = "tool_use" if tools and "tool_use" in self.texts else "default"
        if name not in self.texts:
            names = ", ".join(map(show, self.texts))
            raise TokenizerError(f"{show(self.path)}: chat template: expected one called default, found {names}")
        return self.texts[name]


def load(directory: Path, boundaries: Mapping[str, str | None],
         metadata: Mapping[str, Any] | None = None) -> Template | None:  # fmt: skip
    """The template of a model directory, or of the `metadata` of a GGUF file; None when it has none. boundaries:
    bos_token and eos_token by the model's config, for where no file of the tokenizer names them."""
    named, texts, path = dict(boundaries), {}, directory
    if metadata:
        keys = {key: key.removeprefix(METADATA).removeprefix(".") for key in metadata if key.startswith(METADATA)}
        texts = {name or "default": metadata[key] for key, name in keys.items()}
    else:
        config = optional_json(directory, "tokenizer_config.json")
        named |= optional_json(directory, "special_tokens_map.json") | config
        texts, path = _texts(directory, config)
    tokens = {name: text for name in TOKENS if (text := token_text(named.get(name))) is not None}
    for text in texts.values():
        if not isinstance(text, str) or len(text) > MAX_TEMPLATE:
            found = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
            raise TokenizerError(f"{show(path)}: chat template: expected at most {MAX_TEMPLATE} characters, "
                                 f"found {found}")  # fmt: skip
    return Template(texts, path, tokens) if texts else None


def _texts(directory: Path, config: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    file = inside(directory, "chat_template.jinja", TokenizerError)
    if file.exists():
        more = sorted((directory / "additional_chat_templates").glob("*.jinja"))
        others = {path.stem: inside(directory, f"{path.parent.name}/{path.name}", TokenizerError) for path in more}
        return {name: _decoded(path) for name, path in (others | {"default": file}).items()}, file
    for name, content in (("chat_template.json", None), ("tokenizer_config.json", config)):
        path = directory / name
        found = (optional_json(directory, name) if content is None else content).get("chat_template")
        if isinstance(found, list):
            if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
                raise TokenizerError(f"{show(path)}: chat_template: expected a list of objects with name and template")
            return {one["name"]: one.get("template") for one in found}, path
        if found is not None:
            return {"default": found}, path
    return {}, directory


def _decoded(path: Path) -> str:
    try:
        return read(path).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"{show(path)}: not UTF-8 at byte {problem.start}") from None


def prompt(template: Template, tokenizer: Tokenizer, messages: Any, tools: Any = None, thinking: bool | None = None,
           variables: Mapping[str, Any] | None = None) -> tuple[str, list[int]]:  # fmt: skip
    """(text, ids) of a conversation, up to where the answer begins. Control tokens in messages stay text, see
    refmoe.chat.provenance. UsageError for messages that are none, TokenizerError for what the template refuses."""
    chat, functions = check_messages(messages), check_tools(tools)
    if taken := {"messages", "tools", "documents", "add_generation_prompt"} & set(variables or ()):
        raise UsageError(f"variables: {sorted(taken)[0]} is given to every template, choose another name")
    source = template.text(bool(functions))
    where = f"{show(template.path)}: chat template"
    marks = [token for token in tokenizer.added.values() if token not in tokenizer.control and token in source]
    request = {"template": source, "tools": functions, "control": list(tokenizer.control), "marks": marks,
               "thinking": thinking, "variables": template.tokens | _plain(variables or {}, "variables")}  # fmt: skip
    reply = sandbox.run(request | {"messages": chat}, where)
    if "error" in reply and reply["error"].startswith("TypeError"):  # some want arguments as text, some as an object
        reply = sandbox.run(request | {"messages": _other_arguments(chat)}, where)
    if not reply.get("switch", True):
        raise UsageError("thinking: the model's chat template has no switch for it")
    if "error" in reply:
        raise TokenizerError(f"{where}: {show(' '.join(str(reply['error']).split()), 400)}")
    return reply["text"], tokenizer.encode_prompt(reply["text"], reply["foreign"])


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages as templates expect them: plain JSON, no null values, the text of thinking under all its names."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise UsageError(f"messages: expected a list of messages with role and content, found {show(messages, 60)}")
    chat = []
    for number, message in enumerate(_plain(list(messages), "messages")):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UsageError(f"messages[{number}]: expected an object with role and content, found {show(message, 60)}")
        content = message.get("content")
        if not (content is None or isinstance(content, str | list)):
            raise UsageError(f"messages[{number}]: content: expected a text, found {show(content, 60)}")
        kept = {key: value for key, value in message.items() if value is not None}
        reasoning = next((kept[key] for key in REASONING if key in kept), None)
        if reasoning is not None:
            kept = {"thinking": reasoning} | kept | {"reasoning_content": reasoning}
        chat.append(kept)
    return chat


def check_tools(tools: Any) -> list[dict[str, Any]] | None:
    """Tools as {"type": "function", "function": {"name": ..., "parameters": ...}}; bare functions are wrapped. None
    without any."""
    if tools is None:
        return None
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise UsageError(f"tools: expected a list of functions, found {show(tools, 60)}")
    found = []
    for number, tool in enumerate(_plain(list(tools), "tools")):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f"tools[{number}]: expected a function with a name, found {show(tool, 60)}")
        found.append(tool if "function" in tool else {"type": "function", "function": function})
    return found or None


def _plain(value: Any, name: str) -> Any:
    """The value made of JSON types only."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as problem:
        raise UsageError(f"{name}: expected plain JSON values: {show(problem, 80)}") from None


def _other_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with the arguments of tool calls as text where they are objects, as objects where they are text."""

    def other(call: Any) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or "arguments" not in function:
            return call
        given = function["arguments"]
        try:
            arguments = json.loads(given) if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        except ValueError:
            return call
        return call | {"function": function | {"arguments": arguments}}

    return [message | {"tool_calls": [other(call) for call in message["tool_calls"]]}
            if isinstance(message.get("tool_calls"), list) else message for message in messages]  # fmt: skip
