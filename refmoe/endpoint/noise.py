"""noise - the reference run again with every result rounded at random to the declared type: what a precision does."""

from typing import Any

import numpy as np

from refmoe.verifier.profiles import TYPES, Profile

RUNS = 3
ROUTES = "route_"


def rounded_runs(model: Any, ids: list[int], profile: Profile) -> list[np.ndarray]:
    """Logits of RUNS runs. Each result goes up or down to a neighbour in the type, with probabilities that keep it
    right on average; chosen experts and their weights are left alone."""
    runs = []
    for seed in range(RUNS):
        generator = np.random.default_rng(seed)

        def record(name: str, rows: np.ndarray, generator: np.random.Generator = generator) -> None:
            if rows.dtype == np.float32 and ROUTES not in name:
                spread(rows, profile, generator)

        (logits,) = model.engine.run([(model.engine.sequence(), ids)], every=True, record=record)
        runs.append(np.array(logits))
    return runs


def spread(rows: np.ndarray, profile: Profile, generator: np.random.Generator) -> None:
    """Round in place."""
    group = profile.input_group if profile.input == "int8" else 0
    unit = max(TYPES[profile.output].unit, TYPES[profile.intermediate].unit, TYPES[profile.input].unit)
    wide = rows.astype(np.float64)
    if group:
        flat = wide.reshape(-1)
        padded = np.pad(abs(flat), (0, -len(flat) % group)).reshape(-1, group)
        step = np.repeat(padded.max(axis=1) / 127, group)[: len(flat)].reshape(wide.shape)
    else:
        step = 2 * unit * np.exp2(np.floor(np.log2(np.maximum(abs(wide), 1e-30))))
    step = np.where(step > 0, step, 1.0)
    rows[...] = np.floor(wide / step + generator.random(rows.shape)) * step
