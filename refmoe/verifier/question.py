"""question - one op, its inputs and what a port made of them, as judging, signatures and mutations need it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refmoe.errors import UsageError
from refmoe.verifier.arithmetic import Arithmetic
from refmoe.verifier.balls import nearest
from refmoe.verifier.bounds import get as bounds_of
from refmoe.verifier.bounds.formats import decoded
from refmoe.verifier.profiles import Profile
from refmoe.verifier.routing import Routing
from refmoe.verifier.stored import Stored

Real = dict[str, Any] | Routing  # what a function of bounds returns


@dataclass
class Question:
    """One case to be judged: everything that bounds, signatures and mutations need."""

    op: str
    inputs: dict[str, Any]  # arrays and attributes
    found: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    profile: Profile
    case: str = ""

    def evaluate(self, arithmetic: Arithmetic) -> Real:
        """The op in binary64 with its bounds."""
        function = bounds_of(self.op)
        if function is not None:
            return function(arithmetic, **self.inputs)
        if self.op.startswith("formats/"):
            stored = Stored(self.op.partition("/")[2], self.inputs, self.expected["decoded"])
            return {"decoded": decoded(arithmetic, stored.y, stored.magnitude())}
        raise UsageError(f"{self.op}: expected an op with bounds, found one without")

    @property
    def size(self) -> int:
        """Bytes of the inputs."""
        return sum(value.nbytes for value in self.inputs.values() if isinstance(value, np.ndarray))

    @property
    def stored(self) -> bool:
        """Are all results numbers of the declared output type?"""
        kind = self.profile.output
        floats = [array for array in self.found.values() if array.dtype.kind == "f"]
        return all(np.array_equal(nearest(array, kind), array, equal_nan=True) for array in floats)

    @property
    def bounded(self) -> bool:
        """Is there anything to evaluate?"""
        return bounds_of(self.op) is not None or (self.op.startswith("formats/") and bool(self.expected))
