"""Correct ports of every arithmetic are never called wrong, and narrow arithmetic does not pass for binary32."""

import ast

import numpy as np
import pytest

from refmoe import golden, ops, verifier
from tests import ports, tiny

CASES = [golden.load(path) for path in golden.cases()]


def judged(case, found, profile):
    return verifier.judge(case.op or f"formats/{case.format}", case.inputs, case.attrs, found, case.expected, profile,
                          case.name, diagnosis=False)  # fmt: skip


def test_every_op_is_simulated():
    assert set(ops.names()) <= set(ports.OPS), set(ops.names()) - set(ports.OPS)


@pytest.mark.parametrize("kind", ports.KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_alarm(kind, seed):
    for case in CASES:
        verdict = judged(case, ports.Port(kind, seed).run(case), kind)
        assert verdict.status in (verifier.EXACT, verifier.WITHIN), f"{verdict.op}/{case.name}: {verdict.outputs}"
        if kind == "f32-any-order" and case.name not in ("tie_made_by_rounding", "nan_row"):
            assert not verdict.excused, f"{verdict.op}/{case.name}"  # V09: margins are far above rounding


@pytest.mark.parametrize("kind", ["bf16", "f16", "tf32"])
def test_narrow_ports_are_not_binary32(kind):
    """For each op some vector tells a narrow port from a binary32 port (routers are binary32 in all ports)."""
    wide = {"argmax", "split_heads", "clip", "embedding"} | {op for op in ops.names() if op.startswith("route_")}
    if kind == "tf32":
        wide |= set(ops.names()) - {"linear", "linear_bias", "logits", "expert_linear", "attention", "absorb_query"}
    for op in sorted(set(ops.names()) - wide):
        found = [judged(case, ports.Port(kind, 0).run(case), "f32-any-order").status for case in CASES if case.op == op]
        assert verifier.WRONG in found, op


def test_a_bf16_port_four_times_worse_than_its_format_is_wrong():
    """V04, V05: bounds follow from the format, so a few units in the last place more are seen."""
    for op in ("linear", "rms_norm", "swiglu", "rope_half", "expert_linear"):
        caught = 0
        for case in (case for case in CASES if case.op == op):
            y = ports.Port("bf16", 0).run(case)["y"]
            with np.errstate(all="ignore"):
                worse = ports.bf16(y * np.float32(1 + 4 * 2.0**-8))
            caught += judged(case, {"y": worse}, "bf16").status == verifier.WRONG
        assert caught >= 2, op


def test_fused_attention_is_held_to_more():
    """A port that says that it rounds no scores has narrower bounds."""
    fused = {"based_on": "bf16", "intermediate": "f32", "name": "fused"}
    cases, caught = [case for case in CASES if case.op == "attention"], 0
    for seed in range(6):
        port = ports.Port("bf16", seed)
        port.eager = False
        for case in cases:
            y = port.run(case)["y"]
            assert judged(case, {"y": y}, fused).status == verifier.WITHIN, (seed, case.name)
            with np.errstate(all="ignore"):
                worse = ports.bf16(y * np.float32(1 + 6 * 2.0**-8))
            caught += judged(case, {"y": worse}, fused).status == verifier.WRONG
    assert caught > 3 * len(cases)


def test_the_bounds_are_independent_of_the_kernels():
    """V06, V11: nothing of ops, kernels or numerics but the codecs is used to judge an op."""
    folder = tiny.ROOT / "refmoe" / "verifier"
    files = [*(folder / "bounds").glob("*.py"), *(folder / f"{name}.py" for name in (
        "arithmetic", "balls", "misses", "routing"))]  # fmt: skip
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("refmoe.ops", "refmoe.kernels", "refmoe.engine")) for name in names), path
