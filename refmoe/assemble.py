"""Tables of a model from its parts: embedding, blocks of two halves each, final norm, head, rotary table."""

from collections.abc import Callable, Sequence
from typing import Any

from refmoe.config import Config, rope
from refmoe.steps import UNLIMITED, Attr, Dims, Step, Tables, Tensor, step

INV_FREQ = ("*rotary_emb.inv_freq", "rotary tables are computed from the config, exactly; stored ones are rounded")
TIED = ("lm_head.*", "tied to embed_tokens")


def assemble(
    c: Config,
    d: Dims,
    tensors: dict[str, Tensor],
    *,
    first: Callable[[Attr], tuple[Step, ...]],
    halves: dict[str, tuple[Step, ...]],
    layers: Sequence[str] | None = None,
    window: int | None = None,
    windowed: Sequence[bool],
    theta: float | None = None,
    turned: str = "D",
    partial: bool = False,
    scale: Callable[[Config, int, dict[str, Any]], float] | None = None,
    ignored: tuple[tuple[str, str], ...] = (),
) -> Tables:
    """Assemble the tables; blocks are named full_dense, window_sparse, ... after their two halves.

    `first`: first half of a block for an attention window; `halves`: second halves by name; `layers`: the one of each
    layer (None: the only one); `windowed`: layers with a window of `window` positions; `theta`: rotary base of a file
    that lacks it (None: refused); `turned`: the axis that is rotated; `partial`: it is a share of the head
    (partial_rotary_factor); `scale`: makes the dim of that name from D and the rotary table, where it depends on both;
    `ignored`: patterns of tensors that are not read, each with a reason.
    """
    tied = c.flag("tie_word_embeddings", default=False, reason="head and embedding: one matrix or two")
    if any(windowed):
        d["window"] = window
    names = zip(windowed, layers or tuple(halves) * d["L"], strict=True)
    kinds = tuple(f"{'window' if flag else 'full'}_{half}" for flag, half in names)
    blocks = {}
    for kind in dict.fromkeys(kinds):
        sight, _, second = kind.partition("_")
        blocks[kind] = first("window" if sight == "window" else UNLIMITED) + halves[second]
    head = (step("embed", "embedding", "ids", "embed"),)
    tail = (
        step("final_norm", "rms_norm", "x", "norm", eps="eps"),
        step("logits", "logits", "final_norm", "embed" if tied else "lm_head"),
    )
    used = dict.fromkeys(role for part in (head, *blocks.values(), tail) for s in part for role in s.weights)
    context = c.integer("max_position_embeddings", high=UNLIMITED, reason="context the publisher trained for")
    turns = rope.read(c, d[turned], context, theta, partial=partial)
    if scale is not None:
        d["scale"] = scale(c, d["D"], turns)
    return Tables(
        dims=d,
        kinds=kinds,
        head=head,
        blocks=blocks,
        tail=tail,
        tensors={role: tensors[role] for role in used},
        tables={"rope": turns},
        context=rope.reach(turns, context),
        copies=(("lm_head", "model.embed_tokens"),) if tied else (),
        ignored_tensors=(INV_FREQ, *ignored, *((TIED,) if tied else ())),
    )
