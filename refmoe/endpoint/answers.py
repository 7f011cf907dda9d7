"""answers - log-probabilities in the shapes in which servers give them, by token id."""

import re
from typing import Any

from refmoe.endpoint.client import number

Tops = dict[int, float]
_ID = re.compile(r"token_id:(\d+)")


class Reader:
    """Turns tokens of an answer into ids: stated ids, token_id:N, or a text that belongs to one token of the vocabulary
    only. `words` maps such texts to ids."""

    def __init__(self, words: dict[str, int]):
        self.words = words

    def id(self, token: Any, stated: Any = None) -> int | None:
        """The id, or None if it cannot be told."""
        if isinstance(stated, int) and not isinstance(stated, bool):
            return stated
        match = _ID.fullmatch(token) if isinstance(token, str) else None
        return int(match[1]) if match else self.words.get(token) if isinstance(token, str) else None

    def rows(self, answer: dict[str, Any]) -> list[tuple[float | None, Tops]]:
        """(log-probability of the token that stands there, best tokens) for each position of an answer; [] if it has
        none."""
        choice = _first(answer.get("choices"))
        found = choice.get("logprobs") if choice else None
        if not isinstance(found, dict):
            return []
        if isinstance(found.get("content"), list):  # the shape of chat, also of llama-server's completions
            places = [one for one in found["content"] if isinstance(one, dict)]
            return [(number(one.get("logprob")), self._listed(one)) for one in places]
        own = found.get("token_logprobs")
        tops = found.get("top_logprobs")
        if not isinstance(own, list):
            return []
        tops = tops if isinstance(tops, list) and len(tops) == len(own) else [None] * len(own)
        return [(number(value), self._mapped(top)) for value, top in zip(own, tops, strict=True)]

    def _listed(self, one: dict[str, Any]) -> Tops:
        listed = one.get("top_logprobs")
        return self._kept((top.get("token"), top.get("id"), top.get("logprob")) for top in
                          (listed if isinstance(listed, list) else ()) if isinstance(top, dict))  # fmt: skip

    def _mapped(self, top: Any) -> Tops:
        return self._kept((token, None, value) for token, value in top.items()) if isinstance(top, dict) else {}

    def _kept(self, entries: Any) -> Tops:
        found: Tops = {}
        for token, stated, value in entries:
            known, logprob = self.id(token, stated), number(value)
            if known is not None and logprob is not None:
                found[known] = logprob
        return found


def count(answer: dict[str, Any]) -> int | None:
    """usage.prompt_tokens."""
    usage = answer.get("usage")
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _first(choices: Any) -> dict[str, Any] | None:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
