"""Tool calls as families write them, turned into names and JSON objects.

Each reader takes what stands between the markers of refmoe.chat.regions and returns a list of calls
{"name": str, "arguments": object, "id": str or absent}. ValueError when it is not written as the family does.
"""

import json
import re
from typing import Any

Call = dict[str, Any]
_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_KIMI = re.compile(
    r"<\|tool_call_begin\|>(.*?)<\|tool_call_argument_begin\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.DOTALL)
_DEEPSEEK = re.compile("<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)(?:<｜tool▁call▁end｜>|\\Z)", re.DOTALL)


def tagged(body: str, tools: list[dict[str, Any]]) -> list[Call]:
    """Between <tool_call> and </tool_call>: a JSON object with name and arguments (Qwen2.5, Qwen3, Hermes), or
    <function=...> with parameters (Qwen3-Coder), or a name with <arg_key> and <arg_value> (GLM-4.5)."""
    if body.lstrip().startswith("{"):
        return [_named(_json(body))]
    if "<function=" in body:
        return functions(body, tools)
    name, _, inside = body.partition("<arg_key>")
    schema = _properties(name.strip(), tools)
    pairs = [(key.strip(), value.strip("\n")) for key, value in _ARGUMENT.findall("<arg_key>" + inside)]
    if not pairs and (inside or not re.fullmatch(r"[\w.-]+", name.strip())):
        raise ValueError("no call")
    return _some([{"name": name.strip(), "arguments": {k: _typed(v, schema.get(k)) for k, v in pairs}}])


def functions(body: str, tools: list[dict[str, Any]]) -> list[Call]:
    """<function=NAME> with <parameter=NAME> VALUE </parameter>: a value has the type that the tool's schema gives it,
    text when the schema names none."""
    found = []
    for name, inside in _FUNCTION.findall(body):
        schema = _properties(name.strip(), tools)
        arguments = {}
        for key, text in _PARAMETER.findall(inside):
            value = text.removeprefix("\n").removesuffix("\n")
            arguments[key.strip()] = _typed(value, schema.get(key.strip()))
        found.append({"name": name.strip(), "arguments": arguments})
    return _some(found)


def kimi(body: str, tools: list[dict[str, Any]]) -> list[Call]:
    """<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{...}<|tool_call_end|>, any number of them."""
    found = []
    for label, arguments in _KIMI.findall(body):
        label = label.strip()
        name = re.sub(r":\d+\Z", "", label).removeprefix("functions.")
        found.append({"name": name, "arguments": _object(arguments), "id": label})
    return _some(found)


def mistral(body: str, tools: list[dict[str, Any]]) -> list[Call]:
    """After [TOOL_CALLS]: a JSON list of objects with name, arguments and id; or NAME[ARGS]{...} (later versions)."""
    if body.lstrip().startswith("["):
        listed = _json(body)
        return _some([_named(call) for call in listed] if isinstance(listed, list) else [])
    found = []
    for part in body.split("[TOOL_CALLS]"):
        name, separator, arguments = part.partition("[ARGS]")
        if not separator:
            name, brace, arguments = part.partition("{")
            arguments = brace + arguments
        found.append({"name": name.partition("[CALL_ID]")[0].strip(), "arguments": _object(arguments)})
    return _some(found)


def deepseek(body: str, tools: list[dict[str, Any]]) -> list[Call]:
    """<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME, then ```json {...} ``` (V3, R1); or NAME<｜tool▁sep｜>{...} as
    in V3.1."""
    found = []
    for first, second in _DEEPSEEK.findall(body):
        name, arguments = first.strip(), second
        fenced = re.fullmatch(r"\s*(\S+)\s*```(?:json)?\s*(.*?)\s*(?:```\s*)?", second, re.DOTALL)
        if fenced:
            name, arguments = fenced[1], fenced[2]
        found.append({"name": name, "arguments": _object(arguments)})
    return _some(found)


def _some(found: list[Call]) -> list[Call]:
    if not found or not all(call["name"] for call in found):
        raise ValueError("no call")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(text: str) -> dict[str, Any]:
    value = _json(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("arguments are no object")
    return value


def _named(value: Any) -> Call:
    """{"name": ..., "arguments": ...}, where the arguments may be called parameters or be written as text."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("no name")
    arguments = value.get("arguments", value.get("parameters", {}))
    arguments = _object(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(arguments, dict):
        raise ValueError("arguments are no object")
    number = value.get("id")
    return {"name": value["name"], "arguments": arguments} | ({"id": number} if isinstance(number, str) else {})


def _properties(name: str, tools: list[dict[str, Any]]) -> dict[str, Any]:
    for tool in tools:
        function = tool["function"]
        if function["name"] == name:
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, dict) else None
            return properties if isinstance(properties, dict) else {}
    return {}


def _typed(text: str, schema: Any) -> Any:
    """The value of a parameter: JSON of a type that the schema allows, else the text itself."""
    allowed = schema.get("type") if isinstance(schema, dict) else None
    kinds = [allowed] if isinstance(allowed, str) else allowed if isinstance(allowed, list) else []
    word = text.strip()
    if "boolean" in kinds and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if "null" in kinds and word.lower() in ("null", "none"):
        return None
    try:
        value = _json(word)
    except ValueError:
        return text
    kind = {int: "integer", float: "number", dict: "object", list: "array"}.get(type(value))
    return value if kind in kinds or (kind == "integer" and "number" in kinds) else text
