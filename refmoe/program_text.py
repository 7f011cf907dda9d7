"""A program for people: the printed step lists, and the facts that `refmoe info` shows."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from refmoe.config import round32
from refmoe.steps import UNLIMITED, Step

if TYPE_CHECKING:
    from refmoe.program import Program

WORDS = {
    "V": "vocabulary",
    "H": "hidden",
    "L": "layers",
    "N": "query heads",
    "G": "kv heads",
    "D": "head dim",
    "F": "ffn width",
    "E": "experts",
    "K": "chosen experts",
    "M": "expert width",
    "S": "shared expert width",
    "clip_qkv": "limit of q, k, v",
    "limit": "of gate and up",
    "alpha": "in the gate's sigmoid",
    "A": "rank of queries",
    "R": "rank of latents",
    "P": "unrotated head dim",
    "Q": "rotated head dim",
    "U": "value head dim",
    "C": "numbers cached",
    "W": "expanded head dim",
    "scale": "of attention scores",
    "window": "positions seen",
}
ROUTERS = {
    "route_softmax_topk": "softmax over all experts, top-{K}, weights as they are",
    "route_softmax_topk_renorm": "softmax over all experts, top-{K}, weights renormalised",
    "route_topk_softmax": "top-{K} of the logits, softmax over the chosen",
    "route_softmax_groups": "softmax over all experts, top-{K} in {open_groups} of {groups} groups, times {factor}",
    "route_sigmoid_groups": "sigmoid, top-{K} by score + bias in {open_groups} of {groups} groups, times {factor}",
    "route_sigmoid_groups_renorm": "sigmoid, top-{K} by score + bias in {open_groups} of {groups} groups, "
    "renormalised, times {factor}",
}


def number(value: object) -> str:
    """A whole number as it is; a binary32 value by the fewest digits that give it back."""
    if value == UNLIMITED:
        return "unlimited"
    if not isinstance(value, float) or (value.is_integer() and value < 1e9):
        return str(value).removesuffix(".0")
    if round32(value) != value:
        return repr(value)
    return next(text for digits in range(1, 10) if round32(float(text := f"{value:.{digits}g}")) == value)


def ranges(numbers: Iterable[int]) -> str:
    """Ascending integers as 0-2, 5, 7-9."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _lines(steps: Iterable[Step]) -> list[str]:
    lines = []
    for s in steps:
        arguments = ", ".join(s.inputs) + (" | " + ", ".join(s.weights) if s.weights else "")
        attrs = ", ".join(f"{name}={number(value)}" for name, value in s.attrs.items())
        outs = ", ".join(f"{name} {shape}" for name, shape in zip(s.out, s.shapes, strict=True))
        lines.append(f"  {outs:<26} = {s.op}({arguments}{'; ' if attrs else ''}{attrs})")
    return lines


def text(program: "Program") -> str:
    """dims, tables, head, every block once with its layers, tail, tensors. A step: inputs | weights; attributes."""
    counts = program.parameters()
    lines = [
        f"program {program.arch}: {counts['total']:,} parameters, {counts['active']:,} active",
        f"digest {program.digest()}",
        "dims",
    ]
    lines += [f"  {name:<7} {number(value):<12} {WORDS.get(name, '')}".rstrip() for name, value in program.dims.items()]
    lines.append("tables")
    for name, spec in program.tables.items():
        lines.append(f"  {name}: " + ", ".join(f"{key} {number(value)}" for key, value in spec.items()))
    lines += ["head", *_lines(program.head)]
    for name, steps in program.blocks.items():
        layers = (layer for layer, kind in enumerate(program.kinds) if kind == name)
        lines += [f"block {name}: layers {ranges(layers)}", *_lines(steps)]
    lines += ["tail", *_lines(program.tail), "tensors"]
    for role, tensor in program.tensors.items():
        lines.append(f"  {role:<10} {tensor.kind:<6} [{tensor.shape}]".ljust(34) + tensor.name)
    return "\n".join(lines) + "\n"


def describe(program: "Program") -> dict[str, Any]:
    """Facts for `refmoe info` as plain JSON values; storage formats come from the checkpoint and are the caller's.

    window: positions the layers named window_... see, null if there are none. kv_values_per_token: numbers the cache
    keeps for each token. config: key -> [status, reason]. ignored_tensors: [pattern, reason].
    """
    routers = {s.op for steps in program.blocks.values() for s in steps if s.op in ROUTERS}
    dims = program.dims
    words = {name: number(value) for name, value in dims.items()}
    return {
        "architecture": program.arch,
        "program_digest": program.digest(),
        "layers": dict(Counter(program.kinds)),
        "dims": dict(dims),
        "context": program.context,
        "window": dims.get("window"),
        "rope": dict(program.tables["rope"]),
        "router": next((ROUTERS[op].format(**words) for op in sorted(routers)), None),
        "tied_head": bool(program.copies),
        "parameters": program.parameters(),
        "kv_values_per_token": sum(row.numbers for row in program.cache_rows()),
        "config": {key: list(entry) for key, entry in sorted(program.config_report.items())},
        "ignored_tensors": [list(entry) for entry in program.ignored_tensors],
    }
