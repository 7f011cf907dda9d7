"""verify endpoint against a small server in this process that is backed by our engine: right, or wrong in many ways."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import refmoe
from refmoe import endpoint
from refmoe.chat import template as templates
from refmoe.cli import main
from refmoe.endpoint import client as clients
from refmoe.endpoint import noise
from refmoe.endpoint.report import Report
from refmoe.endpoint.score import CHATS, PASSAGE, judge, log_softmax
from refmoe.errors import EndpointError, UsageError
from refmoe.numerics import codecs
from refmoe.verifier import profiles


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
            return self.chat(body)
        ids = self.model.encode(prompt) if isinstance(prompt, str) else prompt
        if self.mode == "texts" and not isinstance(prompt, str):  # llama-cpp-python
            return self.answer({"error": {"message": "2 validation errors", "code": None}}, 500)
        if body.get("echo") and self.mode not in ("echo", "vllm", "sglang"):
            message, status = ("Only no echo is supported", 500) if self.mode == "llama" else ("no echo", 400)
            return self.answer({"error": {"code": status, "message": message, "type": "server_error"}}, status)
        logprobs = None if self.mode == "silent" or not body.get("logprobs") else self.logprobs(ids, body)
        choice = {"index": 0, "text": "", "finish_reason": "length", "stop_reason": None, "prompt_logprobs": None}
        self.answer({"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "served",
                     "choices": [choice | {"logprobs": logprobs}], "usage": self.usage(ids)})  # fmt: skip

    def usage(self, ids):
        count = len(ids) + 3 * (self.mode == "template")
        details = {"prompt_tokens_details": {"cached_tokens": count - 1}} if self.mode in ("vllm", "llama") else {}
        return {"prompt_tokens": count, "completion_tokens": 1, "total_tokens": count + 1} | details

    def chat(self, body):
        if self.mode not in ("llama", "vllm", "template"):
            return self.answer({"error": "no chat"}, 404)
        ids = templates.prompt(self.model.template, self.model.tokenizer, body["messages"])[1]
        message = {"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": []}
        self.answer({"object": "chat.completion", "choices": [{"index": 0, "message": message, "logprobs": None}],
                     "usage": self.usage(ids)})  # fmt: skip

    def logprobs(self, ids, body):
        rows = log_softmax(np.asarray(compute(self.model, ids, self.mode), np.float64))
        name = "token_id:{}".format

        def tops(row):
            return {name(t): float(row[t]) for t in np.argsort(-row)[: body["logprobs"]]}

        if self.mode in ("content", "llama"):  # llama-server: the shape of chat, with ids
            best = [{"token": "?", "id": int(t), "bytes": [63], "logprob": float(rows[-1][t])}
                    for t in np.argsort(-rows[-1])[:5]]  # fmt: skip
            return {"content": [best[0] | {"top_logprobs": best}]}
        if body.get("echo"):
            chosen = [*ids[1:], int(rows[-1].argmax())]
            own = [None] + [float(row[t]) for row, t in zip(rows, chosen, strict=True)]
            best = [tops(row) for row in rows]
            if self.mode == "vllm":  # the token that stands there comes first, then as many as were asked for
                best = [{name(t): float(row[t])} | top for row, t, top in zip(rows, chosen, best, strict=True)]
            if self.mode == "sglang":  # texts, of which several ids may have the same one
                best = [{self.model.decode([int(key[9:])]): value for key, value in top.items()} for top in best]
            return {"tokens": [], "text_offset": [], "token_logprobs": own, "top_logprobs": [None, *best]}
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


@pytest.fixture
def with_template(model, monkeypatch):
    """The model with a chat template."""
    text = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    found = templates.Template({"default": text}, Path("x"), {})
    monkeypatch.setattr(type(model), "template", property(lambda self: found))
    return model


@pytest.mark.parametrize(("mode", "code"), [("vllm", 0), ("llama", 0), ("template", 1)])
def test_conversations_are_counted(with_template, serve, mode, code):
    report = scored(with_template, serve(mode))
    chats = [one for one in report.counts if "chat" in one["what"]]
    assert len(chats) == len(CHATS) and not report.missing and report.code == code
    assert {one["found"] - one["expected"] for one in chats} == {3 * code}


@pytest.mark.parametrize("mode", ["", "echo", "content", "flaky", "sglang"])
def test_a_right_server_conforms(model, serve, mode):
    report = scored(model, serve(mode), key="secret")
    facts = json.loads(json.dumps(report.facts(), allow_nan=False))
    assert report.values >= 11 and report.ratio < endpoint.NEAR and not report.differ
    assert all(one["equal"] for one in report.counts) and len(report.counts) >= 6
    assert report.served == "served" and "secret" not in json.dumps(facts) + report.text()
    assert {key for _, key, _ in serve.seen} == {"Bearer secret"}
    # the embedded model has no conversations on this server: said, and no more than that
    assert report.code == (3 if report.missing else 0) and all("chat" in line for line in report.missing)


def test_a_server_that_takes_only_texts(model, serve):
    report = scored(model, serve("texts"))
    assert report.code == 0 and report.prompts == "text" and not report.missing
    assert "positions of texts" in report.text()
    assert report.positions >= 10 and report.ratio < endpoint.NEAR
    ids, asked = model.encode(PASSAGE)[:12], [body["prompt"] for _, _, body in serve.seen if body.get("logprobs")]
    encoded = [model.encode(text) for text in asked if isinstance(text, str)]
    assert len(encoded) == report.positions and all(found == ids[: len(found)] for found in encoded)


def test_a_choice_that_falls_the_other_way_is_no_fault(model, serve):
    """tf32 from where a close choice of experts, early in the prompt, changes all that comes later."""
    ids = [int(token) for token in np.random.default_rng(0).integers(3, model.vocab, 32)]
    profile = profiles.load("tf32")
    runs, flips = ([log_softmax(run.astype(float)) for run in some] for some in noise.rounded_runs(model, ids, profile))
    reference = log_softmax(np.asarray(model.forward(ids), float))

    def record(name, rows):  # the second and the third expert of one token in the first layer change places
        if name == "layers.0.router_logits":
            order = np.argsort(-rows[4])
            rows[4, order[1]], rows[4, order[2]] = rows[4, order[2]], rows[4, order[1]]

    (logits,) = model.engine.run([(model.engine.sequence(), ids)], every=True, record=record)
    other = log_softmax(np.asarray(logits, float))
    found = [{int(t): float(row[t]) for t in np.argsort(-row)[:5]} for row in other]
    report = Report("", "", "", "tf32")
    judge(report, found, reference, runs, flips)
    assert report.odd, "no run of the reference has this choice: something is wrong"
    report = Report("", "", "", "tf32")
    judge(report, found, reference, runs, [*flips, other])
    assert not report.odd and not report.differ and report.code in (0, 4), "one has it: nothing can be said"


def test_operands_are_rounded_where_products_take_them(model):
    ggml, bf16 = (noise.types(model.program, profiles.load(name)) for name in ("ggml-bf16", "bf16"))
    narrow, wide = (2.0**-8, 0), (2.0**-24, 0)
    ggml_q8 = noise.types(model.program, profiles.load("ggml-q8"))
    assert {kind for name, kind in bf16.items() if "route" not in name} == {narrow} and set(ggml) == set(bf16)
    for name in ("attn_norm", "attn", "ffn_norm", "expert_act"):
        assert ggml[f"layers.0.{name}"] == narrow and ggml_q8[f"layers.0.{name}"] == (2.0**-8, 32)
    for name in ("layers.0.q", "layers.0.attn_out", "layers.0.expert_down", "layers.0.router_logits", "logits"):
        assert ggml[name] == ggml_q8[name] == wide
    assert ggml["layers.0.k_rope"] == (2.0**-11, 0), "the cache"


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
