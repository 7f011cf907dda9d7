"""verify endpoint against a small server in this process that is backed by our engine: right, or wrong in many ways."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from click.testing import CliRunner

import refmoe
from refmoe import endpoint
from refmoe.cli import main
from refmoe.endpoint import client as clients
from refmoe.endpoint.score import log_softmax
from refmoe.errors import EndpointError, UsageError
from refmoe.numerics import codecs


@pytest.fixture(scope="module")
def model():
    return refmoe.load(None)


class Fake(BaseHTTPRequestHandler):
    """One server; class attributes say how it behaves."""

    model, mode, seen = None, "", []

    def log_message(self, *args):
        pass

    def answer(self, content, status=200, raw=None):
        body = raw if raw is not None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "served"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers.get("Authorization"), body))
        if self.mode == "500":
            return self.answer({"error": {"message": "boom\nboom"}}, 500)
        if self.mode == "flaky" and len(self.seen) % 2:
            return self.answer({}, 503)
        if self.mode == "broken":
            return self.answer(None, raw=b"<html>not json")
        if self.mode == "list":
            return self.answer([1])
        if self.mode == "slow":
            time.sleep(1.0)
        if self.mode == "moved":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/v1" + self.path)
            return self.end_headers()
        prompt = body.get("prompt")
        if "messages" in body:
            return self.answer({"error": "no chat"}, 404)
        ids = self.model.encode(prompt) if isinstance(prompt, str) else prompt
        usage = {"prompt_tokens": len(ids) + 3 * (self.mode == "template")}
        if body.get("echo") and self.mode != "echo":
            return self.answer({"error": {"message": "echo is not supported"}}, 400)
        logprobs = None if self.mode == "silent" or not body.get("logprobs") else self.logprobs(ids, body)
        self.answer({"choices": [{"text": "", "logprobs": logprobs}], "usage": usage})

    def logprobs(self, ids, body):
        rows = log_softmax(np.asarray(compute(self.model, ids, self.mode), np.float64))
        name = "token_id:{}".format

        def tops(row):
            return {name(t): float(row[t]) for t in np.argsort(-row)[: body["logprobs"]]}

        if self.mode == "content":
            best = [{"token": "?", "id": int(t), "logprob": float(rows[-1][t])} for t in np.argsort(-rows[-1])[:5]]
            return {"content": [best[0] | {"top_logprobs": best}]}
        if body.get("echo"):
            own = [None] + [float(row[t]) for row, t in zip(rows, ids[1:])] + [0.0]
            return {"tokens": [], "token_logprobs": own, "top_logprobs": [None, *map(tops, rows)]}
        return {"tokens": ["x"], "token_logprobs": [0.0], "top_logprobs": [tops(rows[-1])]}


def compute(model, ids, mode):
    """Logits as this server has them."""
    if mode == "checkpoint":
        ids = [(token + 1) % model.vocab for token in ids]

    def record(name, rows):
        if rows.dtype != np.float32 or "route_" in name or mode == "f32":
            return
        if mode == "quantised":
            step = np.exp2(np.floor(np.log2(np.maximum(abs(rows), np.float32(1e-30)))) - 3)
            rows[...] = np.round(rows / step) * step
        else:
            rows[...] = codecs.bf16_to_f32(codecs.f32_to_bf16(rows))

    (logits,) = model.engine.run([(model.engine.sequence(), list(ids))], every=True, record=record)
    return logits


@pytest.fixture
def serve(model):
    """A function that starts a server of some behaviour and returns its address."""
    servers = []

    def start(mode=""):
        handler = type("Handler", (Fake,), {"model": model, "mode": mode, "seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        start.seen = handler.seen
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def scored(model, url, profile="bf16", **options):
    client = clients.Client(url, options.pop("key", None), options.pop("timeout", 20), sleep=lambda seconds: None)
    return endpoint.score(url, model, profile, positions=12, client=client, **options)


@pytest.mark.parametrize("mode", ["", "echo", "content", "flaky"])
def test_a_right_server_conforms(model, serve, mode):
    report = scored(model, serve(mode), key="secret")
    facts = json.loads(json.dumps(report.facts(), allow_nan=False))
    assert report.values >= 11 and report.ratio < endpoint.NEAR and not report.differ
    assert all(one["equal"] for one in report.counts) and len(report.counts) >= 6
    assert report.served == "served" and "secret" not in json.dumps(facts) + report.text()
    assert {key for _, key, _ in serve.seen} == {"Bearer secret"}
    # the embedded model has no conversations on this server: said, and no more than that
    assert report.code == (3 if report.missing else 0) and all("chat" in line for line in report.missing)


@pytest.mark.parametrize("mode", ["checkpoint", "quantised", "template"])
def test_a_wrong_server_does_not(model, serve, mode):
    report = scored(model, serve(mode))
    assert report.code == 1
    assert all(one["equal"] for one in report.counts) == (mode != "template")
    assert (report.ratio > endpoint.FAR) == (mode != "template")
    assert "NOT CONFORMING" in report.text()


def test_bfloat16_is_not_binary32(model, serve):
    assert scored(model, serve(""), "f32-any-order").code == 1
    assert scored(model, serve("f32"), "f32-any-order").ratio < endpoint.NEAR


def test_a_server_without_logprobs_is_incomplete(model, serve):
    report = scored(model, serve("silent"))
    assert report.code == 3 and report.values == 0 and any("log-probabilities" in line for line in report.missing)


@pytest.mark.parametrize(("mode", "words"), [("500", "status 500: boom boom"), ("broken", "expected a JSON object"),
                                             ("list", "found list"), ("slow", "no answer within"),
                                             ("moved", "redirects to another host")])  # fmt: skip
def test_useless_answers_are_one_line(model, serve, mode, words):
    with pytest.raises(EndpointError) as problem:
        scored(model, serve(mode), timeout=0.3 if mode == "slow" else 20)
    assert words in str(problem.value) and "\n" not in str(problem.value)


def test_requests_are_bounded(model, serve):
    client = clients.Client(serve(""), most=4)
    with pytest.raises(EndpointError, match="which is the limit"):
        endpoint.score("", model, client=client)
    assert client.requests == 4


@pytest.mark.parametrize("url", ["ftp://a", "localhost:80", "http://", "http://a:b", "http://u:p@a/", "http://a?q", ""])
def test_addresses(url):
    with pytest.raises(UsageError, match="expected http"):
        clients.Client(url)


def test_the_command(model, serve, monkeypatch):
    monkeypatch.setenv("MY_KEY", "k")
    url = serve("template")
    command = ["verify", "endpoint", url + "/v1/", "-m", str(model.checkpoint.path), "--api-key-env", "MY_KEY"]
    done = CliRunner().invoke(main, [*command, "--positions", "4", "--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["verdict"] == "not conforming"
    assert serve.seen[0][:2] == ("/v1/completions", "Bearer k")
    done = CliRunner().invoke(main, ["verify", "endpoint", "http://127.0.0.1:9", "-m", str(model.checkpoint.path)])
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "Connection refused" in done.stderr
