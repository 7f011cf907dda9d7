"""verify checkpoint: outputs that transformers computed for tiny models, wrong models, and what cannot be run.

tests/published_tiny is written by scripts/dump_published.py; nothing in it was computed by refmoe.
"""

import json
import shutil

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from refmoe import checkpoint, conformance, program, published, structure, verify_checkpoint
from refmoe.checkpoint import read, read_header, write
from refmoe.cli import main
from refmoe.errors import TraceError
from tests.oracles.arithmetic import bf16

FOLDER = tiny.ROOT / "tests" / "published_tiny"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
OWN = published.entries()
SHARED = tiny.ROOT.parent / "shared" / "data"


def run(*arguments):
    """(exit code, stdout)."""
    result = CliRunner().invoke(main, ["verify", "checkpoint", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout


def copied(tmp_path, name="qwen3_moe", change=None, folder="other"):
    """A tiny model under another name; `change` edits {tensor name: array} in place."""
    target = tmp_path / folder
    shutil.copytree(tiny.TINY / name, target)
    file = target / "model.safetensors"
    if change:
        header = read_header(file)
        infos = list(header.tensors.values())
        arrays = {info.name: raw.view("<u2").reshape(info.shape).copy()
                  for info, raw in zip(infos, read(infos), strict=True)}
        change(arrays)
        write(file, {info.name: (info.dtype, info.shape, arrays[info.name]) for info in infos}, header.metadata)
    return target


def goldens(tmp_path, name="qwen3_moe", keep=lambda one: True, **changes):
    """A file of published outputs with some of them left out."""
    entry = json.loads((FOLDER / f"{name}.json").read_text("utf-8")) | changes
    entry["goldens"] = [one for one in entry["goldens"] if keep(one)]
    path = tmp_path / f"goldens-{len(list(tmp_path.iterdir()))}.json"
    path.write_text(json.dumps(entry), "utf-8")
    return path


# ---- conformant -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_transformers_in_three_arithmetics(name):
    report = verify_checkpoint.check(tiny.TINY / name, FOLDER)
    assert report.verdict == "conformant" and report.recognised == [{"checkpoint": f"tiny/{name}", "by": "name"}]
    results = {result.golden.id: result for _, result in report.results}
    assert len(results) == 6 and all(result.verdict == "conformant" for result in results.values())
    for check in results["logits-float32"].facts["checks"]:
        assert check["published_tolerance_held"] and check["largest"] < 1e-4
    for check in results["logits-bfloat16"].facts["checks"]:
        assert 0.03 < check["ratio"] < 0.8 and check["largest"] > 1e-3  # not held to float32, and not everything goes


def test_the_report_in_words_and_in_json():
    where = tiny.TINY / "qwen3_moe"
    code, text = run(where, "--goldens", FOLDER)
    assert code == 0 and text.endswith("\nCONFORMANT\n") and "16 of 16 ids equal" in text
    assert "by bfloat16" in text and "within the published tolerance" in text and "finite         every weight" in text
    code, text = run(where, "--goldens", FOLDER, "--json")
    facts = json.loads(text)
    assert code == 0 and facts["verdict"] == "conformant" and len(facts["results"]) == 6
    assert facts["structure"]["parameters"] == facts["structure"]["stored_parameters"] == 68856
    assert facts["structure"]["content_digest"] == checkpoint.open(where).content_digest()
    code, text = run(where, "--goldens", FOLDER, "--list")
    assert code == 0 and text.count("would be run") == 6 and "CONFORMANT" not in text and "digest" not in text


def test_a_name_in_the_hub_cache_or_by_the_caller(tmp_path):
    assert published.named("org/Name", "org/Name") and published.named("org/Name@main", "org/Name")
    assert published.named("a/models--org--Name/snapshots/0a1b", "org/Name")
    assert published.named("some/where/name", "org/Name") and not published.named("some/name/else", "org/Name")
    target, file = copied(tmp_path), goldens(tmp_path, keep=lambda one: one["id"] == "greedy-float32")
    assert run(target, "--goldens", file)[0] == 0  # by its config
    assert run(target, "--goldens", file, "--as", "tiny/qwen3_moe")[0] == 0
    code, text = run(target, "--goldens", file, "--as", "tiny/mixtral")
    assert code == 3 and text.endswith("INCOMPLETE\n")


def test_recognised_by_its_tensors(tmp_path):
    digest = checkpoint.open(tiny.TINY / "qwen3_moe").content_digest()
    twin = goldens(tmp_path, content_digests=[digest], checkpoint="first", keep=lambda one: "float32" in one["id"])
    report = verify_checkpoint.check(copied(tmp_path), twin)
    assert report.recognised == [{"checkpoint": "first", "by": "tensors"}] and report.verdict == "conformant"


def test_the_same_model_in_other_files(tmp_path):
    """Published outputs do not depend on the container: the program and the weights are the same."""
    from tests import gguf_maker

    gguf_maker.convert(tiny.TINY / "olmoe", tmp_path / "olmoe-x.gguf")
    report = verify_checkpoint.check(tmp_path / "olmoe-x.gguf", FOLDER)
    assert report.verdict == "conformant" and report.recognised == [{"checkpoint": "tiny/olmoe", "by": "config"}]
    assert report.structure["stored_parameters"] == report.structure["parameters"]


# ---- not conformant -------------------------------------------------------------------------------------------------

def _halves(arrays):
    """Rows of q and k as other files order them (A04): neighbours where halves are meant."""
    for name, array in arrays.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            size = 10
            heads = array.reshape(-1, size, array.shape[1])
            array[:] = heads.reshape(-1, 2, size // 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)


def _experts(arrays):
    """Two experts exchanged in one matrix only."""
    a, b = (arrays[f"model.layers.0.mlp.experts.{e}.down_proj.weight"] for e in (0, 1))
    a[:], b[:] = b.copy(), a.copy()


def _head_norm(arrays):
    """The norm of the heads of q forgotten: all weights 1."""
    arrays["model.layers.1.self_attn.q_norm.weight"][:] = 0x3F80


def _one_bit(arrays):
    """The lowest exponent bit of one embedding row: a token of the prompt."""
    arrays["model.embed_tokens.weight"][63] ^= 0x0080


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("change", [_halves, _experts, _head_norm, _one_bit], ids=lambda change: change.__name__)
def test_wrong_weights_are_found_in_every_arithmetic(tmp_path, change, arithmetic):
    target = copied(tmp_path, change=change)
    file = goldens(tmp_path, keep=lambda one: one["arithmetic"] == arithmetic)
    code, text = run(target, "--goldens", file)
    assert code == 1 and text.endswith("NOT CONFORMANT\n") and "expected" in text and "found" in text


def test_a_wrong_kernel_is_found(monkeypatch):
    from refmoe import ops

    right = ops.get("swiglu").bind
    monkeypatch.setattr(ops.get("swiglu"), "bind", lambda *a: lambda gate, up: right(*a)(up, gate))
    for name in ("qwen3_moe", "llama-llama3-bias-tied"):
        assert verify_checkpoint.check(tiny.TINY / name, FOLDER).verdict == "not conformant"


def test_nan_and_inf_are_named(tmp_path):
    def change(arrays):
        arrays["model.layers.2.mlp.experts.2.up_proj.weight"][3, 1:4] = 0x7FC0
        arrays["model.layers.2.mlp.experts.2.up_proj.weight"][0, 0] = 0xFF80
        arrays["model.norm.weight"][5] = 0x7F81

    target = copied(tmp_path, change=change)
    code, text = run(target, "--goldens", FOLDER)
    assert code == 1 and "all but 2 tensors" in text
    assert "model.layers.2.mlp.experts.2.up_proj.weight: 3 nan, 1 inf" in text
    assert "model.norm.weight: 1 nan, 0 inf" in text
    code, text = run(target, "--goldens", FOLDER, "--json")
    facts = json.loads(text)
    assert code == 1 and facts["structure"]["not_finite"]["model.norm.weight"] == [1, 0]
    assert run(target)[0] == 1  # with nothing to compare, too


@pytest.mark.parametrize(("dtype", "codes", "found"), [
    ("F32", [0x7F800000, 0xFF800001, 0x7F7FFFFF, 0x80000000], (1, 1)),
    ("F16", [0x7C00, 0xFC00, 0x7E00, 0x7BFF], (1, 2)),
    ("F64", [0x7FF0000000000000, 0xFFF0000000000001, 0x7FEFFFFFFFFFFFFF], (1, 1)),
    ("F8_E4M3", [0x7F, 0xFF, 0x7E, 0xF8], (2, 0)),
    ("F8_E5M2", [0x7C, 0xFC, 0x7D, 0xFF, 0x7B], (2, 2)),
    ("F8_E8M0", [0xFF, 0xFE, 0x00], (1, 0)),
    ("BF16", [0x7F7F, 0x0001], None),
    ("I32", [0x7F800000], None),
])  # fmt: skip
def test_codes_that_are_not_finite(tmp_path, dtype, codes, found):
    element = {"F64": "<u8", "I32": "<u4"}.get(dtype) or structure.NOT_FINITE[dtype][0]
    (tmp_path / "config.json").write_text("{}", "utf-8")
    write(tmp_path / "model.safetensors", {"x": (dtype, [len(codes)], np.array(codes, element))})
    digest, bad = structure.scan(checkpoint.open(tmp_path))
    assert digest == checkpoint.open(tmp_path).content_digest() and bad == ({} if found is None else {"x": found})


def test_a_tokenizer_that_does_not_fit(tmp_path):
    target = copied(tmp_path)
    shutil.copy(checkpoint.locate(None) / "tokenizer.json", target)  # the embedded model's: more ids than rows
    code, text = run(target, "--goldens", FOLDER)
    assert code == 1 and "tokenizer.json: token id" in text and "the model's vocab_size is 97" in text
    assert "the model cannot be loaded" in text


# ---- several checkpoints of one shape -------------------------------------------------------------------------------

def twins(tmp_path):
    """Two files of the same config: the true outputs, and those of other weights."""
    folder = tmp_path / "twins"
    folder.mkdir()
    true = json.loads((FOLDER / "qwen3_moe.json").read_text("utf-8"))
    true["goldens"] = [one for one in true["goldens"] if one["id"] == "greedy-float32"]
    false = json.loads(json.dumps(true)) | {"checkpoint": "tiny/sister"}
    false["goldens"][0]["ids"][3:9] = [1, 2, 3, 4, 5, 6]
    for name, entry in (("brother", true), ("sister", false)):
        (folder / f"{name}.json").write_text(json.dumps(entry), "utf-8")
    return folder


def test_outputs_say_which_of_several_it_is(tmp_path):
    target, folder = copied(tmp_path), twins(tmp_path)
    code, text = run(target, "--goldens", folder)
    assert code == 0 and "its outputs are those of tiny/qwen3_moe" in text
    assert "[tiny/sister]: not this checkpoint: 5 of 16 ids equal, 11 differ: at step 4 expected 1, found 66" in text
    code, text = run(target, "--goldens", folder, "--as", "tiny/sister")
    assert code == 1 and "brother" not in text
    assert "could be any of tiny/qwen3_moe, tiny/sister" in run(target, "--goldens", folder, "--list")[1]


def test_none_of_several_is_inconclusive(tmp_path):
    code, text = run(copied(tmp_path, change=_experts), "--goldens", twins(tmp_path))
    assert code == 4 and text.endswith("INCONCLUSIVE\n")


def test_the_name_fits_but_the_config_does_not(tmp_path):
    target = copied(tmp_path, folder="qwen3_moe")
    config = json.loads((target / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0}), "utf-8")
    code, text = run(target, "--goldens", FOLDER)
    assert code == 3 and "tiny/qwen3_moe: the name fits, but rotary tables: expected" in text and "12345" in text
    (target / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}), "utf-8")
    code, text = run(target, "--goldens", FOLDER)
    assert code == 3 and "tiny/qwen3_moe: the name fits, but eps: expected" in text


# ---- what cannot be run, and weak evidence --------------------------------------------------------------------------

def test_reasons(tmp_path):
    one = json.loads((FOLDER / "qwen3_moe.json").read_text("utf-8"))["goldens"][1]
    text = {"id": "text", "kind": "greedy", "arithmetic": "float32", "prompt": "Hi", "text": " there"}
    cases = [
        one | {"id": "wrong", "status": "wrong", "note": "of another scale"},
        one | {"id": "other", "weights": "4-bit, made while loading"},
        one | {"id": "int8", "arithmetic": "int8 activations"},
        one | {"id": "vocabulary", "prompt_ids": [1, 97]},
        {"id": "ppl", "kind": "perplexity", "arithmetic": "bfloat16", "value": 7.5, "text": "a book", "method": "any"},
        text,
        text | {"id": "continuation", "prompt_ids": [1, 2]},
        one | {"id": "fine"},
    ]
    file = tmp_path / "reasons.json"
    file.write_text(json.dumps({"schema": 1, "checkpoint": "tiny/qwen3_moe", "goldens": cases}), "utf-8")
    report = verify_checkpoint.check(tiny.TINY / "qwen3_moe", file)
    found = {result.golden.id: (result.verdict, result.words) for _, result in report.results}
    assert found.pop("fine") == ("conformant", "16 of 16 ids equal") and report.verdict == "conformant"
    assert {verdict for verdict, _ in found.values()} == {"not run"}
    assert [words for _, words in found.values()] == [
        "known to be wrong: of another scale",
        "made with other weights: 4-bit, made while loading",
        "other arithmetic: int8 activations",
        "not this vocabulary: id 97 of 97 rows",
        "needs a text that is not part of this package: a book",
        "a text, and the checkpoint has no tokenizer that can be used",
        "its continuation is a text, and the checkpoint has no tokenizer that can be used",
    ]
    cases.pop()
    file.write_text(json.dumps({"schema": 1, "checkpoint": "tiny/qwen3_moe", "goldens": cases}), "utf-8")
    assert run(tiny.TINY / "qwen3_moe", "--goldens", file)[0] == 3


def test_weights_in_another_encoding():
    golden = published.Golden("x", "greedy", "float32", "good", "", "", {}, {"prompt_ids": [1], "ids": [2]})
    facts = {"formats": ["bf16", "q8_0"], "quantisation": None, "vocabulary_rows": 9, "tokenizer_ids": None}
    assert verify_checkpoint.obstacle(golden, facts) == "of the published weights; these are stored as q8_0"
    assert verify_checkpoint.obstacle(golden, facts | {"quantisation": "gptq"}) is None
    assert verify_checkpoint.obstacle(golden, facts | {"formats": ["f32", "bf16", "f16"]}) is None


def test_weak_goldens_decide_nothing(tmp_path):
    file = goldens(tmp_path, keep=lambda one: one["id"] == "greedy-float32")
    entry = json.loads(file.read_text("utf-8"))
    entry["goldens"][0] |= {"status": "weak", "ids": [1] * 16}
    file.write_text(json.dumps(entry), "utf-8")
    code, text = run(tiny.TINY / "qwen3_moe", "--goldens", file)
    assert code == 4 and "not conformant greedy-float32 (weak golden)" in text and text.endswith("INCONCLUSIVE\n")


def test_a_tie_is_not_an_error_and_many_ties_say_nothing(tmp_path):
    """bfloat16 and float32 part at step 10 of mixtral-window-linear, where an expert changes."""
    report = verify_checkpoint.check(tiny.TINY / "mixtral-window-linear", FOLDER)
    tied = next(result for _, result in report.results if result.golden.id == "greedy-bfloat16")
    assert tied.verdict == "conformant" and tied.facts["ties"] == 1 and "1 ties (first at step 10, gap" in tied.words
    model, prompt = tiny.model("qwen3_moe"), tiny.facts("qwen3_moe")["prompt"]
    second = np.argsort(conformance.rows_of(model, prompt, len(prompt) - 1)[0])[-2]
    one = dict(id="x", kind="greedy", arithmetic="bfloat16", status="good", weights="", note="", source={})
    result = conformance.compare(model, published.Golden(**one, data={"prompt_ids": prompt, "ids": [int(second)]}))
    assert result.verdict == "not conformant" and "gap 1.94 above" in result.words  # ids.json: 1.94273
    conformance_bits, conformance.BITS["rough"] = dict(conformance.BITS), 2
    try:
        golden = published.Golden(**one | {"arithmetic": "rough"}, data={"prompt_ids": prompt, "ids": [int(second)]})
        assert conformance.compare(model, golden).verdict == "inconclusive"
    finally:
        conformance.BITS.clear()
        conformance.BITS.update(conformance_bits)


def test_ids_that_were_not_published_are_ours():
    model, facts = tiny.model("qwen3_moe"), tiny.facts("qwen3_moe")
    one = dict(id="x", kind="greedy", arithmetic="float32", status="good", weights="", note="", source={})
    data = {"prompt_ids": facts["prompt"], "ids": [None, None, *facts["greedy"][2:]]}
    result = conformance.compare(model, published.Golden(**one, data=data))
    assert (result.verdict, result.words) == ("conformant", "6 of 6 ids equal")
    repeated = published.Golden(**one, data={"prompt_ids": [1], "then": [3, 4], "times": 3, "ids": [5]})
    assert repeated.prompt_ids == [1, 3, 4, 3, 4, 3, 4]


def test_log_probabilities():
    model, facts = tiny.model("qwen3_moe"), tiny.facts("qwen3_moe")
    ids = facts["prompt"] + facts["greedy"]
    rows = tiny.outside("qwen3_moe")[0]["logits"]
    rows = rows - np.log(np.exp(rows).sum(-1))[:, None]
    own = [round(float(rows[n - 1, token]), 6) for n, token in enumerate(ids) if n]
    one = dict(id="x", kind="greedy", arithmetic="float32", status="good", weights="", note="", source={})
    cut = len(facts["prompt"])
    data = {"prompt_ids": facts["prompt"], "ids": facts["greedy"], "prompt_logprobs": [None, *own[: cut - 1]],
            "logprobs": own[cut - 1 :], "rtol": 1e-4}  # fmt: skip
    result = conformance.compare(model, published.Golden(**one, data=data))
    assert result.verdict == "conformant" and "24 log-probabilities" in result.words
    data["prompt_logprobs"][3] *= 1.01
    result = conformance.compare(model, published.Golden(**one, data=data))
    assert result.verdict == "not conformant" and f"expected {data['prompt_logprobs'][3]:.4g}" in result.words


def test_text_goldens_with_the_embedded_model():
    model = tiny.refmoe.load()
    prompt = "Once upon a time"
    made = "".join(step.text for step in model.generate(model.encode(prompt), max_tokens=24))
    one = dict(id="x", kind="greedy", arithmetic="float32", status="good", weights="", note="", source={})
    good = conformance.compare(model, published.Golden(**one, data={"prompt": prompt, "text": made}))
    assert good.verdict == "conformant"
    bad = conformance.compare(model, published.Golden(**one, data={"prompt": prompt, "text": made[:20] + "qqqq"}))
    assert bad.verdict == "not conformant"
    derived = {"prompt": prompt, "prompt_ids": model.encode(prompt), "ids": model.encode(made)[1:] or [5], "text": made}
    derived["ids"] = [*derived["ids"][:2], 3, 3, 3]  # another cut of the same text is no error if the text comes out
    assert conformance.compare(model, published.Golden(**one, data=derived)).verdict == "conformant"


# ---- rounding, files ------------------------------------------------------------------------------------------------

def test_rounding_in_place():
    x = np.random.default_rng(5).standard_normal(5000).astype(np.float32) * np.float32(3)
    x[:8] = [0.0, -0.0, np.inf, -np.inf, 0.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 2 - 2.0**-23]
    x.view("u4")[4] = 0x7F800001  # a nan that masking would make infinite
    for bits, expected in ((8, bf16(x)), (11, x.astype(np.float16).astype(np.float32)), (23, None)):
        y = x.copy()
        conformance.rounding(bits)("", y)
        if expected is not None:
            large = np.abs(x) > 1e-3  # float16 has fewer bits below 6e-5
            assert np.array_equal(y[large], expected[large])
        assert np.array_equal(np.isnan(y), np.isnan(x)) and np.array_equal(y[:4].view("u4"), x[:4].view("u4"))
        assert (np.abs(y[8:] - x[8:]) <= 2.0**-bits * np.abs(x[8:])).all()
        up = np.zeros(5000)
        for seed in range(200):
            z = x.copy()
            conformance.rounding(bits, seed)("", z)
            assert np.array_equal(np.isnan(z), np.isnan(x)) and np.array_equal(z[:4].view("u4"), x[:4].view("u4"))
            assert (np.abs(z[8:] - x[8:]) <= 2.0 ** (1 - bits) * np.abs(x[8:])).all()
            up[8:] += z[8:].astype(float) - x[8:]
        assert (np.abs(up[8:]) / 200 < 2.0 ** (1 - bits) * np.abs(x[8:]) / 5).all()  # right on average
    ids = np.arange(5)
    conformance.rounding(8)("", ids)
    assert ids.tolist() == [0, 1, 2, 3, 4]


def test_every_published_file():
    ids = [golden.id for entry in OWN for golden in entry.goldens]
    assert len(ids) == len(set(ids)) and len(ids) > 45
    for entry in OWN:
        if entry.config is not None and entry.config["model_type"] in program.supported():
            built = program.build(entry.config)
            found, notes = published.candidates(OWN, built, entry.quantisation, "somewhere", None, None)
            assert entry.checkpoint in {one.entry.checkpoint for one in found}
            assert all(" the same program, but quantisation: expected " in line for line in notes)
        for golden in entry.goldens:
            rows = (entry.config or {"vocab_size": 32000})["vocab_size"]
            assert all(i is None or i < rows for i in (golden.prompt_ids or []) + golden.data.get("ids", []))
            assert golden.source["repository"]
        if entry.tokenizer:
            assert published.tokenizer_vectors(entry.tokenizer), entry.tokenizer
    assert {entry.checkpoint for entry in OWN} >= {"mistralai/Mistral-7B-v0.1", "Qwen/Qwen1.5-MoE-A2.7B",
                                                  "openai/gpt-oss-20b", "Llama-3.1-8B"}  # fmt: skip


def test_shapes_that_several_checkpoints_share():
    built = program.build(next(entry.config for entry in OWN if entry.checkpoint == "Qwen/Qwen2-0.5B"))
    found, _ = published.candidates(OWN, built, None, "x", None, None)
    assert {one.entry.checkpoint for one in found} == {"Qwen/Qwen2-0.5B", "Qwen/Qwen2-0.5B-Instruct",
                                                       "Qwen/Qwen2.5-0.5B"}  # fmt: skip
    found, _ = published.candidates(OWN, built, None, "models--Qwen--Qwen2-0.5B/snapshots/1", None, None)
    assert [(one.entry.checkpoint, one.why) for one in found] == [("Qwen/Qwen2-0.5B", "name")]
    found, notes = published.candidates(OWN, built, "gptq", "x", None, None)
    assert found == [] and notes[0] == (
        "Qwen/Qwen2-0.5B-Instruct: the same program, but quantisation: expected none, found gptq")


GOOD = {"id": "a", "kind": "greedy", "arithmetic": "float32", "prompt_ids": [1], "ids": [2]}
TABLE = {"of": "mean", "positions": [0], "sets": {"": [1.0]}, "atol": 0, "rtol": 0}
LOGITS = {"id": "a", "kind": "logits", "arithmetic": "float32", "ids": [1], "checks": [TABLE]}


@pytest.mark.parametrize(("change", "message"), [
    ({"schema": 2}, "schema: expected 1, found 2"),
    ({"checkpoint": None}, "checkpoint: expected a value, found none"),
    ({"checkpoint": 5}, "checkpoint: expected str, found 5"),
    ({"colour": 1}, "colour: expected one of schema"),
    ({"goldens": [5]}, r"goldens\[0\]: kind: expected one of"),
    ({"goldens": [GOOD | {"kind": "song"}]}, "kind: expected one of logits, greedy, perplexity, found song"),
    ({"goldens": [GOOD | {"ids": [-1]}]}, "ids: expected token ids"),
    ({"goldens": [GOOD | {"ids": "12"}]}, "ids: expected list"),
    ({"goldens": [GOOD | {"prompt_ids": [None]}]}, "prompt_ids: expected token ids"),
    ({"goldens": [GOOD | {"then": [1], "times": 1 << 40}]}, "expected at most 1048576 ids"),
    ({"goldens": [GOOD | {"prompt_ids": None}]}, "expected prompt or prompt_ids"),
    ({"goldens": [GOOD | {"status": "best"}]}, "status: expected one of good"),
    ({"goldens": [GOOD | {"logprobs": [1.0, 2.0]}]}, "logprobs: expected one number for each of ids"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"positions": [1]}]}]}, "positions: expected positions of the 1 ids"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"sets": {"": [1.0, 2.0]}}]}]}, "sets: expected numbers"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"sets": {"": ["1"]}}]}]}, "sets: expected numbers"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"sets": {}}]}]}, "sets: expected numbers"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"of": "logits"}]}]}, "expected of mean, or of logits with columns"),
    ({"goldens": [LOGITS | {"checks": [TABLE | {"of": "logits", "columns": [0]}]}]}, "columns: expected two numbers"),
])  # fmt: skip
def test_malformed_files_are_one_line(tmp_path, change, message):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"schema": 1, "checkpoint": "x", "goldens": [GOOD, LOGITS]} | change), "utf-8")
    with pytest.raises(TraceError, match=message) as caught:
        published.entries(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    code, _ = run(tiny.TINY / "qwen3_moe", "--goldens", file)
    assert code == 1


def test_a_list_needs_only_a_config(tmp_path):
    file = tmp_path / "x.json"
    config = next(entry.config for entry in OWN if entry.checkpoint == "Qwen/Qwen1.5-MoE-A2.7B")
    file.write_text(json.dumps(config), "utf-8")
    code, text = run(file, "--list")
    assert code == 0 and "the shape of Qwen/Qwen1.5-MoE-A2.7B" in text and "weights        none here" in text
    assert "hf-qwen1.5-moe-a2.7b-logits-fp32 [Qwen/Qwen1.5-MoE-A2.7B]: would be run" in text
    assert run(file)[0] == 1  # without --list weights are needed
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert run(tmp_path, "--list")[0] == 0 and run(tmp_path)[0] == 1


def test_arguments(tmp_path):
    assert run()[0] == 2 and run(tmp_path, "--goldens", tmp_path / "none.json")[0] == 2
    assert run(tmp_path / "none")[0] == 1


# ---- with the data folder beside the checkout -----------------------------------------------------------------------

@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
def test_the_published_text_and_logits_of_stories260k(tmp_path):
    report = verify_checkpoint.check(SHARED / "stories260k")
    assert report.verdict == "conformant" and report.recognised[0]["by"] == "tensors"
    assert next(result.words for _, result in report.results) == "256 of 256 ids equal"
    target = tmp_path / "copy"
    shutil.copytree(SHARED / "stories260k", target)
    raw = bytearray((target / "model.safetensors").read_bytes())
    raw[-2] ^= 0x40
    (target / "model.safetensors").chmod(0o644)
    (target / "model.safetensors").write_bytes(raw)
    report = verify_checkpoint.check(target)
    assert report.recognised == [{"checkpoint": "karpathy/tinyllamas stories260K", "by": "config"}]
    assert report.verdict == "not conformant"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_tokenizer_vectors(tmp_path, version):
    import gzip

    from refmoe import text

    (tmp_path / "tokenizer.json").write_bytes(
        gzip.decompress((SHARED / "tok-mistral" / f"tokenizer-{version}.json.gz").read_bytes()))
    tokenizer = text.load(tmp_path, 32768)
    right, wrong = (published.tokenizer_vectors(f"mistral-{v}") for v in (version, {"v1": "v3", "v3": "v1"}[version]))
    result = conformance.compare_tokenizer(tokenizer, "mistral", right)
    assert result.verdict == "conformant", result.words
    result = conformance.compare_tokenizer(tokenizer, "mistral", wrong)
    assert result.verdict == "not conformant" and "first: 'ied 4" in result.words
    right["fingerprint"] = "00"
    assert conformance.compare_tokenizer(tokenizer, "mistral", right).verdict == "not conformant"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
@pytest.mark.parametrize(("name", "file", "target", "rows"), [
    ("kimi-k2", "tok-kimi-k2/tiktoken.model.gz", "tiktoken.model", 163840),
    ("o200k", "tok-o200k/o200k_base.tiktoken.gz", "o200k_base.tiktoken", 201088),
    ("mistral-v1", "tok-mistral/tokenizer.model.v1.gz", "tokenizer.model", 32000),
])  # fmt: skip
def test_tokenizers_built_from_other_files(tmp_path, name, file, target, rows):
    import gzip

    from refmoe import text

    (tmp_path / target).write_bytes(gzip.decompress((SHARED / file).read_bytes()))
    settings = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": {}} if name == "kimi-k2" else {}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    result = conformance.compare_tokenizer(text.load(tmp_path, rows), name, published.tokenizer_vectors(name))
    assert result.verdict == "conformant", result.words
