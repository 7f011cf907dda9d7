"""values - the inputs of a step in a recorded run: as they were recorded, or replayed from what was.

An input that was not recorded is computed by our steps from recorded ones: in f32 for our own results (`ours`), and as
a Ball, with the bounds of the steps in between, for verdicts (`real`).
"""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from refmoe import formats, ops, signature
from refmoe.comparison.names import Named, parts, width
from refmoe.errors import TraceError
from refmoe.kvcache import Sequence
from refmoe.program import Step
from refmoe.verifier.arithmetic import Arithmetic
from refmoe.verifier.balls import Ball
from refmoe.verifier.bounds import get as bounds_of
from refmoe.verifier.profiles import Profile

DEEPEST = 16  # steps that one verdict may be about


class NotRecorded(Exception):
    """An input that neither was recorded nor follows from what was."""


@dataclass(frozen=True)
class Place:
    """A step of one pass: `one` is (prefix, first position, rows), `part` counts head, layers, tail."""

    one: tuple[str, int, int]
    part: int
    step: Step


@dataclass(frozen=True)
class Chosen:
    """Rows, and columns or None, that are judged; `total` rows there are."""

    rows: np.ndarray
    cols: np.ndarray | None
    total: int


class Values:
    """A recorded run beside a model. `ids` are the prompt's tokens if they are known, `step_ids` those of decode
    steps that were recorded with steps.{n}. in front."""

    def __init__(self, model: Any, named: Named, profile: Profile, ids: list[int] | None, step_ids: list[int]):
        self.model, self.named, self.profile = model, named, profile
        self.program, self.weights = model.program, model.engine.weights
        self.ids, self.step_ids = ids, step_ids
        self.rows = len(ids) if ids else self._count()
        self.parts = parts(self.program)
        self.memory: dict[str, np.ndarray] = {}

    def _count(self) -> int:
        """Rows of the prompt where its ids are not known: those of an array that has no other size than its width."""
        for name, (item, entry, _) in self.named.loaders.items():
            total = int(np.prod(item.shape))
            own = width(name, self.program)
            if (entry is None or len(entry.ours) == 1) and not name.startswith("steps.") and total % own == 0:
                return total // own
        raise TraceError(f"{self.named.source.place}: expected arrays of this program, found none that fits")

    def passes(self) -> list[tuple[str, int, int]]:
        """The prompt, then decode steps: (prefix of names, first position, rows)."""
        count = max((int(n.split(".")[1]) + 1 for n in self.named.loaders if n.startswith("steps.")), default=0)
        return [("", 0, self.rows), *((f"steps.{n}.", self.rows + n, 1) for n in range(count))]

    def name(self, place: "Place", out: str) -> str:
        return place.one[0] + self.parts[place.part][0] + out

    def recorded(self, name: str, rows: int) -> np.ndarray | None:
        if name not in self.named:
            return None
        if name not in self.memory:
            self.memory[name] = self.named.load(name, rows)
        return self.memory[name]

    def source(self, place: "Place", word: str) -> tuple["Place", str]:
        """The step that makes an input, and the name of that result."""
        part = place.part
        if word == "x":
            part -= 1
            return Place(place.one, part, self.parts[part][1][-1]), self.parts[part][1][-1].out[-1]
        step = next(s for s in self.parts[part][1] if word in s.out)
        return Place(place.one, part, step), word

    def given(self, place: "Place", word: str) -> np.ndarray | None:
        """An input as it was recorded, or that needs no recording; None if it has to be computed."""
        prefix, first, rows = place.one
        if word == "positions":
            return np.arange(first, first + rows, dtype=np.int64)
        if word == "ids":
            tokens = self.step_ids[first - self.rows :][:1] if prefix else self.ids
            if not tokens:
                raise NotRecorded("token ids")
            return np.array(tokens, np.int64)
        source, out = self.source(place, word)
        found = self.recorded(self.name(source, out), rows)
        if word == "route_ids" and found is not None and not ((found >= 0) & (found < self.program.dims["E"])).all():
            raise NotRecorded(f"{word} of existing experts")
        return found

    def ours(self, place: "Place", word: str, depth: int = 0) -> np.ndarray:
        """An input in f32: recorded, or computed by our steps from what was."""
        found = self.given(place, word)
        if found is not None:
            return found
        source, out = self.source(place, word)
        key = "ours " + self.name(source, out)
        if key not in self.memory:
            if depth == DEEPEST:
                raise NotRecorded(self.name(source, out))
            for name, value in self.call(source, depth + 1).items():
                self.memory["ours " + self.name(source, name)] = value
        return self.memory[key]

    def call(self, place: "Place", depth: int = 0) -> dict[str, np.ndarray]:
        """Our results of a step on the inputs of `_ours`."""
        step, attrs = place.step, self.model.engine.attributes(place.step)
        call = ops.get(step.op).bind(self.operands(place), attrs, self.model.engine.threads)
        inputs: list[Any] = [self.ours(place, word, depth) for word in step.inputs if word != "cache"]
        if "cache" in step.inputs:
            sequence = Sequence([self.program.cache_rows()[place.part - 1]], "f32")
            past = self.past(place)
            sequence.reserve(place.one[1] + place.one[2])
            if past is not None:
                sequence.layers[0].append(*past)
            inputs.append([(0, place.one[2], sequence.layers[0])])
        result = call(*inputs)
        return dict(zip(step.out, result if len(step.out) > 1 else (result,), strict=True))

    def past(self, place: "Place") -> tuple[np.ndarray, np.ndarray] | None:
        """What the cache held before a decode step: the two kept inputs of all earlier passes."""
        earlier = [one for one in self.passes() if one[1] < place.one[1]]
        if not earlier:
            return None
        kept = _kept(place.step)
        rows = [[self.ours(Place(one, place.part, place.step), word) for word in kept] for one in earlier]
        return tuple(np.concatenate(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]

    def operands(self, place: "Place") -> tuple[Any, ...]:
        layer = place.part - 1 if 0 < place.part < len(self.parts) - 1 else None
        return tuple(self.weights[role, layer] if (role, layer) in self.weights else self.weights[role, None]
                     for role in place.step.weights)  # fmt: skip

    def question(self, place: "Place", chosen: "Chosen") -> dict[str, Any]:
        """Inputs of a step as its bounds take them, for the chosen rows; what was not recorded as balls."""
        step, inputs = place.step, {}
        params = [param for param in signature.load(step.op)[0].params if param.axes is not None]
        words = [word for word in step.inputs if word != "cache"]
        kept = _kept(step)
        for param, word in zip(params, words, strict=False):
            if word in kept:
                inputs[param.name] = self.column(place, word)
            else:
                inputs[param.name] = self.real(place, word, chosen.rows)
        attrs = self.model.engine.attributes(step)
        if "inv_freq" in attrs:
            params = [param for param in params if param.name != "inv_freq"]
        for param, operand in zip(params[len(words) :], self.operands(place), strict=True):
            inputs[param.name] = operand
        self.decode(step, inputs, chosen)
        function = bounds_of(step.op)
        known = set(inspect.signature(function).parameters) if function else set()
        return inputs | {name: value for name, value in attrs.items() if name in known}

    def column(self, place: "Place", word: str) -> Any:
        """Everything the cache holds of one kept input, its own rows last."""
        passes = [one for one in self.passes() if one[1] <= place.one[1]]
        values = [self.real(Place(one, place.part, place.step), word, np.arange(one[2])) for one in passes]
        if any(isinstance(value, Ball) for value in values):
            balls = [value if isinstance(value, Ball) else Ball(value) for value in values]
            return Ball(np.concatenate([b.v for b in balls]), np.concatenate([b.e for b in balls]))
        return np.concatenate(values)

    def decode(self, step: Step, inputs: dict[str, Any], chosen: "Chosen") -> None:
        """Stored matrices to f32, only what is needed: the experts that were chosen, the columns that are judged."""
        experts = np.unique(inputs.get("ids", ()))
        for name, operand in list(inputs.items()):
            if isinstance(operand, list):
                inputs[name] = np.stack([_rows(operand[e], chosen.cols) for e in experts])
            elif hasattr(operand, "format"):
                inputs[name] = _rows(operand, chosen.cols)
            elif name == "b" and step.op == "expert_linear_bias":
                inputs[name] = operand[experts] if chosen.cols is None else operand[experts][:, chosen.cols]
            elif name == "b" and step.op == "linear_bias" and chosen.cols is not None:
                inputs[name] = operand[chosen.cols]
        if step.op.startswith("expert_linear"):
            inputs["ids"] = np.searchsorted(experts, inputs["ids"])

    def stretch(self, place: "Place", depth: int = 0) -> tuple[str, ...]:
        """Steps before this one that were not recorded and take part in its verdict."""
        found: list[str] = []
        for word in place.step.inputs:
            if word in ("cache", "positions", "ids") or self.given(place, word) is not None:
                continue
            source, out = self.source(place, word)
            if depth == DEEPEST:
                raise NotRecorded(self.name(source, out))
            found += [*self.stretch(source, depth + 1), self.name(source, out)]
        return tuple(dict.fromkeys(found))

    def real(self, place: "Place", word: str, rows: np.ndarray) -> Any:
        """Rows of an input: the recorded numbers, or a Ball of what our steps and their bounds say."""
        found = self.given(place, word)
        if found is not None:
            return found[rows]
        source, out = self.source(place, word)
        function = bounds_of(source.step.op)
        profile = self.profile.where(source.step.op, self.name(source, out))
        if function is None or profile.exact:
            return self.ours(place, word)[rows]
        inputs = self.question(source, Chosen(rows, None, place.one[2]))
        labels = [param.name for param in signature.load(source.step.op)[0].results]
        result = function(Arithmetic(profile), **inputs)
        label = labels[source.step.out.index(out)]
        if not isinstance(result, dict) or not isinstance(result[label], Ball):
            raise NotRecorded(self.name(source, out))
        value = result[label]
        plain = value.v.astype(np.float32)
        return plain if not np.any(value.e) and np.array_equal(plain, value.v) else value  # only moved, not computed


def _rows(weight: Any, rows: np.ndarray | None) -> np.ndarray:
    """A stored matrix in f32, or some of its rows."""
    return formats.decode(weight) if rows is None else formats.decode_rows(weight, rows)


def _kept(step: Step) -> list[str]:
    """The inputs of a step that the cache keeps."""
    params = [param for param in signature.load(step.op)[0].params if param.axes is not None]
    words = [word for word in step.inputs if word != "cache"]
    return [word for param, word in zip(params, words, strict=False) if param.axes and param.axes[0] == "S"]
