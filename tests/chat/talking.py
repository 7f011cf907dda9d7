"""A byte-level tokenizer with any control tokens, templates of our own, and a model that writes what it is told to."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer

from refmoe import text
from refmoe.model import Model
from tests import fakes

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
CHATML = """\
{%- if tools %}{{ '<|im_start|>tools\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""
# The format of Kimi-K2, written for these tests.
KIMI = """\
{%- macro turn(mark, name) %}{{ '<|im_' + mark + '|>' + name + '<|im_middle|>' }}{% endmacro %}
{%- if tools %}{{ turn('system', 'tool_declare') + (tools | tojson(separators=(',', ':'))) + '<|im_end|>' }}{% endif %}
{%- if messages[0].role != 'system' %}
{{- turn('system', 'system') + 'You are a helpful assistant<|im_end|>' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- turn('system', message.name or 'tool') + '## Return of ' + message.tool_call_id + '\\n' + message.content }}
{%- else %}
{{- turn(message.role, message.role) + (message.content or '') }}
{%- endif %}
{%- if message.tool_calls %}{{ '<|tool_calls_section_begin|>' }}
{%- for call in message.tool_calls %}
{%- set given = call.function.arguments %}
{{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' }}
{{- (given if given is string else given | tojson) + '<|tool_call_end|>' }}
{%- endfor %}{{ '<|tool_calls_section_end|>' }}
{%- endif %}
{{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ turn('assistant', 'assistant') }}{% endif %}"""
KIMI_CONTROL = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"]
KIMI_PLAIN = [f"<|tool_{name}|>" for name in ("calls_section_begin", "calls_section_end", "call_begin",
                                              "call_argument_begin", "call_end")]  # fmt: skip
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Look \"out\" <of> the window",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                   "required": ["city"]}}}]  # fmt: skip


def published(name):
    """A published template; skips the test where there is none."""
    path = fakes.SHARED / "published" / "chat_templates" / f"{name}.jinja"
    if not path.exists():
        pytest.skip(f"no published template at {path}")
    return path.read_text("utf-8")


def tokenizer_content(control=CONTROL, plain=PLAIN):
    """tokenizer.json: ids 0 to 255 are bytes, then come the control tokens, then the others."""
    content = fakes.byte_level()
    content["added_tokens"] = [fakes.special(256 + n, name) | {"special": n < len(control)}
                               for n, name in enumerate([*control, *plain])]  # fmt: skip
    return content


def write(folder, template=CHATML, control=CONTROL, plain=PLAIN, **config):
    """A folder with a tokenizer and a template."""
    named = {"bos_token": control[0], "eos_token": control[1]}
    return fakes.write_tokenizer(folder, tokenizer_content(control, plain), **named, chat_template=template, **config)


def tokenizer(control=CONTROL, plain=PLAIN):
    """The tokenizer alone."""
    return text.Tokenizer(Tokenizer.from_str(json.dumps(tokenizer_content(control, plain))), text.Path("memory"))


class Script:
    """An engine that writes the given ids, one script per generation, whatever the prompt; `runs` holds what it was
    given."""

    def __init__(self, vocab, scripts):
        self.vocab, self.scripts, self.runs = vocab, list(scripts), []

    def sequence(self):
        sequence = SimpleNamespace(length=0)
        sequence.truncate = lambda length: setattr(sequence, "length", min(sequence.length, length))
        return sequence

    def run(self, batch, every=False, record=None):
        ((sequence, ids),) = batch
        self.runs.append(list(ids))
        sequence.length += len(ids)
        row = np.zeros((1, self.vocab), np.float32)
        row[0, self.scripts[0].pop(0)] = 100.0
        if not self.scripts[0]:
            self.scripts.pop(0)
        return [row]


def model(folder, *answers, eos=("<|im_end|>",), context=10000, vocab=600):
    """A Model of a folder that gives these answers, each followed by the first eos token."""
    loaded = text.load(folder, vocab)
    ends = [loaded.control[name] for name in eos]
    scripts = [loaded.encode(answer, add_special=False, parse_special=True) + ends[:1] for answer in answers]
    built = SimpleNamespace(dims={"V": vocab}, context=context)
    opened = SimpleNamespace(path=folder, metadata={})
    return Model(opened, built, Script(vocab, scripts), loaded, (256, tuple(ends)), 0.0)


def user(content):
    """A user message."""
    return {"role": "user", "content": content}


def assistant(content, **more):
    """An assistant message."""
    return {"role": "assistant", "content": content} | more
