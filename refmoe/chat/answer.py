"""An answer: a generation from messages, taken apart into thinking, text and tool calls while it grows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refmoe.chat import harmony, regions, template
from refmoe.checkpoint.strict_json import show
from refmoe.errors import TokenizerError
from refmoe.generate import Generation, Memory, Options, Step

if TYPE_CHECKING:
    from refmoe.model import Model

MAX_TOKENS = 4096  # unless the caller says otherwise


class Reader:
    """Ids to (thinking, text): the tokenizer's stream with special tokens shown, read by the family's rules."""

    def __init__(self, stream: Any, parts: Any):
        self._stream, self._parts = stream, parts

    @property
    def ended(self) -> bool:
        """Whether the text itself said that the answer is over."""
        return bool(self._parts.ended)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Tool calls read so far."""
        return list(self._parts.calls)

    def push(self, token: int) -> tuple[str, str]:
        """What the id completes."""
        found: tuple[str, str] = self._parts.push(self._stream.push(token))
        return found

    def finish(self) -> tuple[str, str]:
        """What is left when no id follows."""
        first, second = self._parts.push(self._stream.flush()), self._parts.finish()
        return first[0] + second[0], first[1] + second[1]


class Answer(Generation):
    """A generation whose steps have `text` and `thinking`. Beside the attributes of Generation: `prompt` (the rendered
    conversation), `thinking`, `tool_calls`, `message`. `finish_reason` can be "tool_calls": the model ended its answer
    and asks for tools to be run. A message as `message` has it, appended to the conversation and followed by one with
    role "tool" for each call, continues it."""

    def __init__(self, model: "Model", prompt: str, ids: Sequence[int], options: Options, reader: Reader,
                 ends: frozenset[int], memory: Memory | None, called: int):  # fmt: skip
        super().__init__(model, ids, options, reader, memory, ends)
        self.prompt = prompt
        self._called = called

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """[{"id": ..., "type": "function", "function": {"name": ..., "arguments": {...}}}, ...]; ids that the model did
        not write count the calls of the conversation: "call00000"."""
        return [{"id": call.get("id", f"call{self._called + number:05d}"), "type": "function",
                 "function": {"name": call["name"], "arguments": call["arguments"]}}
                for number, call in enumerate(self._reader.calls)]  # fmt: skip

    @property
    def message(self) -> dict[str, Any]:
        """The answer as an assistant message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.thinking:
            message["reasoning_content"] = self.thinking
        if calls := self.tool_calls:
            message["tool_calls"] = calls
        return message

    def _step(self, row: Any, token: int, reader: Any) -> Step:
        step = super()._step(row, token, reader)
        if self.finish_reason == "eos" and reader.calls:
            self.finish_reason = "tool_calls"
        return step


def answer(model: "Model", messages: Any, tools: Any, thinking: bool | None, variables: Mapping[str, Any] | None,
           memory: Memory | None, options: Options) -> Answer:  # fmt: skip
    """Begin an answer; everything is checked before its first step."""
    tokenizer, source = model.need_tokenizer(), model.template
    if source is None:
        raise TokenizerError(f"{show(model.checkpoint.path)}: the model has no chat template; it can continue raw text "
                             "(`refmoe generate --raw`)")  # fmt: skip
    prompt, ids = template.prompt(source, tokenizer, messages, tools, thinking, variables)
    functions = template.check_tools(tools) or []
    written = source.text(bool(functions))
    names = set(tokenizer.added.values())

    def known(marker: str) -> bool:
        return marker in names or marker in written

    parts: Any = harmony.Reader(functions) if known(harmony.MARK) else regions.Reader(known, prompt, functions)
    reader = Reader(tokenizer.stream(ids, special=True), parts)
    ends = set(model.end_ids)
    # config.json may name only the end of a document: what ends a message must end the answer too
    named = {source.tokens.get("eos_token")} | ({"<|im_end|>"} if "<|im_end|>" in written else set())
    ends |= {number for token, number in tokenizer.control.items() if token in named}
    called = sum(len(m["tool_calls"]) for m in messages if isinstance(m.get("tool_calls"), list))
    return Answer(model, prompt, ids, options, reader, frozenset(ends), memory, called)
