"""What int8 activations cost: f32 against int8 activations of the same weights, on text that no model was trained on.

    python scripts/int8_cost.py [--windows 40] [--data ../shared/data]

Models: the embedded one, and stories260k of the data folder. Text: the end of the TinyStories validation split, cut
into windows of 256 tokens. Prints for each weight format mean KL(f32 || int8) in nats for each token, the share of
positions with the same most likely token, and the perplexity with either; in front the KL of the weights themselves,
KL(stored || quantised), both with f32 activations. Weights without integer codes (bf16, f32) are multiplied as they
are: their rows show that nothing changes.
"""

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np

import refmoe
from refmoe import quantize
from refmoe.quantize.targets import GGUF

FORMATS = ("as stored", "q8_0", "int8", "q4_0", "int4-g32")  # no model here has rows of 256 weights for q4_k
TOKENS, HELD_OUT = 256, 150_000  # bytes at the end of the text: the validation set of refmoe/demo/MODEL_CARD.md


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    file = options.data / "corpus-tinystories" / "valid_head.txt.gz"
    if not file.exists():
        parser.error(f"no {file}: a folder with the corpus is needed")
    text = gzip.decompress(file.read_bytes())[-HELD_OUT:].decode("utf-8", "ignore")
    for name, location in (("embedded", None), ("stories260k", options.data / "stories260k")):
        ids = refmoe.load(location).encode(text)
        windows = [ids[first : first + TOKENS] for first in range(0, len(ids) - TOKENS, TOKENS)][: options.windows]
        print(f"{name}: {len(windows)} windows of {TOKENS} tokens")
        print(f"{'weights':<12}{'KL of weights':>15}{'KL of int8':>13}{'same top 1':>12}{'perplexity':>12}{'int8':>10}")
        original = [_logarithms(refmoe.load(location), window) for window in windows]
        for format in FORMATS:
            print(f"{format:<12}{_row(location, format, windows, original)}", flush=True)


def _row(location: Path | None, format: str, windows: list[list[int]], original: list[np.ndarray]) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = location
        if format != "as stored":
            path = Path(folder) / ("m.gguf" if format in GGUF else "m")
            quantize.run(location, path, format)
        models = [refmoe.load(path, activations=activations) for activations in ("f32", "int8")]
        sums = np.zeros(5)
        for window, stored in zip(windows, original, strict=True):
            f32, int8 = (_logarithms(model, window) for model in models)
            rows, next_ids = np.arange(len(window) - 1), window[1:]
            sums += (_divergence(stored, f32), _divergence(f32, int8), (f32.argmax(1) == int8.argmax(1)).mean(),
                     -f32[rows, next_ids].mean(), -int8[rows, next_ids].mean())  # fmt: skip
    weights, activations, same, *losses = sums / len(windows)
    plain, coded = np.exp(losses)
    return f"{weights:>15.6f}{activations:>13.6f}{same:>12.4f}{plain:>12.4f}{coded:>10.4f}"


def _logarithms(model: refmoe.Model, ids: list[int]) -> np.ndarray:
    """Logarithms of the probabilities, f64[T,V]."""
    logits = model.forward(ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


if __name__ == "__main__":
    main()
