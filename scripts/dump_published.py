"""Write tests/published_tiny/*.json: outputs of tiny models as a publisher would print them (torch, transformers).

    python scripts/dump_published.py NAME ...

For each model of golden/tiny: transformers with eager attention and experts, once in float32, bfloat16 and float16.
Logits of three positions (all columns printed to four digits), means over the vocabulary, and 16 greedy ids. The schema
is that of golden/published, so that tests can run `refmoe verify checkpoint` on something that somebody else computed.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from dump_oracle import ROOT, load

TARGET = Path(__file__).resolve().parents[1] / "tests" / "published_tiny"
IGNORED = ("architectures", "torch_dtype", "dtype", "bos_token_id", "eos_token_id", "pad_token_id",
           "transformers_version")  # fmt: skip


def forward(model, ids):
    """Logits [T, V] of one pass without a cache."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def golden(folder, name, prompt):
    """The goldens of one arithmetic."""
    model = load(folder, getattr(torch, name))
    logits = forward(model, prompt).double()
    ids = list(prompt)
    for _ in range(16):
        ids.append(int(forward(model, ids)[-1].argmax()))
    digits = [[float(f"{value:.4f}") for value in row[:12]] for row in logits[[0, 7, -1]].tolist()]
    common = {"arithmetic": name, "device": "CPU",
              "source": {"repository": "huggingface/transformers", "version": transformers.__version__,
                         "path": "scripts/dump_published.py"}}  # fmt: skip
    checks = [
        {"of": "mean", "positions": list(range(len(prompt))),
         "sets": {"": [float(f"{value:.4f}") for value in logits.mean(-1).tolist()]}, "atol": 1e-3, "rtol": 1e-3},
        {"of": "logits", "positions": [0, 7, len(prompt) - 1], "columns": [0, 12], "sets": {"": digits}, "atol": 1e-4,
         "rtol": 1e-4},
    ]  # fmt: skip
    return [{"id": f"logits-{name}", "kind": "logits", "ids": prompt, "checks": checks} | common,
            {"id": f"greedy-{name}", "kind": "greedy", "prompt_ids": prompt, "ids": ids[len(prompt):]} | common]


def main():
    """One file for each name."""
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        folder = ROOT / name
        prompt = json.loads((folder / "ids.json").read_text("utf-8"))["prompt"]
        config = json.loads((folder / "config.json").read_text("utf-8"))
        goldens = [one for kind in ("float32", "bfloat16", "float16") for one in golden(folder, kind, prompt)]
        entry = {"schema": 1, "checkpoint": f"tiny/{name}",
                 "config": {key: value for key, value in config.items() if key not in IGNORED}}  # fmt: skip
        lines = ",\n  ".join(json.dumps(one) for one in goldens)
        TARGET.mkdir(exist_ok=True)
        text = json.dumps(entry)[:-1] + f',\n "goldens": [\n  {lines}\n ]}}\n'
        (TARGET / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
