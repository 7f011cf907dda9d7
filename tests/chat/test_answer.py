"""model.chat: answers with thinking, text and tool calls, how they end, and the cache kept between turns."""

import json
import shutil

import numpy as np
import pytest
import talking
from talking import assistant, user

import refmoe
from refmoe import jit, suggested
from refmoe.errors import ConfigError, TokenizerError, UsageError
from tests import fakes
from tests.tiny import TINY

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def chat(folder, answer, messages=None, model=None, **options):
    """An answer that has been generated."""
    made = model or talking.model(talking.write(folder), answer)
    found = made.chat(messages or [user("Hi")], **options)
    steps = list(found)
    assert "".join(step.text for step in steps) == found.text
    assert "".join(step.thinking for step in steps) == found.thinking
    return found


def test_text(tmp_path):
    answer = chat(tmp_path, "Hello <b>!")
    assert answer.text == "Hello <b>!" and answer.thinking == "" and answer.tool_calls == []
    assert answer.finish_reason == "eos" and answer.message == assistant("Hello <b>!")
    assert answer.prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert answer.prompt_ids[0] == 258 and answer.ids[-1] == 259  # no second BOS in front of the template's tokens


def test_thinking_and_tool_calls(tmp_path):
    answer = chat(tmp_path, f"<think>\nhm\n</think>\n\nI look.\n{CALL}", tools=talking.TOOLS)
    assert (answer.thinking, answer.text, answer.finish_reason) == ("hm", "I look.", "tool_calls")
    call = {"id": "call00000", "type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    assert answer.tool_calls == [call]
    assert answer.message == assistant("I look.", reasoning_content="hm", tool_calls=[call])
    assert "<|im_start|>tools\n[{" in answer.prompt
    # the message continues the conversation, and the next call has the next id
    messages = [user("Hi"), answer.message, {"role": "tool", "tool_call_id": "call00000", "content": "sun"}]
    later = chat(tmp_path, CALL, messages, tools=talking.TOOLS)
    assert '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>' in later.prompt
    assert later.tool_calls[0]["id"] == "call00001"


def test_the_switch_for_thinking(tmp_path):
    answer = chat(tmp_path, "Hello", thinking=False)
    assert answer.prompt.endswith("assistant\n<think>\n\n</think>\n\n") and answer.text == "Hello"
    with pytest.raises(UsageError, match=r"^thinking: the model's chat template has no switch"):
        chat(tmp_path, "x", model=talking.model(talking.write(tmp_path, "x"), "y"), thinking=True)


def test_thinking_that_the_prompt_begins(tmp_path):
    source = talking.CHATML + "{{ '<think>\\n' }}"
    answer = chat(tmp_path, "", model=talking.model(talking.write(tmp_path, source), "hm\n</think>\n\nHello"))
    assert (answer.thinking, answer.text) == ("hm", "Hello")


def test_an_answer_that_is_cut(tmp_path):
    answer = chat(tmp_path, f"Hi {CALL}", max_tokens=4)
    assert (answer.text, answer.finish_reason, answer.tool_calls) == ("Hi <tool_call>", "length", [])
    answer = chat(tmp_path, "Hello world, bye", stop=["o w"])
    assert (answer.text, answer.finish_reason) == ("Hell", "stop")
    answer = chat(tmp_path, "<think>stop</think>Hello", stop=["stop"])  # thinking does not stop
    assert (answer.thinking, answer.text, answer.finish_reason) == ("stop", "Hello", "eos")


def test_special_tokens_of_an_answer_are_not_text(tmp_path):
    made = talking.model(talking.write(tmp_path), "a<s>b")
    assert chat(tmp_path, "", model=made).text == "a<s>b"  # a chat shows them: they may be marks of its family
    made = talking.model(talking.write(tmp_path), "a<s>b")
    assert "".join(step.text for step in made.generate([65])) == "ab"


def test_the_token_of_tokenizer_config_ends_an_answer(tmp_path):
    """config.json may name only the end of a document, not the end of a message."""
    folder = fakes.write_tokenizer(tmp_path, talking.tokenizer_content(), eos_token="<|im_end|>", chat_template="x")
    made = talking.model(folder, "Hello<|im_end|>more", eos=("</s>",))
    assert chat(tmp_path, "", model=made).text == "Hello"


def test_the_end_of_a_message_ends_an_answer(tmp_path):
    made = talking.model(talking.write(tmp_path), "Hello<|im_end|>more", eos=("</s>",))
    assert chat(tmp_path, "", model=made).text == "Hello"


def test_harmony(tmp_path):
    control = ["<s>", "</s>", *(f"<|{name}|>" for name in ("start", "end", "message", "channel", "call", "return"))]
    source = ("{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
              "<|start|>assistant")  # fmt: skip
    folder = talking.write(tmp_path, source, control, [])
    script = ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.weather"
              '<|message|>{"city": "Paris"}<|call|>never')  # fmt: skip
    answer = chat(tmp_path, "", model=talking.model(folder, script, eos=("<|return|>",)), tools=talking.TOOLS)
    assert (answer.thinking, answer.text, answer.finish_reason) == ("hm", "", "tool_calls")
    assert answer.tool_calls[0]["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    assert answer.ids[-1] == control.index("<|call|>") + 256  # nothing is generated after it


def test_kimi(tmp_path):
    folder = talking.write(tmp_path, talking.KIMI, talking.KIMI_CONTROL, talking.KIMI_PLAIN)
    script = ("Wait.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
              '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>')  # fmt: skip
    answer = chat(tmp_path, "", model=talking.model(folder, script), tools=talking.TOOLS)
    assert answer.text == "Wait." and answer.finish_reason == "tool_calls"
    assert answer.tool_calls == [{"id": "functions.weather:0", "type": "function",
                                  "function": {"name": "weather", "arguments": {"city": "Paris"}}}]  # fmt: skip


def test_what_is_missing_or_wrong(tmp_path):
    folder = fakes.write_tokenizer(tmp_path / "a", fakes.byte_level())
    with pytest.raises(TokenizerError, match=r"has no chat template; it can continue raw text .*generate --raw"):
        talking.model(folder, "x", eos=("<end>",)).chat([user("Hi")])
    with pytest.raises(TokenizerError, match=r"no tokenizer.json"):
        fakes.model(np.zeros((4, 4))).chat([user("Hi")])
    made = talking.model(talking.write(tmp_path / "b"), "x")
    for options, message in (({"temperature": -1}, "temperature"), ({"nix": 1}, "options: expected those of generate"),
                             ({"tools": 5}, "tools"), ({"messages": []}, "messages")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            made.chat(**({"messages": [user("Hi")]} | options))
    small = talking.model(talking.write(tmp_path / "c"), "x", context=10)
    with pytest.raises(UsageError, match="the model's context is 10"):
        small.chat([user("Hi" * 100)])


def test_the_embedded_model_says_kindly_that_it_cannot_chat():
    with pytest.raises(TokenizerError, match="has no chat template; it can continue raw text"):
        refmoe.load().chat([user("Hi")])


def test_only_what_is_new_is_computed(tmp_path):
    made = talking.model(talking.write(tmp_path), "one", "two", "three")
    memory = refmoe.Memory()
    messages = [user("first")]
    first = chat(tmp_path, "", messages, made, memory=memory)
    assert made.engine.runs[0] == first.prompt_ids and first.timings["reused_tokens"] == 0
    messages += [first.message, user("second")]
    made.engine.runs.clear()
    second = chat(tmp_path, "", messages, made, memory=memory)
    kept = len(first.prompt_ids) + len("one")
    assert second.prompt_ids[:kept] == [*first.prompt_ids, *b"one"]
    assert made.engine.runs[0] == second.prompt_ids[kept:] and second.timings["reused_tokens"] == kept
    made.engine.runs.clear()
    third = chat(tmp_path, "", [user("other")], made, memory=memory)  # only the header is common
    assert third.timings["reused_tokens"] == len("<user\n") and made.engine.runs[0] == third.prompt_ids[6:]


def test_a_memory_serves_one_generation_at_a_time(tmp_path):
    made = talking.model(talking.write(tmp_path), "one", "two")
    memory = refmoe.Memory()
    first = made.chat([user("Hi")], memory=memory)
    next(first)
    next(made.chat([user("Ho")], memory=memory))
    with pytest.raises(UsageError, match=r"^memory: a later generation uses it now"):
        next(first)


@pytest.fixture(scope="module", params=["qwen3_moe", "mistral-window", "gpt_oss", "kimi_k2"])
def real(request, tmp_path_factory):
    """A tiny model with a tokenizer and a template of ours."""
    folder = tmp_path_factory.mktemp("real") / request.param
    shutil.copytree(TINY / request.param, folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    vocab = {"<unk>": 0, "u": 1, "a": 2, "h": 3, " ": 4}
    content = fakes.words() | {"model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}}
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False}
    assert size > len(vocab)
    source = "{% for m in messages %}{{ 'u' if m.role == 'user' else 'a' }}{{ m.content }}{% endfor %}a"
    return refmoe.load(fakes.write_tokenizer(folder, content, chat_template=source))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_reuse_changes_no_bit(real, dtype):
    model = real if dtype == "f32" else refmoe.load(real.checkpoint.path, kv_dtype=dtype)
    memory, messages = refmoe.Memory(), []
    for content in ("hhh", "hh", "hhhh", "h"):
        messages.append(user(content))
        kept = model.chat(messages, memory=memory, max_tokens=3, temperature=1.0, seed=len(messages))
        fresh = model.chat(messages, max_tokens=3, temperature=1.0, seed=len(messages))
        assert [step.logprob for step in kept] == [step.logprob for step in fresh]
        assert (kept.ids, kept.digest) == (fresh.ids, fresh.digest)
        assert (kept.timings["reused_tokens"] > 0) == (len(messages) > 1)
        messages.append(assistant("hh" if len(messages) == 3 else "ah"))


def test_forgotten_rows_are_never_read(real):
    memory = refmoe.Memory()
    first = real.chat([user("hhhhhh")], memory=memory, max_tokens=3)
    list(first)
    sequence, kept = memory._sequence, 4
    sequence.truncate(kept)
    memory.ids = memory.ids[:kept]
    for layer in sequence.layers:
        first_width, second_width = layer.row.widths
        for chunks, width in ((layer.k_chunks, first_width), (layer.v_chunks, second_width)):
            for chunk in chunks:
                chunk[:, kept:, : first_width + second_width if layer.row.joined else width] = np.nan
    again = real.chat([user("hhhhhh")], memory=memory, max_tokens=3)
    list(again)
    assert again.timings["reused_tokens"] == kept and again.digest == first.digest and again.nan_steps == 0


def test_an_interrupted_run_leaves_a_usable_memory(real, monkeypatch):
    memory = refmoe.Memory()
    messages = [user("hhhhhh")]
    list(real.chat(messages, memory=memory, max_tokens=2))
    messages += [assistant("h"), user("hhhh")]
    steps = real.engine._steps

    def interrupted(bound, values, prefix, record):
        if prefix == "layers.1.":
            raise KeyboardInterrupt
        return steps(bound, values, prefix, record)

    monkeypatch.setattr(real.engine, "_steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(real.chat(messages, memory=memory, max_tokens=2))
    monkeypatch.undo()
    again = real.chat(messages, memory=memory, max_tokens=2)
    fresh = real.chat(messages, max_tokens=2)
    assert [step.id for step in again] == [step.id for step in fresh] and again.digest == fresh.digest
    assert again.timings["reused_tokens"] > 0 or not jit.ENABLED


def test_suggested_sampling(tmp_path):
    def found(content):
        (tmp_path / "generation_config.json").write_text(content)
        return suggested.sampling(tmp_path)

    assert suggested.sampling(tmp_path) == {}
    assert found('{"eos_token_id": 2}') == {} and found('{"do_sample": false, "top_k": 5}') == {"temperature": 0.0}
    qwen = found('{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "pad_token_id": 3}')
    assert qwen == {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
    assert found('{"do_sample": true}') == {"temperature": 1.0} == found('{"temperature": null, "do_sample": true}')
    assert found('{"temperature": 1}') == {"temperature": 1.0}
    assert found('{"repetition_penalty": 1.05, "top_p": 0.8}') == {
        "repetition_penalty": 1.05, "top_p": 0.8, "temperature": 1.0}  # fmt: skip
    for bad in ('{"temperature": "x"}', '{"top_k": 1.5}', '{"top_p": -1}', '{"min_p": true}', '{"top_k": []}'):
        with pytest.raises(ConfigError, match=r"generation_config.json: \w+: expected a number, found "):
            found(bad)
