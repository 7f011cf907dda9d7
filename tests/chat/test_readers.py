"""Answers taken apart: thinking, text and tool calls of every family, whole and in any pieces."""

import random

import pytest
import talking

from refmoe.chat import harmony, regions

WEATHER = {"name": "weather", "arguments": {"city": "Paris", "days": 3}}
KINDS = {"s": "string", "i": "integer", "n": "number", "b": "boolean", "o": "object", "a": "array",
         "m": ["integer", "null"]}  # fmt: skip
PROPERTIES = {key: {"type": kind} for key, kind in KINDS.items()} | {"x": {}, "y": 5}
SCHEMA = [{"type": "function", "function": {"name": "f", "parameters": {"properties": PROPERTIES}}}]


def read(answer, prompt="", tools=(), pieces=None, known=lambda marker: True):
    """(thinking, text, calls) of an answer given in pieces."""
    reader = harmony.Reader(tools) if known == "harmony" else regions.Reader(known, prompt, tools)
    thinking = text = ""
    for piece in pieces or [answer]:
        more = reader.push(piece)
        thinking, text = thinking + more[0], text + more[1]
    more = reader.finish()
    return thinking + more[0], text + more[1], reader.calls


def cuts(answer):
    """The answer character by character, and cut at random."""
    yield list(answer)
    for seed in range(20):
        at = sorted(random.Random(seed).choices(range(len(answer) + 1), k=5))
        yield [answer[a:b] for a, b in zip([0, *at], [*at, len(answer)], strict=True)]


PARIS = '{"city": "Paris", "days": 3}'
HERMES = f'<tool_call>\n{{"name": "weather", "arguments": {PARIS}}}\n</tool_call>'
CODER = ("<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
         "</function>\n</tool_call>")  # fmt: skip
KIMI = (f"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{PARIS}"
        "<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>")  # fmt: skip
DEEPSEEK = ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
            f"```json\n{PARIS}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>")  # fmt: skip
DEEPSEEK_31 = f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{PARIS}<｜tool▁call▁end｜>"
MISTRAL = f'[TOOL_CALLS] [{{"name": "weather", "arguments": {PARIS}, "id": "abcdefghi"}}]'
BY_ID = WEATHER | {"id": "functions.weather:0"}
DEEP = "<tool_call>" + "[" * 100000 + "</tool_call>"

CASES = {
    "plain": ("Hello.\n", "", ("", "Hello.\n", [])),
    "empty": ("", "", ("", "", [])),
    "leading_space": ("  Hello", "", ("", "Hello", [])),
    "less_than": ("a < b, <b>x</b>, <|x|>, [1]", "", ("", "a < b, <b>x</b>, <|x|>, [1]", [])),
    "thinking": ("<think>\nhm, so\n\nyes\n</think>\n\nHello", "", ("hm, so\n\nyes", "Hello", [])),
    "thinking_empty": ("<think>\n\n</think>\n\nHello", "", ("", "Hello", [])),
    "thinking_begun_by_the_prompt": ("hm\n</think>\n\nHello", "...<think>\n", ("hm", "Hello", [])),
    "thinking_unfinished": ("<think>\nhm and", "", ("hm and", "", [])),
    "thinking_twice": ("<think>a</think>b<think>c</think>d", "", ("ac", "bd", [])),
    "close_without_open": ("a</think>b", "", ("", "a</think>b", [])),
    "mistral_thinking": ("[THINK]hm[/THINK]Hello", "", ("hm", "Hello", [])),
    "hermes": (HERMES, "", ("", "", [WEATHER])),
    "hermes_with_text": (f"I look.\n{HERMES}\n{HERMES}", "", ("", "I look.", [WEATHER, WEATHER])),
    "hermes_between": (f"a\n{HERMES}\n\nb", "", ("", "a\n\n\nb", [WEATHER])),
    "hermes_after_thinking": (f"<think>hm</think>\n\n{HERMES}", "", ("hm", "", [WEATHER])),
    "hermes_unfinished": (HERMES.removesuffix("</tool_call>"), "", ("", "", [WEATHER])),
    "hermes_arguments_as_text": ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "",
                                 ("", "", [{"name": "f", "arguments": {"a": 1}}])),
    "hermes_without_arguments": ('<tool_call>{"name": "f"}</tool_call>', "",
                                 ("", "", [{"name": "f", "arguments": {}}])),
    "not_json": ("<tool_call>\n{oops}\n</tool_call>!", "", ("", "<tool_call>\n{oops}\n</tool_call>!", [])),
    "no_name": ('<tool_call>{"x": 1}</tool_call>', "", ("", '<tool_call>{"x": 1}</tool_call>', [])),
    "arguments_no_object": ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "",
                            ("", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', [])),
    "coder": (CODER, "", ("", "", [WEATHER])),
    "coder_without_tool_call": (CODER[12:-13], "", ("", "", [WEATHER])),
    "glm": ("<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
            "<arg_value>3</arg_value>\n</tool_call>", "", ("", "", [WEATHER])),
    "glm_without_arguments": ("<tool_call>now\n</tool_call>", "", ("", "", [{"name": "now", "arguments": {}}])),
    "words_in_tags": ("<tool_call>no call</tool_call>", "", ("", "<tool_call>no call</tool_call>", [])),
    "kimi": (f"Wait.{KIMI}", "",
             ("", "Wait.", [BY_ID, {"name": "now", "arguments": {}, "id": "functions.now:1"}])),
    "kimi_unfinished": (KIMI[: KIMI.index("<|tool_call_end|>")], "", ("", "", [BY_ID])),
    "mistral": (MISTRAL, "", ("", "", [WEATHER | {"id": "abcdefghi"}])),
    "mistral_later": ('[TOOL_CALLS]weather[ARGS]{"city": "Paris", "days": 3}[TOOL_CALLS]now[ARGS]{}', "",
                      ("", "", [WEATHER, {"name": "now", "arguments": {}}])),
    "mistral_broken": ('[TOOL_CALLS] [{"name": "w', "", ("", '[TOOL_CALLS] [{"name": "w', [])),
    "deepseek": (f"Hm.{DEEPSEEK}", "", ("", "Hm.", [WEATHER])),
    "deepseek_31": (DEEPSEEK_31, "", ("", "", [WEATHER])),
    "deep_json": (DEEP, "", ("", DEEP, [])),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_answers(name):
    answer, prompt, expected = CASES[name]
    tools = talking.TOOLS
    assert read(answer, prompt, tools) == expected
    for pieces in cuts(answer) if len(answer) < 1000 else ():
        assert read(answer, prompt, tools, pieces) == expected, pieces


def test_text_is_shown_as_soon_as_it_is_certain():
    reader = regions.Reader(lambda marker: True, "", [])
    assert [reader.push(piece) for piece in ("a <", "b", " <thi", "nk>x", "y </", "think", ">z")] == [
        ("", "a"), ("", " <b"), ("", ""), ("x", ""), ("y", ""), ("", ""), ("", " z")]  # fmt: skip


def test_only_markers_that_the_model_knows():
    assert read(HERMES, known=lambda marker: marker == "<think>") == ("", HERMES, [])
    assert read("<think>a</think>b", known=lambda marker: False) == ("", "<think>a</think>b", [])


def test_values_have_the_types_of_the_schema():
    def call(**values):
        inside = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
        return f"<tool_call>\n<function=f>\n{inside}</function>\n</tool_call>"

    def value(key, written):
        _, text, ((found),) = read(call(**{key: written}), tools=SCHEMA)
        assert text == "" and found["name"] == "f"
        return found["arguments"][key]

    assert [value("s", v) for v in ("3", "true", "", " a ", "a\nb", "{}")] == ["3", "true", "", " a ", "a\nb", "{}"]
    assert [value("i", v) for v in ("3", "-4", "3.5", "x", "true", "1e3")] == [3, -4, "3.5", "x", "true", "1e3"]
    assert [value("n", v) for v in ("3", "3.5", "x")] == [3, 3.5, "x"]
    assert [value("b", v) for v in ("true", "False", "1", "yes")] == [True, False, "1", "yes"]
    assert [value("o", v) for v in ('{"a": [1]}', "[1]")] == [{"a": [1]}, "[1]"]
    assert [value("a", v) for v in ("[1, 2]", "{}")] == [[1, 2], "{}"]
    assert [value("m", v) for v in ("3", "null", "x")] == [3, None, "x"]
    assert [value(key, "3") for key in ("x", "y", "unknown")] == ["3", "3", "3"]


HARMONY = {
    "final": ("<|channel|>final<|message|>Hello", ("", "Hello", [])),
    "analysis": ("<|channel|>analysis<|message|>hm so<|end|>"
                 "<|start|>assistant<|channel|>final<|message|>Hello<|return|>x", ("hm so", "Hello", [])),
    "call": ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
             '<|constrain|>json<|message|>{"city": "Paris", "days": 3}<|call|>ignored', ("hm", "", [WEATHER])),
    "call_to_first": (' to=functions.weather<|channel|>commentary json<|message|>{"city": "Paris", "days": 3}',
                      ("", "", [WEATHER])),
    "preamble": ("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>So",
                 ("", "I look.\nSo", [])),
    "two_thoughts": ("<|channel|>analysis<|message|>a<|end|>"
                     "<|start|>assistant<|channel|>analysis<|message|>b < c<|end|>", ("a\nb < c", "", [])),
    "broken_arguments": ("<|channel|>commentary to=functions.f<|message|>{oops<|call|>",
                         ("", "<|channel|>commentary to=functions.f<|message|>{oops", [])),
    "no_message": ("Hello <|channel|>", ("", "Hello <|channel|>", [])),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMONY)
def test_harmony(name):
    answer, expected = HARMONY[name]
    assert read(answer, known="harmony") == expected
    for pieces in cuts(answer):
        assert read(answer, pieces=pieces, known="harmony") == expected, pieces
