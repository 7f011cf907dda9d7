"""Rotary tables of real configs: ours, those of transformers, and the exact ones (transformers is optional).

    python scripts/compare_rope.py              for people: all configs in golden/published/rope_tables.json
    python scripts/compare_rope.py --write      puts the numbers into that file (needs torch and transformers)
    python scripts/compare_rope.py CONFIG ...   the same for the config.json files named
    python scripts/compare_rope.py --random N   N invented settings in both dialects, ours and transformers' reading

Frequencies: how many entries of transformers' inv_freq differ from ours and by how many units in the last place.
Angles: at five positions the largest |value - exact| over cos and sin of all pairs, amplitude included, where "exact"
has no rounding at all: the real-number frequency (base^(-2i/D) and its scaling), angle, cosine and amplitude.
    ours       inv_freq as rope_tables says, angle RN32(position inv_freq), cos and sin correctly rounded
    unrounded  ours, but the angle not rounded: what the roundings of the frequencies alone cost
    float32    transformers' rotary class with float32 activations
    bfloat16   the same class with bfloat16 activations: cos and sin are rounded to bfloat16
Ours and exact are computed here in decimals of 60 digits, so the file can be checked without any of this.
"""

import argparse
import decimal
import json
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from refmoe.config import Config, rope  # noqa: E402
from refmoe.numerics import rope_tables  # noqa: E402
from refmoe.numerics.elementary import sincos32  # noqa: E402

FACTS = ROOT / "golden" / "published" / "rope_tables.json"
POSITIONS = (1, 4095, 131071, 262143, 1048575)
KEYS = ("model_type", "hidden_size", "num_attention_heads", "head_dim", "qk_rope_head_dim", "max_position_embeddings",
        "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings", "partial_rotary_factor")
CLASSES = {"kimi_k2": "deepseek_v3"}  # transformers has no class of that name; the remote code is DeepSeek-V3's
CONTEXT = decimal.Context(prec=60, Emin=-999999, Emax=999999)
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620900")


def spec_of(values):
    """Our reading of the rotary keys of a config."""
    head = values.get("qk_rope_head_dim") or values.get("head_dim")
    head = head or values["hidden_size"] // values["num_attention_heads"]
    config = Config(values, "config.json")
    if values["model_type"] != "glm4_moe":
        return rope.read(config, head, values["max_position_embeddings"])
    return rope.read(config, rope.rotated(config, head, 0.5), values["max_position_embeddings"], partial=True)


def exact_table(spec):
    """(frequencies, amplitude) as decimals without any rounding to binary32."""
    size, base = spec["head_dim"], Decimal(spec["base"])
    plain = [base ** (Decimal(-2 * i) / size) for i in range(size // 2)]
    if spec["kind"] == "default":
        return plain, Decimal(1)
    factor = Decimal(spec["factor"])
    if spec["kind"] == "linear":
        return [f / factor for f in plain], Decimal(1)
    original = Decimal(spec["original_max_position_embeddings"])
    if spec["kind"] == "llama3":
        low, high = Decimal(spec["low_freq_factor"]), Decimal(spec["high_freq_factor"])
        shares = [(original * f / (2 * PI) - low) / (high - low) for f in plain]
    else:
        low, high = (size * (original / (2 * PI * Decimal(spec[key]))).ln() / (2 * base.ln())
                     for key in ("beta_fast", "beta_slow"))
        if spec["truncate"]:
            low, high = low.to_integral_value("ROUND_FLOOR"), high.to_integral_value("ROUND_CEILING")
        low, high = max(low, Decimal(0)), min(high, Decimal(size - 1))
        high += Decimal("0.001") if low == high else 0
        shares = [1 - (i - low) / (high - low) for i in range(size // 2)]
    shares = [min(max(s, Decimal(0)), Decimal(1)) for s in shares]
    table = [f * (s + (1 - s) / factor) for f, s in zip(plain, shares, strict=True)]
    return table, exact_amplitude(spec, factor) if spec["kind"] == "yarn" else Decimal(1)


def exact_amplitude(spec, factor):
    """YaRN's factor of cos and sin."""
    if "attention_factor" in spec:
        return Decimal(spec["attention_factor"])
    up, down = (Decimal(spec.get(key, default)) for key, default in (("mscale", 1), ("mscale_all_dim", 0)))
    return (factor.ln() * up / 10 + 1) / (factor.ln() * down / 10 + 1)


def cos_sin(angle):
    """Cosine and sine of a Decimal, to some 50 digits."""
    quarter = PI / 2
    k = int((angle / quarter).to_integral_value())
    r, sums, term = angle - k * quarter, [Decimal(0), Decimal(0)], Decimal(1)
    for n in range(40):
        sums[n % 2] += -term if n % 4 > 1 else term
        term = term * r / (n + 1)
    cosine, sine = sums
    for _ in range(k % 4):
        cosine, sine = -sine, cosine
    return cosine, sine


def largest(exact, values):
    """The largest difference, as a float of four digits."""
    error = max(abs(Decimal(float(v)) - e) for e, v in zip(exact, values, strict=True))
    return float(f"{error:.3e}")


def ours(spec):
    """{"inv_freq": f32, "amplitude": f32} and the errors of our clause at each position."""
    table, amplitude = rope_tables.from_spec(spec)
    true_table, true_amplitude = exact_table(spec)
    errors = {}
    for position in POSITIONS:
        exact = [true_amplitude * v for f in true_table for v in cos_sin(position * f)]
        rounded, unrounded = [], []
        for inv in table:
            sine, cosine = sincos32(np.float32(np.float32(position) * inv))
            rounded += [np.float32(cosine * amplitude), np.float32(sine * amplitude)]
            unrounded += [true_amplitude * v for v in cos_sin(position * Decimal(float(inv)))]
        worst = max(abs(u - e) for u, e in zip(unrounded, exact, strict=True))
        errors[position] = {"exact": exact, "ours": largest(exact, rounded), "unrounded": float(f"{worst:.3e}")}
    return table, amplitude, errors


class Theirs:
    """transformers' rotary class for a config; None of it is imported before."""

    def __init__(self, values):
        import importlib

        import torch
        import transformers
        self.torch = torch
        transformers.logging.set_verbosity_error()
        name = CLASSES.get(values["model_type"], values["model_type"])
        config = {key: value for key, value in values.items() if key != "model_type"}
        config = transformers.CONFIG_MAPPING[name](**json.loads(json.dumps(config)))
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        found = next(c for n, c in vars(module).items() if n.endswith("RotaryEmbedding") and "Vision" not in n)
        self.rotary = found(config)
        self.inv_freq = self.rotary.inv_freq.numpy()

    def values(self, position, dtype):
        """cos and sin of all pairs at one position, in the order of `ours`."""
        torch = self.torch
        found = self.rotary(torch.zeros(1, dtype=getattr(torch, dtype)), torch.tensor([[position]]))
        cosine, sine = found if isinstance(found, tuple) else (found.real, found.imag)  # DeepSeek-V2: complex numbers
        half = len(self.inv_freq)
        return torch.stack([cosine[0, 0, :half].float(), sine[0, 0, :half].float()], -1).flatten().numpy()


def compare(values, torch):
    """One entry of the file."""
    spec = spec_of(values)
    table, amplitude, errors = ours(spec)
    entry = {"spec": spec, "amplitude": float(amplitude)}
    entry["inv_freq_bits"] = "".join(f"{bits:08x}" for bits in table.view(np.uint32))
    theirs = Theirs(values) if torch else None
    if theirs:
        units = theirs.inv_freq.view(np.int32).astype(int) - table.view(np.int32)
        entry["differs"] = {str(i): int(n) for i, n in enumerate(units) if n}
        entry["their_amplitude"] = float(theirs.rotary.attention_scaling)
    entry["errors"] = {}
    for position, row in errors.items():
        exact = row.pop("exact")
        if theirs:
            row |= {dtype: largest(exact, theirs.values(position, dtype)) for dtype in ("float32", "bfloat16")}
        entry["errors"][str(position)] = row
    return entry


def invented(pick, values):
    """A config with the rotary keys replaced by invented ones, in either dialect, some of them contradictory."""
    kind = pick.choice(["default", "linear", "llama3", "yarn", "yarn", "yarn", None])
    entry = {name: kind for name in pick.choice([["type"], ["rope_type"], ["type", "rope_type"]]) if kind}
    choices = {"factor": [1, 2.0, 8.0, 40, 2.5, None], "low_freq_factor": [1.0, 0.5], "high_freq_factor": [4.0, 8],
               "original_max_position_embeddings": [512, 1024, 4096], "beta_fast": [32, 1.0, 16, None],
               "beta_slow": [1, 2, None], "mscale": [1.0, 0.707, 0, None], "mscale_all_dim": [1.0, 0.707, 0],
               "truncate": [True, False], "attention_factor": [1.0, 1.2, None], "rope_theta": [10000, 5e5, 5e4],
               "partial_rotary_factor": [1.0]}
    likely = {"linear": "factor", "llama3": "factor low_freq_factor high_freq_factor original_max_position_embeddings",
              "yarn": "factor original_max_position_embeddings"}.get(kind, "").split()
    optional = {"beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "attention_factor"}
    optional = (optional if kind == "yarn" else set()) | {"rope_theta"}
    for name, found in choices.items():
        if pick.random() < (0.9 if name in likely else 0.3 if name in optional else 0.03):
            entry[name] = pick.choice(found)
    result = {key: value for key, value in values.items() if key not in ("rope_scaling", "rope_parameters")}
    result[pick.choice(["rope_scaling", "rope_parameters"])] = entry or {"rope_type": "default"}
    if pick.random() < 0.4:
        result.pop("rope_theta", None)
    if pick.random() < 0.05:
        result["original_max_position_embeddings"] = pick.choice([1024, 2048])
    return result


def random_settings(tables, count):
    """How often both read invented settings alike; every difference is printed. 1 if there is one."""
    import collections
    import random

    from refmoe.errors import ConfigError
    pick, seen, failed = random.Random(1), collections.Counter(), False
    for _ in range(count):
        values = invented(pick, {k: v for k, v in pick.choice(tables)["config"].items() if k in KEYS})
        try:
            mine = rope_tables.from_spec(spec_of(values))
        except ConfigError:
            mine = None
        try:
            theirs = Theirs(values)
        except Exception as problem:  # whatever transformers raises
            seen[f"{'we run it' if mine else 'both refuse'}, transformers raises {type(problem).__name__}"] += 1
            continue
        if mine is None:
            seen["we refuse it, transformers runs it"] += 1
            continue
        apart = np.abs(theirs.inv_freq / mine[0] - 1).max()
        same = apart < 1e-5 and abs(theirs.rotary.attention_scaling - mine[1]) < 2e-7
        seen["same" if same else "different"] += 1
        if not same:
            failed = True
            print(f"different by {apart:.1e}, amplitudes {theirs.rotary.attention_scaling}, {mine[1]}: {values}")
    print("\n".join(f"{number:>6} {words}" for words, number in seen.most_common()))
    return int(failed)


def show(name, entry):
    """A few lines for people."""
    spec = entry["spec"]
    print(f"{name}: {spec['kind']}, base {spec['base']:g}, {spec['head_dim']} wide, amplitude {entry['amplitude']:.7g}")
    if "differs" in entry:
        differs = entry["differs"]
        most = max(map(abs, differs.values()), default=0)
        print(f"  inv_freq: {len(differs)} of {spec['head_dim'] // 2} entries differ, by at most {most} units")
    for position, row in entry["errors"].items():
        print(f"  {position:>8}  " + "  ".join(f"{key} {value:.2e}" for key, value in row.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--random", type=int, metavar="N")
    args = parser.parse_args()
    try:
        import torch
        import transformers
        versions = {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__}
    except ImportError:
        versions = {}
    facts = json.loads(FACTS.read_text("utf-8"))
    tables = facts["tables"]
    if args.random:
        return random_settings(tables, args.random)
    if args.configs:
        tables = [{"name": path.stem, "config": json.loads(path.read_text("utf-8"))} for path in args.configs]
    for one in tables:
        with decimal.localcontext(CONTEXT):
            one |= compare({key: one["config"][key] for key in KEYS if key in one["config"]}, bool(versions))
        show(one["name"], one)
    if args.write and versions and not args.configs:
        lines = ",\n  ".join(json.dumps(one) for one in tables)
        head = json.dumps({"about": facts["about"], "versions": versions}, indent=1)[:-2]
        FACTS.write_text(f'{head},\n "tables": [\n  {lines}\n ]\n}}\n', "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
