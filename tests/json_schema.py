"""As much of JSON Schema as the schemas of golden/schemas use; a keyword it does not know is an error."""

import json
import re

import tiny

FOLDER = tiny.ROOT / "golden" / "schemas"
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
         "number": (int, float)}  # fmt: skip
NOTES = {"$schema", "title", "description", "$defs"}


def problems(value, name, schema=None, where="$"):
    """What is wrong with a value, as a list of lines. `name` is the file that references are relative to."""
    root = json.loads((FOLDER / name).read_text("utf-8"))
    schema = root if schema is None else schema
    found = []
    for key, rule in schema.items():
        if key == "$ref":
            file, _, path = rule.partition("#")
            target = json.loads((FOLDER / (file or name)).read_text("utf-8"))
            for word in path.strip("/").split("/"):
                target = target[word]
            found += problems(value, file or name, target, where)
        elif key == "type":
            kinds = [rule] if isinstance(rule, str) else rule
            fits = [isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
                    for kind in kinds]  # fmt: skip
            if not any(fits):
                found.append(f"{where}: expected {rule}, found {value!r}"[:200])
        elif key in ("const", "enum"):
            if value not in ([rule] if key == "const" else rule):
                found.append(f"{where}: expected {rule}, found {value!r}"[:200])
        elif key == "required":
            found += [f"{where}: lacks {word}" for word in rule if word not in value]
        elif key == "properties":
            for word in rule.keys() & value.keys():
                found += problems(value[word], name, rule[word], f"{where}.{word}")
        elif key == "additionalProperties":
            for word in value.keys() - schema.get("properties", {}).keys():
                found += problems(value[word], name, rule, f"{where}.{word}")
        elif key == "items":
            for n, item in enumerate(value):
                found += problems(item, name, rule, f"{where}[{n}]")
        elif key == "anyOf":
            if all(problems(value, name, one, where) for one in rule):
                found.append(f"{where}: fits none of {len(rule)}: {value!r}"[:200])
        elif key in ("minimum", "maximum"):
            if value < rule if key == "minimum" else value > rule:
                found.append(f"{where}: {value} is beyond {rule}")
        elif key == "pattern":
            if not re.search(rule, value):
                found.append(f"{where}: {value!r} does not match {rule}")
        elif key not in NOTES:
            raise ValueError(f"{where}: unknown keyword {key}")
    return found
