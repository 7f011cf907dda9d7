"""sizes - how many bytes of weights `quantize` would write, without writing: from the program and, where there are
weights, from their headers.

Without headers the source counts as bf16. Headers and metadata of the files written are not counted; apart from them
it is what is written, by test.
"""

from collections import Counter
from math import prod
from typing import NamedTuple

from refmoe import checkpoint, program
from refmoe.checkpoint import gguf_export
from refmoe.checkpoint.safetensors import DTYPE_BITS
from refmoe.quantize.targets import KEPT, TARGETS, Target, stored


class _Kind(NamedTuple):
    """What many tensors have in common; `plain` is the bytes of an element where it is not encoded."""

    role: str
    layer: int | None  # 0 for all layers, as `expert` for all experts
    expert: int | None
    matrix: bool
    shape: tuple[int, ...]
    plain: int


def planned(built: program.Program, claims: checkpoint.Claims | None = None) -> dict[str, dict[str, int]]:
    """target -> {"weights": bytes, "experts_only": bytes}, each where something would be encoded."""
    kinds, copies = _kinds(built, claims), sum(info.nbytes for info, _ in claims.copies.values()) if claims else 0
    made = sum(array.nbytes for array in gguf_export.extra(built).values())
    stacked = any("[{e}]" in tensor.name for tensor in built.tensors.values())  # only GGUF has a form for that
    found: dict[str, dict[str, int]] = {}
    for name, target in TARGETS.items():
        if stacked if target.config else built.arch not in gguf_export.ARCHITECTURES:
            continue
        for way, only in (("weights", False), ("experts_only", True)):
            if size := _size(kinds, target, only):
                found.setdefault(name, {})[way] = size + (copies if target.config else made)
    return found


def _kinds(built: program.Program, claims: checkpoint.Claims | None) -> Counter[_Kind]:
    """How many tensors there are of each kind; one that two roles share counts once."""
    found: Counter[_Kind] = Counter()
    seen: set[str] = set()
    for role, layer, expert, tensor, shape in built.expected():
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        plain, key = 2, (role, layer, expert)
        if claims and tensor.kind == "vector":
            plain = DTYPE_BITS[claims.vectors[key].dtype] // 8
        elif claims and claims.matrices[key].format == "f32":
            plain = 4
        found[_Kind(role, layer and 0, expert and 0, tensor.kind == "matrix", shape, plain)] += 1
    return found


def _size(kinds: Counter[_Kind], target: Target, experts_only: bool) -> int:
    """Bytes, 0 if nothing would be encoded."""
    total, any_encoded = 0, False
    for kind, count in kinds.items():
        wanted = kind.matrix and target.wants(kind.role, kind.layer, kind.expert, experts_only)
        if wanted and (used := target.fitting(kind.shape[1])):
            parts, any_encoded = stored(used.name, *kind.shape).values(), True
            size = sum(prod(shape) * each for _, shape, each in parts)
        else:
            wide = target.config is None and (not kind.matrix or kind.role in KEPT)
            size = prod(kind.shape) * (4 if wide else kind.plain)
        total += size * count
    return total if any_encoded else 0
