"""Prefill and decode speed of refmoe and of llama.cpp on the same GGUF files, in turns in one run (developer-only).

    python scripts/bench_llama.py DIR --types Q8_0,Q4_0,Q4_K_M          # in an environment with llama-cpp-python 0.3

DIR keeps the files: the model `qwen3_moe-2b` of refmoe.synthetic in bf16, 4 GB, and what llama.cpp's own quantiser
makes of it. Each engine runs in a process of its own that keeps its model loaded; only one of them works at a time.
Both see the same ids: prefill is one call of 512 tokens with the logits of the last, decode is greedy without sampling
behind a prompt of 16. Printed are medians over the rounds, the ratio of refmoe to llama.cpp in each round (median), and
what a decoded token reads of the file per second as a share of the read bandwidth measured between the rounds.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

TYPES = {"Q8_0": 7, "Q4_0": 2, "Q4_K_M": 15}  # numbers of llama.cpp's quantiser
PROMPT, LENGTH, TOKENS = 16, 512, 24
TENSORS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
           "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
           "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
           "gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tokenizer(count):
    """A byte-level tokenizer of `count` tokens: letters of bytes, then pairs of them."""
    import numpy as np

    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in shown] + [chr(256 + n) for n in range(256 - len(shown))]
    pairs = [(a, b) for a in letters for b in letters][: count - 257]
    tokens = letters + [a + b for a, b in pairs] + ["<|end|>"]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": np.array([1] * (count - 1) + [3], np.int32),
            "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
            "tokenizer.ggml.eos_token_id": count - 1}  # fmt: skip


def write(path):
    """The synthetic model in bf16 (norms and routers in f32) as a GGUF file."""
    import numpy as np

    from refmoe import program, synthetic
    from refmoe.checkpoint import gguf_write
    from refmoe.numerics.codecs import bf16_to_f32

    config = synthetic.CONFIGS["qwen3_moe-2b"]
    stacks = {}
    for entry in program.build(config).expected():
        name = entry.tensor.name.removesuffix(".weight")
        parts = name.split(".")
        layer = f"blk.{parts[2]}." if "layers" in parts else ""
        stem = OUTSIDE.get(name) or TENSORS.get(".".join(parts[-2:])) or TENSORS[parts[-1]]
        stacks.setdefault(f"{layer}{stem}.weight", []).append((f"{name}.weight", entry.shape))

    def data(parts, kind):
        found = np.stack([synthetic._bytes(name, shape) for name, shape in parts])
        return found if kind == "BF16" else bf16_to_f32(found.ravel())

    tensors = {}
    for name, parts in stacks.items():
        shape, kind = parts[0][1], "F32" if "norm" in name or "gate_inp" in name else "BF16"
        shape = (len(parts), *shape) if "exps" in name else shape
        tensors[name] = (kind, shape, lambda parts=parts, kind=kind: data(parts, kind))
    keys = {"block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
            "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
            "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
            "attention.key_length": "head_dim", "attention.value_length": "head_dim", "expert_count": "num_experts",
            "attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta",
            "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "moe_intermediate_size", "vocab_size": "vocab_size"}  # fmt: skip
    metadata = {"general.architecture": "qwen3moe", "general.name": "synthetic"}
    metadata |= {f"qwen3moe.{key}": config[word] for key, word in keys.items()}
    gguf_write.write(path, metadata | tokenizer(config["vocab_size"]), tensors)


def quantise(source, target, number):
    """By llama.cpp."""
    import llama_cpp.llama_cpp as api

    settings = api.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = number, 2
    if api.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise SystemExit(f"{target}: llama.cpp does not write it")


def llama_calls(path, threads):
    """prefill(ids), decode(ids) of llama.cpp."""
    import llama_cpp.llama_cpp as api

    silent = api.llama_log_callback(lambda *_: None)
    api.llama_log_set(silent, None)
    api.llama_backend_init()
    model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 2 * LENGTH, LENGTH, LENGTH
    settings.n_threads = settings.n_threads_batch = threads
    context = api.llama_init_from_model(model, settings)
    batch = api.llama_batch_init(LENGTH, 0, 1)

    def run(ids, first):
        batch.n_tokens = len(ids)
        for n, token in enumerate(ids):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0] = token, first + n, 1, 0
            batch.logits[n] = n == len(ids) - 1
        if api.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        return api.llama_get_logits_ith(context, len(ids) - 1)[0]

    def begin(ids):
        api.llama_memory_clear(api.llama_get_memory(context), True)
        run(ids, 0)

    return begin, lambda token, position: run([token], position), silent


def refmoe_calls(path, threads, activations):
    """The same of refmoe, and a measurement of the read bandwidth."""
    import refmoe
    from refmoe import bench

    model = refmoe.load(path, activations=activations, threads=threads)
    state = {}

    def begin(ids):
        state["sequence"] = model.engine.sequence()
        model.engine.run([(state["sequence"], ids)])

    return begin, lambda token, _: model.engine.run([(state["sequence"], [token])]), bench.ReadBandwidth(threads)


def serve(engine, path, threads, clock):
    """The child process: a word per line on stdin, seconds or bytes per second on stdout."""
    begin, step, rest = (llama_calls(path, threads) if engine == "llama" else
                         refmoe_calls(path, threads, engine.removeprefix("refmoe-")))  # fmt: skip
    ids = [(n * 7919 + 13) % 30000 for n in range(LENGTH)]
    for line in sys.stdin:
        if line.strip() == "read":
            print(rest.measure(), flush=True)
            continue
        first = ids if line.strip() == "prefill" else ids[:PROMPT]
        start = clock()
        begin(first)
        if line.strip() == "decode":
            start = clock()
            for n in range(TOKENS):
                step(ids[PROMPT + n], PROMPT + n)
        print(clock() - start, flush=True)


def measure(path, engines, threads, rounds, cpu):
    """Medians over rounds in which all engines take turns."""
    from refmoe import info

    command = [sys.executable, __file__, str(path), "--threads", str(threads), *["--cpu"] * cpu, "--serve"]
    children = {engine: subprocess.Popen([*command, engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for engine in engines}  # fmt: skip

    def ask(engine, word):
        print(word, file=children[engine].stdin, flush=True)
        return float(children[engine].stdout.readline())

    reader = next(engine for engine in engines if engine.startswith("refmoe"))
    rates = {(engine, word): [] for word in ("decode", "prefill") for engine in engines}
    reads = []
    for count in range(rounds + 1):
        for engine, word in rates:
            seconds = ask(engine, word)
            time.sleep(0.05)  # threads of the engine that has worked go to sleep
            if count:  # the first round warms up
                rates[engine, word].append((TOKENS if word == "decode" else LENGTH) / seconds)
        reads.append(ask(reader, "read"))
    for child in children.values():
        child.stdin.close()
        child.wait()
    per_token = info.describe(str(path))["weights"]["bytes_per_token"]
    found = {"file": path.name, "bytes": path.stat().st_size, "bytes_per_token": per_token, "rounds": rounds,
             "read_bytes_per_second": median(reads)}  # fmt: skip
    for (engine, word), values in rates.items():
        found[f"{engine} {word}"] = round(median(values), 1)
        if word == "decode":
            found[f"{engine} share"] = round(median(values) * per_token / median(reads), 2)
        if engine != "llama" and "llama" in engines:
            ratios = [a / b for a, b in zip(values, rates["llama", word], strict=True)]
            found[f"{engine} {word} / llama"] = [round(f(ratios), 2) for f in (min, median, max)]
    return found


def main():
    """Make what is missing, measure each file, print one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--engines", default="llama,refmoe-int8,refmoe-f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="count CPU time: for --threads 1 on a busy machine")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        clock = time.process_time if options.cpu else time.perf_counter
        serve(options.serve, options.directory, options.threads, clock)
        return
    source = Path(options.directory, "BF16.gguf")
    for name in options.types.split(","):
        path = source.with_name(f"{name}.gguf")
        if not path.exists():
            source.exists() or write(source)
            quantise(source, path, TYPES[name])
        print(json.dumps(measure(path, options.engines.split(","), options.threads, options.rounds,
                                 options.cpu)), flush=True)


if __name__ == "__main__":
    main()
