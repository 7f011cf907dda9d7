"""A validator for the part of JSON Schema that golden/schemas uses."""

import re

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
         "null": type(None)}  # fmt: skip
KNOWN = {"$schema", "$defs", "$ref", "title", "description", "type", "required", "properties", "additionalProperties",
         "items", "enum", "const", "anyOf", "pattern", "minimum", "maximum"}  # fmt: skip


def problems(value, schema, root=None, at="$"):
    """What does not fit, as lines."""
    root = root or schema
    assert not schema.keys() - KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in schema:
        fits = any(not problems(value, one, root, at) for one in schema["anyOf"])
        return [] if fits else [f"{at}: no alternative fits"]
    found = []
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(isinstance(value, TYPES[n]) and (n == "boolean") == isinstance(value, bool) for n in names):
            return [f"{at}: expected {names}, found {value!r}"]
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        found.append(f"{at}: {value!r}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{at}: {value!r}")
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value) if "minimum" in schema else False:
        found.append(f"{at}: {value!r}")
    if isinstance(value, dict):
        found += [f"{at}: {key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, entry in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                found += problems(entry, inner, root, f"{at}.{key}")
    if isinstance(value, list) and "items" in schema:
        for i, entry in enumerate(value):
            found += problems(entry, schema["items"], root, f"{at}[{i}]")
    return found
