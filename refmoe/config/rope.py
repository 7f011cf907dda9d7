"""The rotary table a config asks for, in either dialect, as the spec of `numerics.rope_tables.from_spec`.

Dialect 1  `rope_theta` at the top level, `rope_scaling` null or an object with `type` or `rope_type`.
Dialect 2  `rope_parameters`: an object with `rope_type`, `rope_theta` and the rest (transformers 5).
A file may hold both; they must then say the same. An object with one entry per layer type is taken if all entries are
equal. Where a key is absent we do what transformers 5.23 does, and the spec holds the result:
`original_max_position_embeddings` falls back to `max_position_embeddings` (llama3, yarn), a null yarn `factor` to the
ratio of the two, `beta_fast` to 32, `beta_slow` to 1, `truncate` to true. `attention_factor`, or `mscale` and
`mscale_all_dim` together, appear only if stated: without them the amplitude of yarn is 0.1 ln(factor) + 1. Only llama
may leave `rope_theta` out (10000: the published Llama 1 and 2 files do); elsewhere a missing base is refused, because
a moved key that falls to a default ruins a model silently. Also refused, though transformers 5.23 runs them with what
one of the two says: settings given twice that differ (a `rope_scaling` put beside `rope_parameters` drops the latter's
`rope_theta` there), keys that mean nothing for the kind, a factor below 1. Where entries are nested by layer type, its
yarn reads `truncate` one level too high and takes true; ours takes what the entry says.
"""

from typing import Any

from refmoe.config import Config, positive, shown
from refmoe.config.sizes import FULL, WINDOW
from refmoe.errors import ConfigError

COMMON = ("rope_type", "rope_theta", "partial_rotary_factor")
ORIGINAL = "original_max_position_embeddings"
KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL),
    "yarn": ("factor", ORIGINAL, "beta_fast", "beta_slow", "truncate", "attention_factor", "mscale", "mscale_all_dim"),
}
LIMITS = {"rope_theta": ("a finite number above 1", 1.0 + 2.0**-23), "factor": ("a finite number, at least 1", 1.0)}


def _entry(c: Config, key: str) -> dict[str, Any] | None:
    """The object under `key`: `type` renamed to `rope_type`, nulls dropped except where they mean something."""
    if not c.has(key):
        return None
    entry = c.values[key]
    if entry == {}:
        c.note(key, "ignored", "an empty object states nothing")
        return None
    if isinstance(entry, dict) and entry and set(entry) <= {FULL, WINDOW}:
        first = next(iter(entry.values()))
        if any(other != first for other in entry.values()):
            raise c.error(key, "one rotary table for all layers")
        entry = first
    if not isinstance(entry, dict):
        raise c.error(key, "an object or null")
    c.note(key, "used", "rotary table")
    flat = {name: value for name, value in entry.items() if value is not None or name in ("factor", "truncate")}
    old = flat.pop("type", None)
    if old is not None and flat.setdefault("rope_type", old) != old:
        raise c.error(f"{key}.type", f"{shown(flat['rope_type'])} as in rope_type", shown(old))
    kind = flat.setdefault("rope_type", "default")
    if not isinstance(kind, str) or kind not in KINDS:
        raise c.error(f"{key}.rope_type", "one of " + ", ".join(KINDS), shown(kind))
    for name, value in flat.items():
        if value is not None and name not in COMMON and name not in KINDS[kind]:
            raise c.error(f"{key}.{name}", f"no such key for rope_type {kind}", shown(value))
    return flat


def _merge(c: Config) -> tuple[dict[str, Any], dict[str, str]]:
    """All rotary settings in one flat object, and for each the name under which the file has it."""
    flat: dict[str, Any] = {}
    names: dict[str, str] = {}

    def add(key: str, name: str, value: Any) -> None:
        if name in flat and flat[name] != value:
            raise c.error(key, f"{shown(flat[name])} as in {names.get(name, 'rope_type')}", shown(value))
        flat.setdefault(name, value)
        names.setdefault(name, key)

    entries = {key: entry for key in ("rope_parameters", "rope_scaling") if (entry := _entry(c, key)) is not None}
    bodies = [{name for name in entry if name != "rope_theta"} for entry in entries.values()]
    if len(bodies) == 2 and bodies[0] != bodies[1]:
        raise c.error("rope_scaling", "the same as rope_parameters")
    for key, entry in entries.items():
        for name, value in entry.items():
            add(f"{key}.{name}", name, value)
    kind = flat.setdefault("rope_type", "default")
    for name in ("rope_theta", ORIGINAL, "partial_rotary_factor"):
        if not c.has(name):
            continue
        if name in COMMON or name in KINDS[kind]:
            c.note(name, "used", "rotary table")
            add(name, name, c.values[name])
        else:
            c.note(name, "ignored", f"means nothing for rope_type {kind}")
    return flat, names


def rotated(c: Config, head_dim: int, default: float) -> int:
    """How many of the first numbers of a head are rotated: head_dim * partial_rotary_factor, rounded down."""
    flat, names = _merge(c)
    share = flat.get("partial_rotary_factor")
    key = names.get("partial_rotary_factor", "partial_rotary_factor")
    if share is None:
        c.note(key, "assumed", f"not set: {default}")
        share = default
    if not positive(share) or share > 1 or int(head_dim * share) < 2 or int(head_dim * share) % 2:
        raise c.error(key, f"a share of at most 1 that makes {head_dim} an even number", shown(share))
    return int(head_dim * share)


def read(
    c: Config, head_dim: int, context: int, default_theta: float | None = None, *, partial: bool = False
) -> dict[str, Any]:
    """The rope spec: kind, head_dim, base and what the kind needs, with every default resolved.

    `partial`: head_dim is what `rotated` made of partial_rotary_factor; else that factor must be 1.
    """
    flat, names = _merge(c)
    kind = flat["rope_type"]
    home = "rope_parameters" if c.has("rope_parameters") else "rope_scaling"

    def error(name: str, expected: str) -> ConfigError:
        plain = name if name == "rope_theta" else f"{home}.{name}"
        return c.error(names.get(name, plain), expected, shown(flat[name]) if name in flat else "nothing")

    def number(name: str, default: Any = None) -> float:
        value = default if flat.get(name) is None else flat[name]
        expected, low = LIMITS.get(name, ("a finite number above 0", 0.0))
        if not positive(value) or value < low:
            raise error(name, expected)
        return float(value)

    if not partial and number("partial_rotary_factor", 1.0) != 1.0:
        raise error("partial_rotary_factor", "1 (all of the head is rotated)")
    if "rope_theta" not in flat and default_theta is not None:
        c.note("rope_theta", "assumed", f"not set: {default_theta}")
    spec: dict[str, Any] = {"kind": kind, "head_dim": head_dim, "base": number("rope_theta", default_theta)}
    if ORIGINAL in KINDS[kind]:
        spec[ORIGINAL] = flat.get(ORIGINAL, context)
        if type(spec[ORIGINAL]) is not int or not 1 <= spec[ORIGINAL] <= 2**31:
            raise error(ORIGINAL, "an integer above 0")
    if kind == "yarn":
        spec["factor"] = number("factor", context / spec[ORIGINAL] if "factor" in flat else None)
        spec |= {"beta_fast": number("beta_fast", 32.0), "beta_slow": number("beta_slow", 1.0)}
        spec["truncate"] = flat.get("truncate", True)
        if type(spec["truncate"]) is not bool:
            raise error("truncate", "true or false")
        if spec["beta_fast"] < spec["beta_slow"]:
            raise error("beta_fast", f"at least beta_slow {spec['beta_slow']}")
        if "attention_factor" in flat:
            spec["attention_factor"] = number("attention_factor")
        elif flat.get("mscale") and flat.get("mscale_all_dim"):  # a 0 switches the pair off, as in transformers
            spec |= {"mscale": number("mscale"), "mscale_all_dim": number("mscale_all_dim")}
    else:
        spec |= {name: number(name) for name in KINDS[kind] if name != ORIGINAL}
    if kind == "llama3" and spec["high_freq_factor"] <= spec["low_freq_factor"]:
        raise error("high_freq_factor", f"more than low_freq_factor {spec['low_freq_factor']}")
    return spec


def mscale_all_dim(c: Config) -> float:
    """The number under that key, or 0; it also enters the softmax scale of latent attention."""
    value = _merge(c)[0].get("mscale_all_dim")
    if value and not positive(value):
        raise c.error("mscale_all_dim", "a finite number, at least 0", shown(value))
    return float(value or 0.0)


def reach(spec: dict[str, Any], context: int) -> int:
    """Positions a model with this table is meant for: yarn stretches the original context by its factor, and model
    cards tell people to add it to a config whose max_position_embeddings stays (Qwen3: 40,960, with yarn 131,072)."""
    stretched = spec["factor"] * spec[ORIGINAL] if spec["kind"] == "yarn" else 0.0
    return max(context, int(min(stretched, 2.0**31 - 1)))
