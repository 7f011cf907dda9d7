"""Prefill and decode speed of transformers on the same checkpoint, for the comparison in README (developer-only).

    refmoe bench --synthetic qwen3_moe-2b --dir DIR        # writes the model and measures refmoe
    python scripts/bench_torch.py DIR --dtype float32      # in an environment with torch and transformers

Prints one JSON object. Run both on a quiet machine, one after the other, several times; only ratios mean something.
"""

import argparse
import json
import time

import torch
import transformers


def main() -> None:
    """Best of `--repeats` prefills of 512 tokens; decode over 24 tokens at a context of 16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.directory, dtype=getattr(torch, options.dtype))
    model.eval()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (1, 512), generator=generator)
    with torch.inference_mode():
        prefill = []
        for _ in range(options.repeats + 1):
            begin = time.perf_counter()
            model(ids, logits_to_keep=1)
            prefill.append(time.perf_counter() - begin)
        cache = model(ids[:, :16], use_cache=True).past_key_values
        begin = time.perf_counter()
        for n in range(24):
            model(ids[:, 16 + n : 17 + n], past_key_values=cache, use_cache=True)
        decode = (time.perf_counter() - begin) / 24
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "dtype": options.dtype,
                      "threads": options.threads, "prefill_512_tokens_per_second": 512 / min(prefill[1:]),
                      "decode_tokens_per_second": 1 / decode}))


if __name__ == "__main__":
    main()
