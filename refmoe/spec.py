"""spec - the specification as text, assembled from the docstrings of the sources; nothing is imported, only parsed.

`build()` is what refmoe/SPEC.md holds (scripts/write_spec.py writes it), `clause(name)` one clause of it. Numbers are
stable: a new clause goes to the end of its chapter, a clause that is gone keeps its line as a gap.
"""

import ast
import hashlib
import re
from pathlib import Path

from refmoe import NUMERICS_VERSION
from refmoe.errors import RefmoeError, UsageError

PACKAGE = Path(__file__).parent
SECTIONS = ("Signature", "Semantics", "Order", "Special", "Ties", "Errors", "Golden", "Origin")  # of an op; Ties if any

# Chapter -> folder and clauses in the order of their numbers; append only.
CHAPTERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Numerics", "numerics", (
        "fma", "reduce", "elementary", "rope_tables", "codecs", "counter", "select", "small_codes", "k_scales",
        "activation_codes",
    )),
    ("Weight formats", "formats", (
        "f32", "bf16", "f16", "fp8_block", "fp8_scaled", "int8_scaled",
        "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs",
        "mxfp4_halves",
        "int_packed", "gptq", "awq", "mxfp4_blocks", "mxfp4_packed", "nvfp4_packed", "nvfp4_modelopt",
    )),
    ("Operations", "ops", (
        "embedding", "rms_norm", "head_norm", "linear", "linear_bias", "rope_half", "rope_pairs", "attention",
        "route_softmax_topk", "route_softmax_topk_renorm", "expert_linear", "swiglu", "combine", "add", "logits",
        "argmax", "route_sigmoid_groups", "route_sigmoid_groups_renorm", "route_softmax_groups",
        "scale_by_sigmoid", "clip", "split_heads", "absorb_query", "expand_value", "latent_attention",
        "attention_sinks", "route_topk_softmax", "expert_linear_bias", "swiglu_clamped",
        "rope_half_partial", "linear_a8", "expert_linear_a8",
        "linear_bias_a8", "expert_linear_bias_a8",
    )),
    ("Programs", "archs", (
        "program", "rope", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe",
        "qwen2_moe", "olmoe", "deepseek_v3", "deepseek_v2", "kimi_k2", "gpt_oss", "glm4_moe",
        "dots1", "flex_olmo", "glm4_moe_lite", "minimax_m2",
        "quantization",
    )),
    ("Sampling", "", ("sampler",)),
    ("Files", "", ("trace", "golden", "conformance")),
)  # fmt: skip
# clauses that are not <folder>/<name>.py or <name>.py
PLACES = {"rope": "config/rope.py", "quantization": "config/quantization.py"}
NO_CLAUSE = {
    "numerics": ("vec", "vec_bytes", "vec_int", "vec_codes", "vec_dots", "vec_panels", "vec_unpack"),  # schedules only
    "archs": ("parts", "parts_latent"),
}  # fmt: skip

INTRODUCTION = """\
This document defines every bit that refmoe computes from a checkpoint and token ids. Whoever follows it, on any
processor and in any language that has IEEE 754 arithmetic and a fused multiply-add, gets the same bits. It is
assembled from the sources: each clause is the docstring of the file that implements it.

**How to read a clause.** Signature names the inputs and results with their types and axes: T tokens, H hidden width,
N query heads, G key-value heads, D head width, V vocabulary, E experts, K chosen experts or the length of a sum, F
width of the gated unit, M width of an expert, S width of the shared expert. Latent attention has R numbers of a latent,
A rank of the queries, P unrotated and Q rotated numbers of a head (D = P + Q), U numbers of a head's value, C = R + Q
numbers kept for each position, W = P + U rows of the expanding matrix for each head. A `matrix` is W_eff of any weight
format. Semantics is the formula in real arithmetic. Order lists every rounding (R1, R2, ...) and the order of every
sum; what is not listed is not rounded. Special, Ties and Errors say what happens at the edges, Golden names the
vectors, Origin the source of the definition and implementations that differ.

**Arithmetic.** Values are IEEE 754 binary32 unless a clause says otherwise. Each operation rounds its exact result
once to nearest, ties to even. Subnormal numbers are inputs and results like any other. A product and a sum are fused
where a clause writes fma and nowhere else. Nothing is reassociated. RN32(v) is the binary32 number nearest to the
real v; "exact" means that no rounding can occur.

**The one reduction.** The sums of matrix products, attention scores, squares and softmax denominators are taken in
one order: sixteen lanes, lane l owns the terms k = l mod 16 in ascending order from +0, the length padded with +0 to
a multiple of sixteen, then a halving tree over 8, 4, 2 and 1 (clause reduce). The other sums (values weighted by
attention, chunks of attention, outputs of the chosen experts) run one term after the other, as their clauses state.

**Weights.** A weight format defines one exact binary32 matrix W_eff for the stored bytes. Products are defined on
W_eff only, so a format changes no other clause.

**Elementary functions.** exp, sin and cos are correctly rounded: the definition is the real function and one
rounding, not an algorithm. sigmoid and silu are built from exp with the roundings of clause elementary. Rotary
frequencies come from exact decimal arithmetic (clause rope_tables).

**Choices.** The largest value is found by exact comparison. Of equal values the one with the lower index comes first;
-0 equals +0. A nan never wins against a number. Weighted sums run in the order in which their terms were chosen, best
first.

**nan.** A nan is a nan: its sign and payload are outside this specification, as processors differ in them. All other
values, signed zeros and infinities included, are defined.

**What a result depends on.** The program, the weights, the token ids and their positions, and the type in which keys
and values are stored (f32 unless bf16 is asked for). It does not depend on the number of threads, the processor, the
batch a sequence is in, the division of a sequence into passes, or on whether kernels are compiled: those decide speed
only.

**Programs.** A model is a list of steps; a step applies one operation to named values (clause program, and one clause
for each family). The names of results are the points of a trace.

**Versions.** NUMERICS_VERSION is {version}. A result that changes in any bit needs another one. Files of golden data
state the version they belong to."""

VERSIONS = """\
Numerics 1: the first. All clauses of this document.

Changes for users:

- refmoe 0.1.0: the families llama, mistral, mixtral, qwen2, qwen3 and qwen3_moe from safetensors files in f32, bf16 and
  f16; generate, info, program, trace, bench, spec and verify install; an embedded model.
- refmoe 0.2.0: the families kimi_k2, deepseek_v3, deepseek_v2, qwen2_moe, gpt_oss, olmoe, flex_olmo, glm4_moe,
  glm4_moe_lite, dots1 and minimax_m2; FP8, compressed-tensors, GPTQ, AWQ, MXFP4 and NVFP4 weights; GGUF files; 8-bit
  activations as ops of their own; tokenizers from rank files, merges, SentencePiece and GGUF; chat, tools and thinking;
  quantize, to safetensors and GGUF; vectors, check, compare, verify port, verify checkpoint, verify endpoint and a
  pytest plugin. YaRN extends the context. Control tokens in text are text unless --special is given."""


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def _place(folder: str, name: str) -> Path:
    nested = PACKAGE / folder / f"{name}.py"
    return PACKAGE / PLACES[name] if name in PLACES else nested if nested.is_file() else PACKAGE / f"{name}.py"


def sections(docstring: str) -> list[str]:
    """The fixed section words of an op's docstring, in the order in which they stand there."""
    return [word for line in docstring.splitlines() if (word := line.partition(" ")[0]) in SECTIONS]


def names() -> list[str]:
    """All clauses, in the order of the document."""
    return [name for _, _, clauses in CHAPTERS for name in clauses]


def clause(name: str) -> str:
    """One clause: its heading and its text. UsageError for a name that is none."""
    for chapter, (_, folder, clauses) in enumerate(CHAPTERS, start=2):
        if name in clauses:
            return _clause(f"{chapter}.{clauses.index(name) + 1}", folder, name)
    raise UsageError(f"clause: expected one of {', '.join(names())}, found {name[:60]!r}")


def _clause(number: str, folder: str, name: str) -> str:
    title, _, body = _docstring(_place(folder, name)).partition("\n")
    summary = re.sub(rf"^{name}(?: - |: )", "", title).strip()
    source = _place(folder, name).relative_to(PACKAGE).as_posix()
    text = body.strip("\n").rstrip()
    block = f"\n```text\n{text}\n```\n" if text else ""
    return f"### {number} {name}\n\n{summary[:1].upper()}{summary[1:]}\nSource: `refmoe/{source}`.\n{block}"


def _complete() -> None:
    """RefmoeError if a file that must have a clause is not listed above, or the other way round."""
    for _, folder, clauses in CHAPTERS:
        if folder:
            files = {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__", *NO_CLAUSE.get(folder, ())}
            listed = {name for name in clauses if _place(folder, name).parent.name == folder}
            if files != listed:
                odd = ", ".join(sorted(files ^ listed))
                raise RefmoeError(f"spec: refmoe/{folder}: expected one clause for each file, found otherwise: {odd}")


def build() -> str:
    """The whole specification. The digest in its third line is the sha256 of everything after that line."""
    _complete()
    introduction = INTRODUCTION.format(version=NUMERICS_VERSION)
    contents, chapters = ["- 1 Introduction"], [f"## 1 Introduction\n\n{introduction}\n"]
    for number, (title, folder, clauses) in enumerate(CHAPTERS, start=2):
        contents.append(f"- {number} {title}: " + ", ".join(clauses))
        texts = [_clause(f"{number}.{n}", folder, name) for n, name in enumerate(clauses, start=1)]
        chapters.append(f"## {number} {title}\n\n" + "\n".join(texts))
    contents.append("- Versions")
    chapters.append(f"## Versions\n\n{VERSIONS}\n")
    below = "\n" + "\n".join(contents) + "\n\n" + "\n".join(chapters)
    digest = hashlib.sha256(below.encode()).hexdigest()
    return f"# The refmoe specification, numerics {NUMERICS_VERSION}\n\nDigest of the text below: `{digest}`\n{below}"
