"""noise - the reference run again, rounded at random as a profile says: what a precision does to log-probabilities."""

from typing import Any

import numpy as np

from refmoe.program import Program, Step
from refmoe.verifier.profiles import TYPES, Profile

RUNS, FLIPS = 3, 6
MORE = 4.0  # times what rounding does to the logits of routers: makes choices that are nearly ties fall either way
ROUTES = "route_"
PRODUCTS = ("linear", "expert_linear", "logits", "attention", "latent_attention", "absorb", "expand")  # begin so
Kinds = dict[str, tuple[float, int]]


def rounded_runs(model: Any, ids: list[int], profile: Profile) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits of RUNS runs, and of FLIPS more. Each result goes up or down to a neighbour in its type, right on average;
    chosen experts and their weights are left alone. In the second ones other experts may be chosen where choices are
    close: one that falls the other way changes everything behind it."""
    routers = _routers(model.program)
    exact, _ = _run(model, ids, routers)
    apart: dict[str, float] = dict.fromkeys(routers, 0.0)
    kinds, runs, flips = types(model.program, profile), [], []
    for seed in range(RUNS):
        found, logits = _run(model, ids, routers, kinds, np.random.default_rng(seed))
        runs.append(logits)
        for name in routers:
            apart[name] += float(((found[name] - exact[name]) ** 2).mean()) / RUNS
    for n in range(FLIPS if routers else 0):  # in twos: what one run pushes up, the next pushes down
        more = {name: MORE * square**0.5 * (-1) ** n for name, square in apart.items()}
        flips.append(_run(model, ids, routers, kinds, np.random.default_rng(RUNS + n // 2), more)[1])
    return runs, flips


def _routers(program: Program) -> set[str]:
    """Names of results that choose experts."""
    return {f"layers.{n}.{step.inputs[0]}" for n, kind in enumerate(program.kinds) for step in program.blocks[kind]
            if step.op.startswith(ROUTES)}  # fmt: skip


def _run(model: Any, ids: list[int], routers: set[str], kinds: Kinds | None = None,
         generator: Any = None, more: dict[str, float] | None = None
         ) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """The logits of routers, and those of the model, of one run."""
    kept = {}

    def record(name: str, rows: np.ndarray) -> None:
        if kinds and rows.dtype == np.float32 and ROUTES not in name:
            spread(rows, kinds[name], generator)
        if name in routers:
            kept[name] = rows.astype(np.float64)
            if more:
                rows += more[name] * generator.standard_normal(rows.shape, np.float32)

    (logits,) = model.engine.run([(model.engine.sequence(), ids)], every=True, record=record)
    return kept, np.array(logits)


def types(program: Program, profile: Profile) -> Kinds:
    """Name of a result -> half a unit of the coarsest type it goes through, that of its op's results or of the operands
    of a product that takes it; and how many neighbours share a scale, if that type is int8, else 0."""
    found = {}
    parts = [("", program.head), *((f"layers.{n}.", program.blocks[kind]) for n, kind in enumerate(program.kinds)),
             ("", program.tail)]  # fmt: skip
    for prefix, steps in parts:
        for step in steps:
            for name in step.out:
                own = profile.where(step.op, prefix + name)
                kinds = {own.output: 0, own.intermediate: 0} | _taken(name, steps, prefix, profile)
                worst = max(kinds, key=lambda kind: TYPES[kind].unit)
                found[prefix + name] = TYPES[worst].unit, kinds[worst]
    return found


def _taken(name: str, steps: tuple[Step, ...], prefix: str, profile: Profile) -> dict[str, int]:
    """Types of the products that take a result as operand, with their groups."""
    takers = [step for step in steps if name in step.inputs and step.op.startswith(PRODUCTS)]
    places = [profile.where(step.op, prefix + step.out[0]) for step in takers]
    return {place.input: place.input_group if place.input == "int8" else 0 for place in places}


def spread(rows: np.ndarray, kind: tuple[float, int], generator: np.random.Generator) -> None:
    """Round in place."""
    unit, group = kind
    wide = rows.astype(np.float64)
    if group:
        flat = wide.reshape(-1)
        padded = np.pad(abs(flat), (0, -len(flat) % group)).reshape(-1, group)
        step = np.repeat(padded.max(axis=1) / 127, group)[: len(flat)].reshape(wide.shape)
    else:
        step = 2 * unit * np.exp2(np.floor(np.log2(np.maximum(abs(wide), 1e-30))))
    step = np.where(step > 0, step, 1.0)
    rows[...] = np.floor(wide / step + generator.random(rows.shape)) * step
