"""client - requests to one OpenAI-compatible server: bounded, with timeouts and retries, never to another host."""

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from refmoe.errors import EndpointError, UsageError

MOST_BYTES = 16 << 20  # of one answer
RETRIES = 2
WAIT = 0.5  # seconds before the first retry, doubled for the next
AGAIN = (408, 429, 500, 502, 503, 504)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Refused(EndpointError):
    """The server answered that it does not do this (400, 404, 405, 422, 501)."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Redirects stay on the host that was asked: a key must not travel."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            fp.close()
            other = urlsplit(newurl).netloc[:80]
            raise EndpointError(f"{req.full_url}: redirects to another host ({other}), not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Client:
    """`most` requests at most; `requests` counts them."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 60.0, most: int = 400,
                 sleep: Callable[[float], object] = time.sleep):  # fmt: skip
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and not parts.username
        except ValueError:
            valid = False
        if not valid or parts.query or parts.fragment:
            raise UsageError(f"URL: expected http(s)://host[:port][/v1], found {url[:120]!r}")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError("API key: expected printable ASCII, found other characters")
        path = parts.path.rstrip("/")
        self.base = f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else path + '/v1'}"
        self.key, self.timeout, self.most, self.sleep = key, timeout, most, sleep
        self.requests = 0
        proxies = [urllib.request.ProxyHandler({})] if parts.hostname in LOOPBACK else []
        self._open = urllib.request.build_opener(_SameHost, *proxies).open

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """GET, or POST with a body. Refused if the server does not do this, EndpointError for everything else."""
        url, problem = self.base + path, ""
        for attempt in range(RETRIES + 1):
            if self.requests >= self.most:
                raise EndpointError(f"{self.base}: {self.most} requests were made, which is the limit")
            self.requests += 1
            if attempt:
                self.sleep(WAIT * 2 ** (attempt - 1))
            try:
                return self._once(url, body)
            except urllib.error.HTTPError as error:
                with error:
                    problem = f"status {error.code}{_detail(error)}"
                if error.code not in AGAIN:
                    kind = EndpointError if error.code in (401, 403) else Refused
                    raise kind(f"{url}: {problem}") from None
            except (TimeoutError, OSError) as error:  # URLError is an OSError
                reason = getattr(error, "reason", error)
                problem = f"no answer within {self.timeout:g} s" if isinstance(reason, TimeoutError) else str(reason)
            except ValueError as error:
                problem = f"expected a JSON object, found {str(error)[:120]}"
        raise EndpointError(f"{url}: {problem[:300]} ({RETRIES + 1} attempts)")

    def _once(self, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "refmoe"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        deadline, raw = time.monotonic() + self.timeout, b""
        with self._open(urllib.request.Request(url, data, headers), timeout=self.timeout) as answer:
            while block := answer.read1(1 << 16):
                raw += block
                if len(raw) > MOST_BYTES:
                    raise EndpointError(f"{url}: expected an answer of at most {MOST_BYTES >> 20} MB, found more")
                if time.monotonic() > deadline:
                    raise TimeoutError
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            raise ValueError(repr(raw[:60])) from None
        if not isinstance(found, dict):
            raise ValueError(type(found).__name__)
        return found


def _detail(error: urllib.error.HTTPError) -> str:
    """The server's own words, one line."""
    try:
        words = error.read(2000).decode("utf-8", "replace")
        found = json.loads(words)
        inner = found.get("error", found) if isinstance(found, dict) else words
        words = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except Exception:  # a detail that cannot be read is none
        return ""
    return ": " + "".join(c if c.isprintable() else " " for c in words)[:160]


def number(value: Any) -> float | None:
    """A finite number of an answer, or None."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None
