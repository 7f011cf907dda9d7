"""Generate: prefill the prompt, then one token at a time, with text, stop rules, timings and a digest.

How ids become text is the business of a reader: `PlainReader` shows all text, those of refmoe.chat take an answer
apart. A `Memory` keeps the key-value cache from one generation to the next; what both prompts begin with is not
computed again. That changes no bit: a row does not depend on the pass it was computed in.
"""

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
    `thinking` is the same for what a chat model thinks before it answers.

    `logprob` and `top_logprobs` ((id, logprob), best first) are the model's own, before any sampling option; None and
    () when they were not asked for.
    """

    id: int
    text: str
    logprob: float | None
    top_logprobs: tuple[tuple[int, float], ...]
    thinking: str = ""


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

    def __init__(self, model: "Model", prompt_ids: Sequence[int], options: Options,
                 reader: Any = None, memory: "Memory | None" = None, ends: frozenset[int] | None = None):  # fmt: skip
        self.prompt_ids = model.check_ids(prompt_ids)
        if len(self.prompt_ids) > model.context:
            raise UsageError(f"prompt has {len(self.prompt_ids)} tokens, the model's context is {model.context}")
        if options.stop and model.tokenizer is None:
            raise UsageError("stop: the model has no tokenizer, so there is no text to stop at")
        self.ids: list[int] = []
        self.text = self.thinking = ""
        self.finish_reason: str | None = None
        self.nan_steps = 0
        self._model, self._options, self._stops = model, options, StopStrings(options.stop)
        self._reader, self._memory = reader, memory or Memory()
        self._ends = model.end_ids if ends is None else ends
        self._reused = 0
        self._limit = min(options.max_tokens, model.context - len(self.prompt_ids) + 1)  # the last takes no position
        self._hash = hashlib.sha256()
        self._first = self._later = 0.0  # seconds to the first token; seconds of all later ones
        self._steps = self._run()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def __next__(self) -> Step:
        return next(self._steps)

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Calls that a chat model asks for; raw text has none."""
        return []

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
            "reused_tokens": self._reused,
            "generated_tokens": len(self.ids),
            "prefill_tokens_per_s": (len(self.prompt_ids) - self._reused) / self._first if self._first else None,
            "decode_tokens_per_s": later / self._later if self._later else None,
            "peak_rss_bytes": peak_memory(),
        }

    def _run(self) -> Iterator[Step]:
        model = self._model
        begin = time.perf_counter()
        chooser = sampler.Sampler(self._options, model.vocab, self.prompt_ids)
        reader = self._reader or PlainReader(model.tokenizer, self.prompt_ids)
        sequence, pending = self._memory.begin(self, model.engine, self.prompt_ids)
        self._reused = len(self.prompt_ids) - len(pending)
        while self.finish_reason is None:
            self._memory.check(self)
            row = model.engine.run([(sequence, pending)])[0][-1]  # [V]
            self._memory.ids += pending
            step = self._step(row, chooser.next(row), reader)
            pending = [step.id]
            seconds = time.perf_counter() - begin
            if len(self.ids) == 1:
                self._first = seconds
            else:
                self._later += seconds
            yield step
            begin = time.perf_counter()

    def _step(self, row: np.ndarray, token: int, reader: Any) -> Step:
        self._hash.update(np.ascontiguousarray(row, "<f4").data)
        self._hash.update(token.to_bytes(4, "little"))
        self.nan_steps += bool(np.isnan(row).any())
        self.ids.append(token)
        ended = token in self._ends
        thinking, text = ("", "") if ended else reader.push(token)
        text = self._stops.push(text)
        if self._stops.hit:
            self.finish_reason = "stop"
        elif ended or reader.ended:
            self.finish_reason = "eos"
        elif len(self.ids) == self._limit:
            self.finish_reason = "length"
        if self.finish_reason in ("eos", "length"):
            last = reader.finish()
            thinking, text = thinking + last[0], text + self._stops.push(last[1]) + self._stops.flush()
        self.text, self.thinking = self.text + text, self.thinking + thinking
        return Step(token, text, *self._log_probabilities(row, token), thinking)

    def _log_probabilities(self, row: np.ndarray, token: int) -> tuple[float | None, tuple[tuple[int, float], ...]]:
        if self._options.logprobs is None:
            return None, ()
        best = sampler.best(row, self._options.logprobs)
        own, *others = sampler.log_probabilities(row, [token, *best])
        return own, tuple(zip(best, others, strict=True))


class PlainReader:
    """All text is text. A reader gives (thinking, text) for an id, and what is left at the end; `ended` says that the
    text itself is over."""

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int]):
        self._stream = tokenizer.stream(prompt_ids) if tokenizer else None
        self.ended = False

    def push(self, token: int) -> tuple[str, str]:
        """What the id completes."""
        return "", self._stream.push(token) if self._stream else ""

    def finish(self) -> tuple[str, str]:
        """What is left when no id follows."""
        return "", self._stream.flush() if self._stream else ""


class Memory:
    """The key-value cache of the last generation, and the ids whose rows are in it. One generation uses it at a time;
    the next one takes it over."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._sequence: Any = None
        self._owner: Any = None

    def check(self, owner: Any) -> None:
        """UsageError when another generation has taken over."""
        if self._owner is not owner:
            raise UsageError("memory: a later generation uses it now, this one cannot go on")

    def begin(self, owner: Any, engine: Any, prompt_ids: Sequence[int]) -> tuple[Any, list[int]]:
        """(a sequence that holds the beginning of the prompt, the ids that are missing in it: at least one)."""
        self._owner, common = owner, 0
        for known, wanted in zip(self.ids, prompt_ids[:-1], strict=False):
            if known != wanted:
                break
            common += 1
        if common == 0 or self._sequence is None:
            self._sequence, common = engine.sequence(), 0
        else:
            self._sequence.truncate(common)
        self.ids = list(prompt_ids[:common])
        return self._sequence, list(prompt_ids[common:])


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
