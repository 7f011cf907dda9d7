"""A loaded model: the public API. Arrays are NumPy, ids are plain integers, every argument is checked here."""

import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from refmoe import checkpoint, jit, program, suggested, text
from refmoe.engine import Engine
from refmoe.errors import TokenizerError, UsageError
from refmoe.generate import Generation, Memory, Options

KV_DTYPES = ("f32", "bf16")
ACTIVATIONS = ("f32", "int8")


def load(
    location: str | os.PathLike[str] | None = None,
    kv_dtype: str = "f32",
    activations: str = "f32",
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> "Model":
    """Open, check and read a model: a directory, a hub id in the local Hugging Face cache, or None (the embedded one).

    kv_dtype: "f32" or "bf16", how keys and values are stored. activations: "f32", or "int8" for products with 8-bit
    codes of the rows where the weights have integer codes (clause linear_a8): another program, faster for quantised
    weights. threads: None takes all that NUMBA_NUM_THREADS or the machine offers; results do not depend on it.
    progress(done_bytes, total_bytes) is called while weights are read. Everything is checked before the weights are:
    RefmoeError in one line.
    """
    begin = time.perf_counter()
    if kv_dtype not in KV_DTYPES:
        raise UsageError(f"kv_dtype: expected {' or '.join(KV_DTYPES)}, found {kv_dtype!r}")
    if activations not in ACTIVATIONS:
        raise UsageError(f"activations: expected {' or '.join(ACTIVATIONS)}, found {activations!r}")
    most = jit.max_threads() if jit.ENABLED else 4096  # with the JIT off there is one thread, whatever is asked for
    if threads is not None and (type(threads) is not int or not 1 <= threads <= most):
        raise UsageError(f"threads: expected 1 to {most} (NUMBA_NUM_THREADS, read at import), found {threads!r}")
    opened = checkpoint.open(location)
    built = program.build(opened.config, opened.source)
    built = built.with_int8() if activations == "int8" else built
    tokenizer = text.load(opened.path, int(built.dims["V"]), opened.metadata)
    boundaries = text.boundary_ids(opened.path, opened.config)
    weights = checkpoint.load(checkpoint.claim(opened, built), progress)
    engine = Engine(built, weights, kv_dtype=kv_dtype, threads=threads if jit.ENABLED else None)
    return Model(opened, built, engine, tokenizer, boundaries, time.perf_counter() - begin)


class Model:
    """Made by `load`. Attributes: checkpoint, program, engine, tokenizer (None without tokenizer.json), vocab, context
    (positions), start_id (bos or None), end_ids, load_seconds."""

    def __init__(self, opened: checkpoint.Checkpoint, built: program.Program, engine: Engine,
                 tokenizer: text.Tokenizer | None, boundaries: tuple[int | None, tuple[int, ...]],
                 load_seconds: float):  # fmt: skip
        self.checkpoint, self.program, self.engine, self.tokenizer = opened, built, engine, tokenizer
        self.load_seconds = load_seconds
        self.vocab = int(built.dims["V"])
        self.context: int = built.context
        start, end = boundaries
        self.start_id: int | None = start if start is not None and start < self.vocab else None
        self.end_ids = frozenset(end)

    def forward(self, ids: Any) -> Any:
        """Logits f32[T, V] of all positions, from an empty cache. A list of id lists gives a list of arrays, computed
        together with the bits each would have alone."""
        listed = _listed(ids)
        several = len(listed) > 0 and isinstance(listed[0], Sequence | np.ndarray) and not isinstance(listed[0], str)
        batch = [self.check_ids(one) for one in (listed if several else [listed])]
        results = self.engine.run([(self.engine.sequence(), one) for one in batch], every=True)
        return results if several else results[0]

    def generate(self, ids: Sequence[int], max_tokens: int = 128, temperature: float = 0.0, top_k: int = 0,
                 top_p: float = 1.0, min_p: float = 0.0, repetition_penalty: float = 1.0, seed: int = 0,
                 stop: Sequence[str] = (), logprobs: int | None = 0) -> Generation:  # fmt: skip
        """Iterator of steps with id, text, logprob, top_logprobs (`logprobs` of them; None: not even the token's own).
        The options mean what refmoe.sampler and refmoe.generate say; they are checked before the first step."""
        return Generation(self, ids, Options(temperature, top_k, top_p, min_p, repetition_penalty, seed,
                                             max_tokens, stop, logprobs))  # fmt: skip

    def chat(self, messages: Any, tools: Any = None, thinking: bool | None = None,
             variables: Mapping[str, Any] | None = None, memory: Memory | None = None,
             **options: Any) -> Any:  # fmt: skip
        """Iterator of the steps of an answer (refmoe.chat.answer.Answer), through the checkpoint's chat template.

        messages: [{"role": "user", "content": "..."}, ...]. tools: a list of functions as JSON schemas. thinking: True
        or False for templates with a switch, None leaves it to the template. variables: further ones for the template.
        memory: a Memory() kept between answers, so that what the conversation began with is not computed again.
        options: those of `generate`; max_tokens is 4096 unless given.
        """
        from refmoe.chat import answer

        chosen = {"max_tokens": answer.MAX_TOKENS} | options
        if unknown := [name for name in chosen if name not in Options.__dataclass_fields__]:
            raise UsageError(f"options: expected those of generate, found {unknown[0]}")
        return answer.answer(self, messages, tools, thinking, variables, memory, Options(**chosen))

    @cached_property
    def template(self) -> Any:
        """The chat template (refmoe.chat.template.Template), None when the checkpoint has none."""
        from refmoe.chat import template

        names = self.need_tokenizer().added
        ends = sorted(self.end_ids)
        boundaries = {"bos_token": self.start_id, "eos_token": ends[0] if ends else None}
        known = {key: names.get(number) for key, number in boundaries.items() if number is not None}
        return template.load(self.checkpoint.path, known, self.checkpoint.metadata)

    @cached_property
    def suggested(self) -> dict[str, Any]:
        """Sampling options that the checkpoint suggests; see refmoe.suggested."""
        return suggested.sampling(self.checkpoint.path, self.checkpoint.metadata)

    def trace(self, ids: Sequence[int], points: Sequence[str] = ("*",), steps: int = 0) -> Mapping[str, np.ndarray]:
        """Recorded step outputs by name, for the points that match a glob; then `steps` greedy decode steps, whose
        names begin with `steps.{n}.`"""
        checked = self.check_ids(ids)
        from refmoe import trace

        return trace.record(self, checked, points, steps)

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Ids of a text, with the BOS the checkpoint asks for; see refmoe.text."""
        return self.need_tokenizer().encode(text, add_special, parse_special)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special and unknown ones give none. UsageError if one is no integer."""
        checked = []
        for n, value in enumerate(_listed(ids)):
            if (token := _integer(value)) is None:
                raise UsageError(f"ids[{n}]: expected an integer, found {str(value)[:40]}")
            checked.append(token)
        return self.need_tokenizer().decode(checked)

    def check_ids(self, ids: Sequence[int]) -> list[int]:
        """The ids as a list of int. UsageError if there are none, or one is no integer or has no row in the model."""
        listed = _listed(ids)
        if not listed:
            raise UsageError("ids: expected at least one token id, found none")
        checked = []
        for n, value in enumerate(listed):
            token = _integer(value)
            if token is None or not 0 <= token < self.vocab:
                raise UsageError(f"ids[{n}]: expected an integer from 0 to {self.vocab - 1}, found {str(value)[:40]}")
            checked.append(token)
        return checked

    def need_tokenizer(self) -> text.Tokenizer:
        """The tokenizer; TokenizerError without one."""
        if self.tokenizer is None:
            where = "no tokenizer in its metadata" if self.checkpoint.metadata else "no tokenizer.json"
            raise TokenizerError(f"{self.checkpoint.path}: {where}, so text cannot be used; give token ids")
        return self.tokenizer


def _listed(ids: Any) -> list[Any]:
    try:
        return list(ids)
    except TypeError:
        raise UsageError(f"ids: expected a sequence of token ids, found {type(ids).__name__}") from None


def _integer(value: Any) -> int | None:
    """An integer of any library as int; None for anything else, true and false included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
