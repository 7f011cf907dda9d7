"""route_softmax_topk_renorm: the oracle of route_softmax_topk with weights divided by their sum."""

from tests.oracles.route_softmax_topk import bits_of, mutants_of, plain_weights, reference_of, renormalise


def bits(logits, k):
    """The result."""
    return bits_of(renormalise, logits, k)


def reference(logits, k):
    """{name: (binary64 value, bound)}."""
    return reference_of(renormalise, logits, k)


MUTANTS = mutants_of(renormalise, plain_weights)
