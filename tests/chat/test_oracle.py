"""Published templates, rendered by the library they were written for: the same text for many conversations."""

import copy
import datetime
import time

import pytest
import talking
from talking import assistant, user

from refmoe.chat import environment, template

transformers = pytest.importorskip("transformers", reason="needs transformers")
pytestmark = [pytest.mark.torch, pytest.mark.shared]

CALL = {"id": "call00000", "type": "function", "function": {"name": "weather", "arguments": {
    "city": "Zürich <b>", "days": 3, "deep": {"a": [1, 2.5, None, True]}}}}  # fmt: skip
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "call00000", "content": "sunny"}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = [
    [user("Hi")], [SYSTEM, user("Hi")], [user("  spaced \n")], [user("a"), assistant("b"), user("c")],
    [SYSTEM, user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
    [user("a"), assistant("<think>\nwhy\n</think>\n\nbecause"), user("c")],
    [user("a"), assistant("because", reasoning_content="why\n"), user("c")],
    [user("a"), assistant("because", thinking="why\n"), user("c")],
    [user("q"), assistant("", tool_calls=[CALL]), RESULT],
    [user("q"), assistant("text", tool_calls=[CALL]), RESULT, assistant("It is sunny"), user("thanks")],
    [user("q"), assistant("", reasoning_content="hm", tool_calls=[CALL]), RESULT, RESULT],
    [user("q"), assistant("", tool_calls=[CALL, CALL]), RESULT, RESULT, assistant("done"), user("q2")],
    [user("é漢字🚀<>&'\"")], [user("")], [assistant("first")], [user("a"), user("b")], [SYSTEM],
    [user([{"type": "text", "text": "block"}])], [SYSTEM, SYSTEM, user("u")], [{"role": "nix", "content": "?"}],
    [user("<tool_response>\nx\n</tool_response>"), assistant("y"), user("z")],
    [{"role": "developer", "content": "dev"}, user("u")],
    [user("a"), assistant("x</think>y</think>z"), user("b"), assistant("<think>w</think>v")],
    [user("a"), assistant(None, tool_calls=[CALL]), RESULT],
]  # fmt: skip
NAMES = ["Qwen3", "Qwen2.5-7B-Instruct", "Qwen3-Coder", "DeepSeek-R1", "gpt-oss", "Mistral-7B-Instruct-v0.2-v1",
         "Mistral-7B-Instruct-v0.2-pre-v1", "mistral-common-v1_spm", "mistral-common-v3_spm", "own"]  # fmt: skip


def both(source, chat, tools, thinking):
    """(their text or exception, ours)."""
    from tokenizers import Tokenizer, models

    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    library = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=library, **tokens)
    more = {} if thinking is None else {"enable_thinking": thinking}

    def attempt(call):
        try:
            return call()
        except Exception as problem:
            return problem

    now = time.time()
    ours = environment.environment(now).from_string(source)
    return (
        attempt(lambda: theirs.apply_chat_template(copy.deepcopy(chat), tools=tools, chat_template=source,
                                                   tokenize=False, add_generation_prompt=True, **more)),
        attempt(lambda: ours.render(messages=template.check_messages(chat), tools=template.check_tools(tools),
                                    documents=None, add_generation_prompt=True, **tokens, **more)),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_same_text(name):
    source = {"own": talking.KIMI}.get(name) or talking.published(name)
    compared = 0
    for chat in CONVERSATIONS:
        for tools in (None, talking.TOOLS):
            for thinking in (None, False, True):
                day = datetime.date.today()
                theirs, ours = both(source, chat, tools, thinking)
                if day != datetime.date.today():
                    continue  # midnight between the two
                if isinstance(theirs, Exception):
                    assert isinstance(ours, Exception), (chat, ours)
                else:
                    compared += 1
                    assert ours == theirs
    assert compared > 40
