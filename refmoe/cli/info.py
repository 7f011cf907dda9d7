"""refmoe info"""

import json

import click

from refmoe.cli import _shared


@click.command("info")
@_shared.model_option
@_shared.json_option
def command(location, as_json):
    """Show a model's shape, size, formats and what of it would be ignored; reads no weights.

    MODEL may also be a config file alone, of any name that ends in .json.
    """
    from refmoe import info

    facts = info.describe(location)
    _shared.emit(json.dumps(facts) + "\n" if as_json else _text(facts))


def _text(facts: dict) -> str:
    from refmoe import program_text

    dims, counts, weights = facts["dims"], facts["parameters"], facts["weights"]
    rope = ", ".join(f"{key} {program_text.number(value)}" for key, value in facts["rope"].items())
    rows = [
        ("model", facts["path"]),
        ("architecture", facts["architecture"]),
        ("parameters", f"{counts['total']:,} total, {counts['active']:,} active"),
        ("context", f"{facts['context']:,} positions" + (f", window {facts['window']:,}" if facts["window"] else "")),
        ("layers", ", ".join(f"{count} {name}" for name, count in facts["layers"].items())),
        *((program_text.WORDS.get(name, name), program_text.number(value)) for name, value in dims.items()
          if name in program_text.WORDS and name.isupper() and name != "L"),
        ("rope", rope),
        ("router", facts["router"] or "none: dense"),
        ("output head", "tied to the embedding" if facts["tied_head"] else "own matrix"),
        ("cache per token", f"{4 * facts['kv_values_per_token']:,} bytes in f32, half of it in bf16"),
        *([("quantised", _quantised(facts["quantised"]))] if facts["quantised"] else []),
        ("memory", _memory(facts)),
        *([("sampling", _sampling(facts["suggested_sampling"]))] if facts["suggested_sampling"] else []),
        ("program", facts["program_digest"]),
    ]  # fmt: skip
    lines = [f"{name:<20} {value}" for name, value in rows]
    lines += _weight_lines(weights) if weights else _no_weight_lines(facts)
    lines += _quantize_lines(facts["quantize"])
    assumed = {k: reason for k, (status, reason) in facts["config"].items() if status == "assumed"}
    ignored = {k: reason for k, (status, reason) in facts["config"].items() if status == "ignored"}
    metadata = facts.get("metadata", {})  # of a GGUF file
    more = {status: {k: reason for k, (found, reason) in metadata.items() if found == status}
            for status in ("assumed", "ignored")}  # fmt: skip
    for title, keys in (("config keys assumed", assumed), ("config keys ignored", ignored),
                        ("metadata assumed", more["assumed"]), ("metadata ignored", more["ignored"])):  # fmt: skip
        lines += [title, *(f"  {key}: {reason}" for key, reason in keys.items())] if keys else []
    return "\n".join(lines) + "\n"


def _sampling(suggested: dict) -> str:
    words = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in suggested.items())
    return f"{words}: suggested, used with --sampling model"


def _quantised(stated: dict) -> str:
    schemes = [" ".join([one["format"], *(f"{key} {value}" for key, value in one.items() if key != "format")])
               for one in stated["schemes"]]  # fmt: skip
    return f"{stated['method']}: {' or '.join(schemes)}"


def _size(count: float) -> str:
    """Bytes with three digits."""
    unit = next((n for n in range(4) if count < 999.5 * 1000**n), 4)
    value = count / 1000**unit
    return f"{f'{value:#.3g}'.rstrip('.')} {('bytes', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _memory(facts: dict) -> str:
    need = facts["memory"]
    weights = "of weights" if need["weights_as"] == "stored" else f"of weights if they were {need['weights_as']}"
    return (f"{_size(need['weights'])} {weights}; {_size(need['cache_f32'])} of cache in f32, "
            f"{_size(need['cache_bf16'])} in bf16, for a sequence of {facts['context']:,} tokens")  # fmt: skip


def _quantize_lines(targets: dict) -> list[str]:
    """The sizes after `refmoe quantize`."""
    lines, words = [], {"weights": "", "experts_only": " (only the experts)"}
    for name, found in targets.items():
        ways = [f"{_size(count)}{words[way]}" for way, count in found.items()]
        lines.append(f"  {name:<18} {', '.join(ways)}")
    return ["weights after refmoe quantize --format", *lines] if lines else []


def _no_weight_lines(facts: dict) -> list[str]:
    return [
        f"{'weights':<20} none here: only the config was checked",
        f"{'bytes per token':<20} {facts['bytes_per_token_bf16']:,} if they were bf16",
    ]


def _weight_lines(weights: dict) -> list[str]:
    stored = ", ".join(f"{size:,} {name}" for name, size in weights["bytes"].items() if size)
    lines = [
        f"{'stored bytes':<20} {stored}",
        f"{'bytes per token':<20} {weights['bytes_per_token']:,} read to decode one token",
        "tensors",
    ]
    for role, entry in weights["roles"].items():
        shape = "x".join(map(str, entry["shape"]))
        formats = "+".join(entry["formats"])
        lines.append(f"  {role:<12} {entry['tensors']:>6} of {shape:<14} {formats:<9} {entry['bytes']:,} bytes")
    if weights["ignored"]:
        lines += ["tensors ignored", *(f"  {name}: {reason}" for name, reason in weights["ignored"].items())]
    if weights["unused_files"]:
        lines.append("files not used: " + ", ".join(weights["unused_files"]))
    return lines
