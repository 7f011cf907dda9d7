"""score - ask a server, compare with the reference; see refmoe.endpoint."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refmoe.endpoint.answers import Reader, count
from refmoe.endpoint.client import Client, Refused
from refmoe.endpoint.noise import rounded_runs
from refmoe.endpoint.report import FAR, Report
from refmoe.errors import EndpointError, RefmoeError
from refmoe.numerics import counter
from refmoe.verifier.profiles import Profile, load

TOPS = 5
FLOOR = 1e-4  # log-probabilities travel as decimals, and sums have orders
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "  leading spaces, trailing spaces  ",
    "Numbers 1234567890 and 3.14159, 1,000,000",
    "def f(x):\n    return x ** 2  # code\n\n\n",
    "naïve café, straße, ελληνικά, 中文字符, 🙂",
)
CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "What is 2 + 2?"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."},
     {"role": "user", "content": "Why?"}],
)
PASSAGE = (
    "A mixture of experts sends every token to a few of many small networks. A router compares the token with each of "
    "them, keeps the best, and adds up what they return. Which were kept is a choice, and choices can tie."
)
Progress = Callable[[int, int, str], object] | None


def score(url: str, model: Any, profile: Any = "bf16", served: str | None = None, positions: int = 32,
          key: str | None = None, timeout: float = 60.0, progress: Progress = None,
          client: Client | None = None) -> Report:  # fmt: skip
    """Compare a server with a loaded model. `served`: its name for the model (default: the first that it lists).

    UsageError for arguments, EndpointError if the server does not answer usefully.
    """
    arithmetic = load(profile)
    client = client or Client(url, key, timeout)
    report = Report(client.base, served or _served(client), str(model.checkpoint.path), arithmetic.name)
    ids = _ids(model, positions)
    steps = _Steps(progress, len(TEXTS) + len(CHATS) + 1 + len(ids))
    _count(client, model, report, steps)
    _logprobs(client, model, report, ids, arithmetic, steps)
    report.requests = client.requests
    return report


class _Steps:
    """Counts what was asked."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, what: str) -> None:
        self.done += 1
        if self.progress:
            self.progress(min(self.done, self.total), self.total, what)


def _served(client: Client) -> str:
    listed = client.ask("/models").get("data")
    names = [one.get("id") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if not names or not isinstance(names[0], str):
        raise EndpointError(f"{client.base}/models: expected a list of models, found none; name one with --served")
    return names[0]


def _ids(model: Any, positions: int) -> list[int]:
    """Tokens that are given to both: a text, or pseudo-random ids where there is no tokenizer."""
    positions = max(2, min(positions, model.context - 1))
    found = model.encode(PASSAGE) if model.tokenizer is not None else []
    if len(found) < positions:
        found = [*found, *(abs(counter.fill_uniform(0, 1, positions)) * model.vocab).astype(int) % model.vocab]
    return [int(token) for token in found[:positions]]


def _count(client: Client, model: Any, report: Report, steps: _Steps) -> None:
    """Tokens of prompts as the server counts them."""
    def one(what: str, path: str, body: dict[str, Any], expected: Callable[[], int]) -> bool:
        steps(what)
        try:
            wanted = expected()
            found = count(client.ask(path, {"model": report.served, "max_tokens": 1, "temperature": 0} | body))
        except Refused as problem:
            report.missing.append(f"{what}: {problem}")
            return False
        except EndpointError:
            raise
        except RefmoeError:  # our own template refuses such a conversation: nothing to compare
            return True
        if found is None:
            report.missing.append(f"{what}: expected usage.prompt_tokens, found none")
            return False
        report.counts.append({"what": what, "expected": wanted, "found": found, "equal": found == wanted})
        return True

    if model.tokenizer is None:
        report.missing.append("texts: the checkpoint has no tokenizer")
        return
    for text in TEXTS:
        def length(text: str = text) -> int:
            return len(model.encode(text))

        if not one(f"text {text[:24]!r}", "/completions", {"prompt": text}, length):
            break
    if model.template is None:
        return
    from refmoe.chat.template import prompt

    for chat in CHATS:
        def expected(chat: Any = chat) -> int:
            return len(prompt(model.template, model.need_tokenizer(), chat)[1])

        if not one(f"chat of {len(chat)}", "/chat/completions", {"messages": chat}, expected):
            break


def _logprobs(client: Client, model: Any, report: Report, ids: Sequence[int], profile: Profile, steps: _Steps) -> None:
    """Log-probabilities of chosen tokens and of the best ones, at every position."""
    try:
        found = _of_ids(client, model, report, ids, steps)
        if not found and (texts := _texts(model, ids)):
            found, report.prompts = _growing(client, model, report, texts, steps), "text"
    except Refused as problem:
        report.missing.append(f"log-probabilities: {problem}")
        return
    if not found:
        report.missing.append("log-probabilities: the server gives none that belong to known tokens")
        return
    logits = np.asarray(model.forward(list(ids)), np.float64)
    reference = log_softmax(logits)
    runs, flips = ([log_softmax(np.asarray(run, np.float64)) for run in some]
                   for some in rounded_runs(model, list(ids), profile))  # fmt: skip
    judge(report, found, reference, runs, flips)


def _of_ids(client: Client, model: Any, report: Report, ids: Sequence[int], steps: _Steps) -> list[dict[int, float]]:
    """Asked with token ids; [] if the server takes none and there is a text to ask with."""
    try:
        found = _echo(client, model, report, ids, steps)
        return found or _growing(client, model, report, [list(ids[:end]) for end in range(1, len(ids) + 1)], steps)
    except EndpointError:  # not only Refused: llama-cpp-python answers 500
        if model.tokenizer is None:
            raise
        return []


def _texts(model: Any, ids: Sequence[int]) -> list[str | None]:
    """For each beginning of the ids a text that has just these, None if there is none; [] without a tokenizer."""
    if model.tokenizer is None:
        return []
    texts = [model.decode(ids[:end]) for end in range(1, len(ids) + 1)]
    return [text if text and model.encode(text) == list(ids[:end]) else None for end, text in enumerate(texts, 1)]


def _reader(model: Any) -> Reader:
    """Texts that are one token's only."""
    words: dict[str, int] = {}
    if model.tokenizer is not None:
        twice = set()
        for token in range(model.vocab):
            text = model.decode([token])
            if text in words or not text:
                twice.add(text)
            words[text] = token
        words = {text: token for text, token in words.items() if text not in twice and "�" not in text}
    return Reader(words)


def _body(report: Report, prompt: list[int] | str) -> dict[str, Any]:
    return {"model": report.served, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": TOPS,
            "return_tokens_as_token_ids": True}  # fmt: skip


def _echo(client: Client, model: Any, report: Report, ids: Sequence[int], steps: _Steps) -> list[dict[int, float]]:
    """One request for all positions, where the server can echo; [] where it cannot."""
    steps("echo")
    try:
        answer = client.ask("/completions", _body(report, list(ids)) | {"echo": True})
    except EndpointError:  # not only Refused: llama-server answers 500 to what it does not know
        return []
    rows = _reader(model).rows(answer)
    _counted(report, answer, len(ids))
    if len(rows) < len(ids):
        return []
    found = []
    for position in range(len(ids)):  # row n + 1 tells what was expected after position n
        if position + 1 < len(rows):
            own, tops = rows[position + 1]
            chosen = {ids[position + 1]: own} if position + 1 < len(ids) and own is not None else {}
            found.append(tops | chosen)
    return found if any(found) else []


def _growing(client: Client, model: Any, report: Report, prompts: Sequence[list[int] | str | None], steps: _Steps
             ) -> list[dict[int, float]]:  # fmt: skip
    """One request for every position; [] if the first one has no answer."""
    reader, found = _reader(model), list[dict[int, float]]()
    for position, prompt in enumerate(prompts, 1):
        steps(f"position {position}")
        if prompt is None:
            found.append({})
            continue
        answer = client.ask("/completions", _body(report, prompt))
        rows = reader.rows(answer)
        if not any(found):
            if not rows or not rows[0][1]:
                return []
            if not isinstance(prompt, str):
                _counted(report, answer, len(prompt))
        found.append(rows[0][1] if rows else {})
    return found


def _counted(report: Report, answer: dict[str, Any], expected: int) -> None:
    found = count(answer)
    if found is not None:
        report.counts.append({"what": f"{expected} token ids", "expected": expected, "found": found,
                              "equal": found == expected})  # fmt: skip


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def judge(report: Report, found: list[dict[int, float]], reference: np.ndarray, runs: list[np.ndarray],
          flips: list[np.ndarray]) -> None:  # fmt: skip
    """Fill in the report from the server's values and the reference's, `runs` and `flips` of noise.rounded_runs."""
    ratios, squares, noises = [], [], []
    worst = -1.0
    for position, values in enumerate(found):
        known = [token for token in values if 0 <= token < reference.shape[1]]
        if not known:
            continue
        ours, theirs = reference[position, known], np.array([values[token] for token in known])
        apart, noise = theirs - ours, np.array([run[position, known] - ours for run in runs])
        usual = max(_size(noise), FLOOR)
        ratios.append(_size(apart) / usual)
        if ratios[-1] > FAR and _size(apart) > 2 * max(_size(run[position, known] - ours) for run in [*runs, *flips]):
            report.odd.append(position)
        squares += list(apart**2)
        noises += list(noise.reshape(-1) ** 2)
        at = int(abs(apart).argmax())
        if abs(apart[at]) / usual > worst:
            worst = abs(apart[at]) / usual
            report.worst = {"position": position, "token": known[at], "expected": float(ours[at]),
                            "found": float(theirs[at])}  # fmt: skip
        best = max(values, key=lambda token: values[token])
        if len(values) > 1:
            _best(report, position, best, reference, [*runs, *flips])
    if ratios:
        report.values, report.positions, report.ratio = len(squares), len(ratios), float(np.median(ratios))
        report.apart, report.noise = float(np.mean(squares) ** 0.5), float(np.mean(noises) ** 0.5)


def _size(apart: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt((apart**2).mean()))


def _best(report: Report, position: int, best: int, reference: np.ndarray, runs: list[np.ndarray]) -> None:
    row = reference[position]
    right = int(row.argmax())
    if best == right or not 0 <= best < len(row):
        report.agree += best == right
        return
    gap = float(row[right] - row[best])
    moved = max([float(abs((run[position] - row)[[right, best]]).max()) for run in runs] + [FLOOR])
    if gap <= 4 * moved:
        report.excused += 1
    else:
        report.differ.append({"position": position, "expected": right, "found": best, "gap": gap})
