"""rope_pairs: the oracle of rope_half with neighbouring pairs."""

from tests.oracles.rope_half import bits_of, half_split, mutants_of, neighbours, reference_of


def bits(**inputs):
    """The result."""
    return bits_of(neighbours, **inputs)


def reference(**inputs):
    """{name: (binary64 value, bound)}."""
    return reference_of(neighbours, **inputs)


MUTANTS = mutants_of(neighbours, half_split)
