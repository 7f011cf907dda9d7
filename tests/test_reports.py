"""Reports: facts fit the published schemas, pages escape what they show and need nothing from elsewhere."""

import html.parser
import json

import json_schema
import numpy as np
import pytest
import test_comparison as runs
import tiny
from click.testing import CliRunner

from refmoe import comparison, verifier
from refmoe.cli import main
from refmoe.comparison import page
from refmoe.comparison.ties import untied

EVIL = "</title><script>alert(1)</script>&\"'\x00\u202e"


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """A report with wrong steps, fused stretches and whole runs."""
    arrays, ids = runs.port("kimi_k2", runs.scale("layers.1.combine", 2.0))
    few = {name: a for name, a in arrays.items() if name.rpartition(".")[2] not in runs.INSIDE}
    few["what is this"] = np.zeros(3, np.float32)
    path = runs.write(tmp_path_factory.mktemp("r") / "a.safetensors", few, ids)
    return comparison.compare(path, model=tiny.model("kimi_k2"), profile="bf16")


def facts_of_all_kinds(tmp_path, wrong):
    trace = tiny.TINY / "mixtral" / "trace.safetensors"
    arrays, ids = runs.port("mixtral")
    part = runs.write(tmp_path / "b.safetensors", {"logits": arrays["logits"], "layers.1.o": arrays["layers.1.o"]}, ids)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"text": "a", "ids": [1]}]))
    yield wrong.facts()
    yield comparison.compare(trace, trace).facts()
    yield comparison.compare(part, model=tiny.model("mixtral")).facts()
    yield comparison.compare(part, model=tiny.model("mixtral"), mode="logits").facts()
    yield comparison.compare(prompts, model=tiny.model("mixtral"), mode="tokens").facts()


def test_facts_fit_the_schema(tmp_path, wrong):
    for facts in facts_of_all_kinds(tmp_path, wrong):
        facts = json.loads(json.dumps(facts, allow_nan=False))
        assert json_schema.problems(facts, "compare.schema.json") == []
    checked = verifier.check("golden", str(tiny.ROOT / "golden" / "ops" / "clip"))
    assert json_schema.problems(json.loads(json.dumps(checked.facts())), "check.schema.json") == []


def test_the_schema_can_fail(wrong):
    facts = json.loads(json.dumps(wrong.facts()))
    facts["code"], facts["steps"][0]["verdict"]["status"] = 2, "FINE"
    del facts["free"]
    found = json_schema.problems(facts, "compare.schema.json")
    assert len(found) == 3 and any("lacks free" in line for line in found)


class Reader(html.parser.HTMLParser):
    """Open and closed elements, all attributes and all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words, self.odd = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "circle", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("line", "circle"):
            return
        if not self.open or self.open.pop() != tag:
            self.odd.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_says_what_was_found_and_is_closed(tmp_path, wrong):
    for facts in facts_of_all_kinds(tmp_path, wrong):
        text = page.of_compare(facts)
        read = Reader(text)
        assert not read.open and not read.odd
        assert not {"script", "link", "img", "iframe", "a"} & set(read.tags)
        assert not {"src", "href"} & {name for name, _ in read.attributes}
        assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "") and "url(" not in text
    words = " ".join(Reader(page.of_compare(wrong.facts())).words)
    for part in ("NOT CONFORMING", "First wrong step", "layers.1.combine", "Heat map", "Operations", "Routers",
                 "KL divergence", "reference x 2", "what is this", "expert_act"):  # fmt: skip
        assert part in words


def test_a_page_escapes_everything(wrong):
    facts = json.loads(json.dumps(wrong.facts()))
    tags = sorted(Reader(page.of_compare(facts)).tags)
    assert sorted(Reader(page.of_compare(_poisoned(facts))).tags) == tags
    checked = json.loads(json.dumps(verifier.check("golden", str(tiny.ROOT / "golden" / "ops" / "clip")).facts()))
    checked["cases"][0]["notes"] = [EVIL]
    text = page.of_check(checked | {"port": EVIL, "unused": [EVIL], "inconclusive": [EVIL]})
    assert "<script" not in text and "\x00" not in text and "&lt;script&gt;" in text


def _poisoned(value, key=""):
    """Every text that may come from outside gets a script."""
    if isinstance(value, dict):
        return {name: _poisoned(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_poisoned(item, key) for item in value]
    keep = ("status", "kind", "mode", "first_difference", "point", "steps", "fused", "op", "input", "index")
    return value + EVIL if isinstance(value, str) and value and key not in keep else value


def test_the_command_writes_a_page(tmp_path):
    arrays, ids = runs.port("mixtral", runs.scale("layers.0.o", 1.5))
    path = runs.write(tmp_path / "a.safetensors", arrays, ids)
    done = CliRunner().invoke(main, ["compare", str(path), "-m", str(tiny.TINY / "mixtral"), "--profile", "bf16",
                                     "--html", str(tmp_path / "a.html"), "--json"])  # fmt: skip
    assert done.exit_code == 1 and json.loads(done.stdout)["kind"] == "compare"
    assert "layers.0.o" in (tmp_path / "a.html").read_text("utf-8")
    done = CliRunner().invoke(main, ["check", "golden", str(tiny.ROOT / "golden" / "ops" / "clip"), "--html",
                                     str(tmp_path / "b.html")])  # fmt: skip
    assert done.exit_code == 3 and "INCOMPLETE" in (tmp_path / "b.html").read_text("utf-8")


def test_ties_that_a_rounding_made():
    key = np.array([[[1.0], [3.0], [3.0], [2.0]]] * 3)
    ours = np.array([[1, 2], [1, 0], [1, 0]])
    fixed, rows = untied(np.array([[2, 1], [2, 0], [2, 3]]), ours, key)
    assert rows == [1] and fixed.tolist() == [[2, 1], [1, 0], [2, 3]]  # row 2 took a worse expert too
