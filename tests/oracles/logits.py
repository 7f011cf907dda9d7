"""logits: as linear, with the mutants of a head."""

import numpy as np

from tests.oracles import linear
from tests.oracles.arithmetic import bf16, dots, exact_dots, halves_after

bits, reference = linear.bits, linear.reference


def _capped(x, w):
    return {"y": (30 * np.tanh(exact_dots(x, w) / 30)).astype(np.float32)}


MUTANTS = {
    "W01": lambda x, w: {"y": dots(x, np.random.default_rng(0).normal(size=w.shape).astype(np.float32))},
    "N03": lambda x, w: {"y": halves_after(x, w, 8)},
    "rounded_to_bf16": lambda x, w: {"y": bf16(exact_dots(x, w))},
    "capped": _capped,
}
ORDER = {"N03"}
