"""route_sigmoid_groups_renorm: the oracle of route_sigmoid_groups with weights divided by their sum."""

import numpy as np

from tests.oracles.route_sigmoid_groups import mutants_of, plain_weights, reference_of, renormalise, route


def bits(logits, bias, k, groups, open_groups, factor):
    """The result."""
    return route(renormalise, logits, bias, k, groups, open_groups, factor)


def reference(logits, bias, k, groups, open_groups, factor):
    """{name: (binary64 value, bound)}."""
    return reference_of(renormalise, logits, bias, k, groups, open_groups, factor)


def _no_epsilon(logits, bias, k, groups, open_groups, factor):
    def finish(s, factor):
        with np.errstate(all="ignore"):
            return s / s.sum() * np.float32(factor)

    return route(finish, logits, bias, k, groups, open_groups, factor)


MUTANTS = mutants_of(renormalise, plain_weights) | {"no_epsilon": _no_epsilon}
