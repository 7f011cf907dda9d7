"""Generate: prefill the prompt, then one token at a time, with text, stop rules, timings and a digest."""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refmoe import sampler
from refmoe.errors import UsageError

if TYPE_CHECKING:
    from refmoe.model import Model

MAX_TOKENS = 1 << 24
MAX_STOPS, MAX_STOP_LENGTH, MAX_LOGPROBS = 64, 4096, 1000


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token. `text` is what it makes visible: nothing while a character or a stop string is unfinished.

    `logprob` and `top_logprobs` ((id, logprob), best first) are the model's own, before any sampling option; None and
    () when they were not asked for.
    """

    id: int
    text: str
    logprob: float | None
    top_logprobs: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Options(sampler.Settings):
    """Sampling settings and what ends a generation; UsageError names the one that is out of range.

    logprobs: how many of the best tokens each step reports; 0 only the token itself, None not even that.
    """

    max_tokens: int = 128
    stop: Sequence[str] = ()
    logprobs: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens <= MAX_TOKENS:
            raise UsageError(f"max_tokens: expected an integer from 1 to {MAX_TOKENS}, found {self.max_tokens!r}")
        if self.logprobs is not None and (type(self.logprobs) is not int or not 0 <= self.logprobs <= MAX_LOGPROBS):
            raise UsageError(f"logprobs: expected an integer from 0 to {MAX_LOGPROBS}, found {self.logprobs!r}")
        if not isinstance(self.stop, Sequence):
            raise UsageError(f"stop: expected a string or a list of strings, found {self.stop!r}")
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if len(stops) > MAX_STOPS:
            raise UsageError(f"stop: expected at most {MAX_STOPS} strings, found {len(stops)}")
        for text in stops:
            if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_LENGTH:
                found = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
                raise UsageError(f"stop: expected strings of 1 to {MAX_STOP_LENGTH} characters, found {found}")
        object.__setattr__(self, "stop", stops)


class Generation:
    """Iterator over the steps of one continuation.

    Ends with `finish_reason` "eos" (an end id was generated: it is the last id and has no text), "stop" (a stop string
    was completed: text ends before it, ids include its tokens) or "length" (max_tokens, or no position left in the
    model's context). `text` and `ids` hold what was generated so far. `digest` is the sha256 over all steps of the row
    of logits the token was chosen from (f32, little-endian) and the id (u32, little-endian): equal digests mean equal
    bits. `nan_steps` counts rows of logits that held a nan. `timings` is described at the property.
    """

    def __init__(self, model: "Model", prompt_ids: Sequence[int], options: Options):
        self.prompt_ids = model.check_ids(prompt_ids)
        if len(self.prompt_ids) > model.context:
            raise UsageError(f"prompt has {len(self.prompt_ids)} tokens, the model's context is {model.context}")
        if options.stop and model.tokenizer is None:
            raise UsageError("stop: the model has no tokenizer, so there is no text to stop at")
        self.ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        self.nan_steps = 0
        self._model, self._options, self._stops = model, options, StopStrings(options.stop)
        self._limit = min(options.max_tokens, model.context - len(self.prompt_ids) + 1)  # the last takes no position
        self._hash = hashlib.sha256()
        self._first = self._later = 0.0  # seconds to the first token; seconds of all later ones
        self._steps = self._run()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def __next__(self) -> Step:
        return next(self._steps)

    @property
    def digest(self) -> str:
        """sha256 (hex) over the logits and ids so far."""
        return self._hash.hexdigest()

    @property
    def timings(self) -> dict[str, float | int | None]:
        """Seconds, tokens, tokens per second, bytes. `first_token_s` is prefill and first choice; decode counts the
        tokens after the first and leaves out the time the caller spends between steps."""
        later = max(len(self.ids) - 1, 0)
        return {
            "load_s": self._model.load_seconds,
            "first_token_s": self._first,
            "decode_s": self._later,
            "prompt_tokens": len(self.prompt_ids),
            "generated_tokens": len(self.ids),
            "prefill_tokens_per_s": len(self.prompt_ids) / self._first if self._first else None,
            "decode_tokens_per_s": later / self._later if self._later else None,
            "peak_rss_bytes": peak_memory(),
        }

    def _run(self) -> Iterator[Step]:
        model = self._model
        begin = time.perf_counter()
        chooser = sampler.Sampler(self._options, model.vocab, self.prompt_ids)
        stream = model.tokenizer.stream(self.prompt_ids) if model.tokenizer else None
        sequence, pending = model.engine.sequence(), self.prompt_ids
        while self.finish_reason is None:
            row = model.engine.run([(sequence, pending)])[0][-1]  # [V]
            step = self._step(row, chooser.next(row), stream)
            pending = [step.id]
            seconds = time.perf_counter() - begin
            if len(self.ids) == 1:
                self._first = seconds
            else:
                self._later += seconds
            yield step
            begin = time.perf_counter()

    def _step(self, row: np.ndarray, token: int, stream: Any) -> Step:
        self._hash.update(np.ascontiguousarray(row, "<f4").data)
        self._hash.update(token.to_bytes(4, "little"))
        self.nan_steps += bool(np.isnan(row).any())
        self.ids.append(token)
        ended = token in self._model.end_ids
        text = self._stops.push(stream.push(token)) if stream and not ended else ""
        if self._stops.hit:
            self.finish_reason = "stop"
        elif ended:
            self.finish_reason = "eos"
        elif len(self.ids) == self._limit:
            self.finish_reason = "length"
        if self.finish_reason in ("eos", "length") and stream:
            text += self._stops.push(stream.flush()) + self._stops.flush()
        self.text += text
        return Step(token, text, *self._log_probabilities(row, token))

    def _log_probabilities(self, row: np.ndarray, token: int) -> tuple[float | None, tuple[tuple[int, float], ...]]:
        if self._options.logprobs is None:
            return None, ()
        best = sampler.best(row, self._options.logprobs)
        own, *others = sampler.log_probabilities(row, [token, *best])
        return own, tuple(zip(best, others, strict=True))


class StopStrings:
    """Holds text back while it could be the beginning of a stop string; cuts at the one that ends first (of several
    that end together, before the one that begins first). After that `hit` is true."""

    def __init__(self, stops: Sequence[str]):
        self._stops, self._held, self.hit = stops, "", False

    def push(self, text: str) -> str:
        """Text that is certain to stay."""
        if not self._stops or self.hit:
            return "" if self.hit else text
        self._held += text
        found = [(i + len(stop), i) for stop in self._stops if (i := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            return self._release(min(found)[1])
        longest = max(len(stop) for stop in self._stops) - 1
        for i in range(max(len(self._held) - longest, 0), len(self._held)):
            if any(stop.startswith(self._held[i:]) for stop in self._stops):
                return self._release(i)
        return self._release(len(self._held))

    def flush(self) -> str:
        """What is held when nothing follows; nothing after a hit."""
        return "" if self.hit else self._release(len(self._held))

    def _release(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text


def peak_memory() -> int | None:
    """Peak resident memory of this process in bytes, None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
