"""conformance - do a model's outputs agree with published ones? Logits, greedy ids, log-probabilities, tokenizer ids.

A published number was computed in some arithmetic. What that arithmetic may change is measured on the model itself: it
is run again with the result of every step rounded to as many bits as that arithmetic keeps (float16 11, bfloat16 8;
float32, whose sums other programs take in other orders, 24 - log2 sqrt K for the longest sum, K products), once to
nearest and twice up or down at random, so that near ties of a router fall both ways. The largest change of a row of
logits in these runs, times SAFETY, is the allowance of that row. A published value may differ by
    its test's own tolerance (atol + rtol |value|) + half a unit of its last printed digit + the allowance.
An id may differ from ours only where our gap between the two is below the allowance; that step is a tie.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from refmoe.published import Golden

if TYPE_CHECKING:
    from refmoe.model import Model
    from refmoe.text import Tokenizer

BITS = {"float16": 11, "bfloat16": 8}
SAFETY = 3.0  # transformers on 21 tiny models in three arithmetics: at most 0.71 of what may differ (dump_published.py)
MANY_TIES = 0.25  # a continuation with a larger share of ties says nothing
Record = Callable[[str, np.ndarray], None]


@dataclass
class Result:
    """What came out of one golden: verdict is "conformant", "not conformant", "inconclusive" or "not run"."""

    golden: Golden
    verdict: str
    words: str
    facts: dict[str, Any] = field(default_factory=dict)


def bits_of(arithmetic: str, model: "Model") -> int:
    """Significant bits that a step's result keeps in an arithmetic."""
    if arithmetic in BITS:
        return BITS[arithmetic]
    program = model.program
    longest = max(program.sizes(tensor.shape)[-1] for tensor in program.tensors.values() if tensor.kind == "matrix")
    return 24 - math.ceil(math.log2(math.sqrt(longest)))


def rounding(bits: int, seed: int | None = None) -> Record:
    """A recorder that rounds what it is shown, in place, to `bits` significant bits: ties to even, or with a seed up or
    down at random, in proportion to the distances."""
    drop = 24 - bits
    half, keep = np.uint32((1 << (drop - 1)) - 1), np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    dice = None if seed is None else np.random.Generator(np.random.Philox(seed))

    def record(name: str, rows: np.ndarray) -> None:
        if rows.dtype == np.float32:
            codes = rows.view(np.uint32)
            more = half + (codes >> np.uint32(drop) & np.uint32(1)) if dice is None else dice.integers(
                0, 1 << drop, codes.shape, np.uint32)  # fmt: skip
            finite = (codes & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
            codes[...] = np.where(finite, (codes + more) & keep, codes)

    return record


def rows_of(model: "Model", ids: Sequence[int], first: int, record: Record | None = None) -> np.ndarray:
    """Logits f64[len(ids) - first, V] of the positions from `first` on."""
    sequence = model.engine.sequence()
    if first:
        model.engine.run([(sequence, ids[:first])], record=record)
    return model.engine.run([(sequence, ids[first:])], every=True, record=record)[0].astype(np.float64)


def changes(model: "Model", ids: Sequence[int], first: int, arithmetic: str, ours: np.ndarray) -> np.ndarray:
    """[3, positions, V]: how far the logits of the rounded runs are from ours."""
    bits = bits_of(arithmetic, model)
    return np.array([rows_of(model, ids, first, rounding(bits, seed)) - ours for seed in (None, 1, 2)])


def compare(model: "Model", golden: Golden) -> Result:
    """Run one golden of kind logits or greedy that nothing stands against."""
    return _logits(model, golden) if golden.kind == "logits" else _greedy(model, golden)


def _logits(model: "Model", golden: Golden) -> Result:
    ids = golden.data["ids"]
    first = min(position for check in golden.data["checks"] for position in check["positions"])
    last = max(position for check in golden.data["checks"] for position in check["positions"])
    bits = bits_of(golden.arithmetic, model)
    ours = rows_of(model, ids[: last + 1], first)
    change = changes(model, ids[: last + 1], first, golden.arithmetic, ours)
    facts, words, good = [], [], True
    for check in golden.data["checks"]:
        rows = [position - first for position in check["positions"]]
        if check["of"] == "mean":
            found, allowance = ours[rows].mean(-1), np.abs(change[:, rows].mean(-1)).max()
        else:
            begin, end = check["columns"]
            found, allowance = ours[rows, begin:end], np.abs(change[:, rows]).max((0, 2))[:, None]
        outcome = min((_table(name, found, np.array(table, np.float64), check, SAFETY * allowance)
                       for name, table in check["sets"].items()), key=lambda one: one["ratio"])  # fmt: skip
        good &= outcome["ratio"] <= 1.0
        facts.append({"of": check["of"], "positions": check["positions"]} | outcome)
        words.append(_words(check["of"], outcome, golden.arithmetic))
    return Result(golden, "conformant" if good else "not conformant", "; ".join(words), {"checks": facts, "bits": bits})


def _table(name: str, found: np.ndarray, table: np.ndarray, check: dict[str, Any], allowance: Any) -> dict[str, Any]:
    """How far one published table is from ours; `ratio` is the largest share of what it may differ."""
    if found.shape != table.shape:
        return {"set": name, "ratio": math.inf, "largest": math.inf, "tolerance": 0.0, "allowance": 0.0,
                "published_tolerance_held": False, "at": [], "ours": None, "published": None}  # fmt: skip
    error = np.abs(found - table)
    tolerance = check["atol"] + check["rtol"] * np.abs(table) + _printed(check["sets"][name])
    limit = tolerance + allowance
    shares = np.where(np.isfinite(error), error / np.maximum(limit, 1e-300), math.inf)
    at = np.unravel_index(int(shares.argmax()), error.shape)
    return {
        "set": name,
        "ratio": float(shares[at]),
        "largest": float(error.max()),
        "tolerance": float(tolerance[at]),
        "allowance": float(np.broadcast_to(allowance, error.shape)[at]),
        "published_tolerance_held": bool((error <= tolerance).all()),
        "at": [int(i) for i in at],
        "ours": float(found[at]),
        "published": float(table[at]),
    }


def _printed(table: Any) -> float:
    """Half a unit of the last digit to which a table is printed, 0 if that is many digits."""
    values = [v for row in table for v in (row if isinstance(row, list) else [row])]
    digits = max(len(repr(float(v)).partition("e")[0].partition(".")[2]) for v in values)
    return 0.5 * 10.0**-digits if digits <= 6 else 0.0


def _words(of: str, outcome: dict[str, Any], arithmetic: str) -> str:
    what = "means over the vocabulary" if of == "mean" else "logits"
    held = "within the published tolerance" if outcome["published_tolerance_held"] else (
        f"at most {outcome['ratio']:.2f} of what may differ: {outcome['tolerance']:.2g} by the published tolerance, "
        f"{outcome['allowance']:.2g} by {arithmetic}")  # fmt: skip
    place = f" (set {outcome['set']})" if outcome["set"] else ""
    wrong = "" if outcome["ratio"] <= 1.0 else f", expected {outcome['published']:.6g}, found {outcome['ours']:.6g}" \
        if outcome["ours"] is not None else ", the shape does not fit"
    return f"{what}{place}: largest difference {outcome['largest']:.2g}, {held}{wrong}"


def _best(row: np.ndarray) -> int:
    """The lowest id of the largest logit; nan never wins."""
    return int(np.argmax(np.where(np.isnan(row), -np.inf, row)))


def _greedy(model: "Model", golden: Golden) -> Result:
    prompt = golden.prompt_ids
    if prompt is None:
        prompt = model.encode(golden.data["prompt"])
    listed: list[int | None] = golden.data.get("ids") or []
    if not listed:
        whole = model.encode(golden.data["prompt"] + golden.data["text"]) if "prompt" in golden.data else []
        if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
            return _text(model, golden, prompt)
        listed = list(whole[len(prompt) :])
    result = _steps(model, golden, prompt, listed)
    guessed = "ids" not in golden.data or (golden.data.get("text") is not None and "logprobs" not in golden.data)
    if result.verdict == "not conformant" and guessed and model.tokenizer is not None and "text" in golden.data:
        again = _text(model, golden, prompt)  # the model may have cut the same text into other tokens
        return again if again.verdict == "conformant" else result
    return result


def _text(model: "Model", golden: Golden, prompt: list[int]) -> Result:
    """The text alone: our own greedy continuation must begin with it."""
    expected, made = golden.data["text"], ""
    for step in model.generate(prompt, max_tokens=len(expected) + 8, logprobs=None):
        made += step.text
        if len(made) >= len(expected) or not expected.startswith(made):
            break
    if made.startswith(expected):
        return Result(golden, "conformant", f"text equal, {len(expected)} characters", {"text": made})
    same = next((n for n in range(min(len(made), len(expected))) if made[n] != expected[n]), len(made))
    found, wanted = made[same : same + 20], expected[same : same + 20]
    words = f"text differs after {same} of {len(expected)} characters: expected {wanted!r}, found {found!r}"
    return Result(golden, "not conformant", words, {"text": made})


def _follow(model: "Model", prompt: list[int], listed: list[int | None], first: int) -> tuple[list[int], np.ndarray]:
    """The ids, ours where none is published, and our logits from position `first` on, without that of the last id."""
    sequence, ids, rows = model.engine.sequence(), list(prompt), list[np.ndarray]()

    def advance(end: int) -> None:
        at = sequence.length
        if at < first:
            model.engine.run([(sequence, ids[at:first])])
        if sequence.length < end:
            found = model.engine.run([(sequence, ids[sequence.length : end])], every=True)[0]
            rows.append(found.astype(np.float64))

    for token in listed:
        if token is None:
            advance(len(ids))
            token = _best(rows[-1][-1])
        ids.append(token)
    advance(len(ids) - 1)
    return ids, np.concatenate(rows)


def _steps(model: "Model", golden: Golden, prompt: list[int], listed: list[int | None]) -> Result:
    """Every published step on the published ids before it; where an id is not published (None), ours is taken."""
    first = 0 if golden.data.get("prompt_logprobs") else len(prompt) - 1
    bits = bits_of(golden.arithmetic, model)
    ids, ours = _follow(model, prompt, listed, first)
    moved = np.abs(changes(model, ids[:-1], first, golden.arithmetic, ours)).max((0, 2))
    ties: list[tuple[int, int, int, float, float]] = []
    wrong: list[tuple[int, int, int, float, float]] = []
    for n, token in enumerate(listed):
        row = ours[len(prompt) - 1 - first + n]
        best = _best(row)
        if token is None or best == token:
            continue
        gap = float(row[best]) - float(row[token])
        allowance = SAFETY * float(moved[len(prompt) - 1 - first + n])
        (ties if gap <= allowance else wrong).append((n, token, best, gap, allowance))
    facts: dict[str, Any] = {"steps": len(listed), "ties": len(ties), "differ": len(wrong), "bits": bits}
    known = sum(token is not None for token in listed)
    words = f"{known - len(ties) - len(wrong)} of {known} ids equal"
    if ties:
        words += f", {len(ties)} ties (first at step {ties[0][0] + 1}, gap {ties[0][3]:.2g} of {ties[0][4]:.2g})"
    verdict = "inconclusive" if len(ties) > MANY_TIES * known else "conformant"
    if wrong:
        n, token, best, gap, allowance = wrong[0]
        words += (f", {len(wrong)} differ: at step {n + 1} expected {token}, found {best}, "
                  f"gap {gap:.3g} above the {allowance:.2g} that {golden.arithmetic} may change")  # fmt: skip
        verdict = "not conformant"
    if "logprobs" in golden.data and "not" not in verdict:
        share, line = _logprobs(golden, ids, len(prompt), first, ours, moved)
        facts["logprobs_ratio"], words = share, words + "; " + line
        verdict = verdict if share <= 1.0 else "not conformant"
    return Result(golden, verdict, words, facts)


def _logprobs(golden: Golden, ids: list[int], start: int, first: int, ours: np.ndarray,
              moved: np.ndarray) -> tuple[float, str]:  # fmt: skip
    """The largest share of what log-probabilities may differ: rtol of the larger one (its test's rule) and twice the
    allowance, because the logit and the logarithm of the sum both move."""
    published = list(enumerate(golden.data["logprobs"], start))
    published += list(enumerate(golden.data.get("prompt_logprobs", [])))
    worst, count, rtol = (0.0, 0.0, 0.0), 0, float(golden.data.get("rtol", 0.0))
    for position, value in published:
        if value is None or position == 0:
            continue
        row = position - 1 - first
        wide = ours[row] - ours[row].max()
        own = float(wide[ids[position]] - np.log(np.exp(wide).sum()))
        limit = rtol * max(abs(own), abs(value)) + 2 * SAFETY * float(moved[row])
        share = abs(own - value) / max(limit, 1e-300) if math.isfinite(own) else math.inf
        worst, count = max(worst, (share, own, value)), count + 1
    words = f"{count} log-probabilities, at most {worst[0]:.2f} of what may differ"
    return worst[0], words + ("" if worst[0] <= 1 else f": expected {worst[2]:.4g}, found {worst[1]:.4g}")


def compare_tokenizer(tokenizer: "Tokenizer", name: str, vectors: dict[str, Any]) -> Result:
    """The published ids of some strings, and the fingerprint of the last one (special tokens added)."""
    status = vectors.get("status", "good")
    golden = Golden(f"tokenizer-{name}", "tokenizer", "", status, "", "", vectors["source"], {})
    wrong, count = [], 0
    for text, ids in zip(vectors["texts"], vectors["ids"] or [], strict=False):
        if ids is None:  # not published, or published in two ways
            continue
        found, count = tokenizer.encode(text, add_special=False), count + 1
        if found != ids:
            wrong.append(f"{text[:30]!r}: expected {ids[:8]}, found {found[:8]}")
    words = f"{count - len(wrong)} of {count} strings equal" if count else ""
    if vectors["fingerprint"]:
        fingerprint = hashlib.sha256(str(tokenizer.encode(vectors["texts"][-1])).encode()).hexdigest()
        same = fingerprint == vectors["fingerprint"]
        words += ("; " if words else "") + ("fingerprint equal" if same else f"fingerprint: found {fingerprint}")
        wrong += [] if same else ["fingerprint"]
    verdict = "not conformant" if wrong else "conformant"
    return Result(golden, verdict, words + ("; first: " + wrong[0] if wrong and count else ""), {"differ": len(wrong)})
