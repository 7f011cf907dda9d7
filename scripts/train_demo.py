"""Train the embedded demo model (developer-only; needs torch, tokenizers, safetensors).

The demo model is a small mixture-of-experts model in the published Qwen3-MoE layout, trained from scratch.
Every step is a subcommand; WORK is a scratch folder outside the package, DATA the folder with the corpora:

    python scripts/train_demo.py --work WORK tokenizer   # train the byte-level BPE on the training stories
    python scripts/train_demo.py --work WORK sample      # sample extra stories from the 260K model
    python scripts/train_demo.py --work WORK train       # train; resumable, checkpoints in WORK
    python scripts/train_demo.py --work WORK export      # round to bfloat16, write refmoe/demo
    python scripts/train_demo.py --work WORK evaluate    # bits per byte and expert load of refmoe/demo

Splits: the TinyStories validation file is cut at story boundaries; its last 150 KB are the validation set (only
`evaluate` reads it), the 50 KB before it are the development set (used for choices during training), and the
rest is training text together with the TinyStories training file.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "refmoe" / "demo"
END = "<|endoftext|>"
END_ID = 0
VAL_BYTES, DEV_BYTES = 150_000, 50_000
SPLIT = (  # the published Qwen2/Qwen3 split pattern
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": END_ID,
    "decoder_sparse_step": 1,
    "eos_token_id": END_ID,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 384,
    "max_position_embeddings": 512,
    "max_window_layers": 6,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 1024,
}

# ----------------------------------------------------------------------------------------------------------------
# Data

OPENER = re.compile(
    r"(?:Once upon a time|Once,? there |There once |There was once |Long ago|A long time ago"
    r"|One (?:day|morning|night|sunny day),? (?:a|an|two|three|there) )"
)
NAME_OPENER = re.compile(
    r"([A-Z][a-z]+)(?: and [A-Z][a-z]+)? (?:was|were|is|are|likes?|liked|loved?) "
    r"(?:a|to|in|playing|friends|twins) "
)
GIRLS = "Lily Anna Sara Mia Molly Lucy Lila Sue Sarah Jane Daisy Jill Sally Amy Mary Jen Emma Jenny Ella Emily Sophie"
BOYS = "Ben Tom Timmy Jack Sam Tim Max John Bob Joe Tommy Jimmy Benny Billy Andy Frank Leo James Jake Jim Peter"


def read_text(path: Path) -> str:
    """Read a corpus file; repair the doubly encoded quotes and dashes that TinyStories contains."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    for bad, good in (("â€œ", '"'), ("â€™", "'"), ("â€˜", "'"), ("â€“", "-"), ("â€”", "-"), ("â€Š", " ")):
        text = text.replace(bad, good)
    text = re.sub("â€[\x80-\xa0]?", '"', text)
    return text.translate(str.maketrans("“”‘’", "\"\"''"))


def split_stories(text: str) -> list[str]:
    """Cut text with blank lines both between stories and between paragraphs, by the first words of a paragraph."""
    stories: list[str] = []
    for par in re.split(r"\n\n+", text.strip()):
        name = NAME_OPENER.match(par)
        new_name = name and stories and not re.search(rf"\b{name[1]}\b", stories[-1])
        if stories and not (len(stories[-1]) >= 250 and (OPENER.match(par) or new_name)):
            stories[-1] += "\n\n" + par
        else:
            stories.append(par)
    return stories


def load_stories(data: Path) -> dict[str, list[str]]:
    """The real stories, as lists of texts: train, dev, val."""
    folder = data / "corpus-tinystories"
    train, story = [], ""
    # train_head: mostly one line break between stories and a blank line between paragraphs.
    for piece in re.split(r"(?<!\n)\n(?!\n)", read_text(folder / "train_head.txt.gz")):
        story = f"{story}\n{piece}" if story else piece
        if len(story) >= 150:
            train += split_stories(story) if len(story) > 2000 else [story]
            story = ""
    other = split_stories(read_text(folder / "valid_head.txt.gz"))
    held: dict[str, list[str]] = {"val": [], "dev": []}
    for name, size in (("val", VAL_BYTES), ("dev", DEV_BYTES)):
        while sum(len(s.encode()) for s in held[name]) < size:
            held[name].insert(0, other.pop())
    seen = set(held["val"]) | set(held["dev"])
    return {"train": [s.strip() for s in train + other if s not in seen], **held}


def swap_names(story: str, rng: np.random.Generator) -> str:
    """Rename the children of a story: each known name becomes another one of the same list, all different."""
    table = {}
    for names in (GIRLS.split(), BOYS.split()):
        table.update(zip(names, rng.permutation(names).tolist(), strict=True))
    return re.sub(r"\b[A-Z][a-z]+\b", lambda m: table.get(m[0], m[0]), story)


def read_sampled(path: Path) -> list[str]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Stream:
    """Random windows of a list of stories, each story preceded by the end token.

    Half of the windows begin at the beginning of a story (with or without the end token), half anywhere.
    With `augment`, the stories are shuffled, half of them renamed, and encoded anew (half of them with BPE
    dropout) after each pass over as many tokens as they hold.
    """

    def __init__(self, tok: Tokenizer, stories: list[str], rng: np.random.Generator, augment: bool, dropout: float):
        self.tok, self.stories, self.rng, self.augment, self.dropout = tok, stories, rng, augment, dropout
        self.passes = 0
        self.refresh()

    def refresh(self) -> None:
        stories = [self.stories[i] for i in self.rng.permutation(len(self.stories))]
        half = len(stories) // 2 if self.augment else 0
        stories = [swap_names(s, self.rng) for s in stories[:half]] + stories[half:]
        self.tok.model.dropout = self.dropout if self.augment and self.dropout else None
        rows = [e.ids for e in self.tok.encode_batch(stories[half // 2 : half + half // 2])] if half else []
        self.tok.model.dropout = None
        rest = stories[: half // 2] + stories[half + half // 2 :]
        rows += [e.ids for e in self.tok.encode_batch(rest)]
        rows = [rows[i] for i in self.rng.permutation(len(rows))]
        self.flat = np.concatenate([np.array([END_ID, *r], dtype=np.int64) for r in rows])
        self.starts = np.flatnonzero(self.flat == END_ID)
        self.left = len(self.flat)

    def windows(self, count: int, length: int) -> np.ndarray:
        if self.left <= 0:
            self.passes += 1
            self.left = len(self.flat)
            if self.augment:
                self.refresh()
        self.left -= count * length
        at = self.rng.integers(len(self.flat), size=count)
        story = self.starts[self.rng.integers(len(self.starts), size=count)] + self.rng.integers(2, size=count)
        at = np.where(self.rng.random(count) < 0.5, story, at)
        return self.flat[np.minimum(at, len(self.flat) - length - 1)[:, None] + np.arange(length + 1)]


def command_tokenizer(args: argparse.Namespace) -> None:
    """Train the byte-level BPE (published Qwen form, without a normaliser) and write it to WORK/tokenizer.json."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    stories = load_stories(args.data)
    tok.train_from_iterator(stories["train"], trainer)
    tok.save(str(args.work / "tokenizer.json"))
    sizes = {
        k: (len(v), sum(len(s.encode()) for s in v), sum(len(e.ids) for e in tok.encode_batch(v)))
        for k, v in stories.items()
    }
    print("stories, bytes, tokens:", sizes)


# ----------------------------------------------------------------------------------------------------------------
# The 260K model (Llama layout), for sampling extra text and as a yardstick


class Llama:
    """A dense Llama forward over a float32 checkpoint in the Hugging Face layout, with an optional KV cache."""

    def __init__(self, folder: Path):
        self.c = json.loads((folder / "config.json").read_text())
        self.w = load_file(folder / "model.safetensors")
        self.tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.cos, self.sin = rope_table(self.c["head_dim"], 1024, self.c["rope_theta"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.w[name], self.c["rms_norm_eps"])

    def forward(self, ids: torch.Tensor, cache: list | None = None, pos: int = 0) -> torch.Tensor:
        """ids [B, T] -> logits [B, T, V]; with a cache, T new tokens at positions pos .. pos+T-1."""
        c, w = self.c, self.w
        b, t = ids.shape
        hq, hk, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        x = w["model.embed_tokens.weight"][ids]
        cos, sin = self.cos[pos : pos + t], self.sin[pos : pos + t]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm.weight")
            q, k, v = (F.linear(h, w[f"{p}self_attn.{n}_proj.weight"]).view(b, t, -1, d).transpose(1, 2) for n in "qkv")
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            if cache is None:
                o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            else:
                kc, vc = cache[i]
                kc[:, pos : pos + t] = k.reshape(b * hk, t, d)
                vc[:, pos : pos + t] = v.reshape(b * hk, t, d)
                s = torch.bmm(q.reshape(b * hk, hq // hk, d), kc[:, : pos + t].transpose(1, 2)) * d**-0.5
                o = torch.bmm(torch.softmax(s, -1), vc[:, : pos + t]).view(b, hq, t, d)
            x = x + F.linear(o.transpose(1, 2).reshape(b, t, hq * d), w[p + "self_attn.o_proj.weight"])
            h = self.norm(x, p + "post_attention_layernorm.weight")
            h = F.silu(F.linear(h, w[p + "mlp.gate_proj.weight"])) * F.linear(h, w[p + "mlp.up_proj.weight"])
            x = x + F.linear(h, w[p + "mlp.down_proj.weight"])
        return F.linear(self.norm(x, "model.norm.weight"), w["model.embed_tokens.weight"])

    def sample(self, starts: list[list[int]], temps: torch.Tensor, length: int, gen: torch.Generator) -> np.ndarray:
        """Continue each start (token ids, forced) to `length` tokens; returns ids [B, length]."""
        c, b = self.c, len(starts)
        shape = (b * c["num_key_value_heads"], length, c["head_dim"])
        cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(c["num_hidden_layers"])]
        ids = torch.zeros(b, length, dtype=torch.long)
        forced = torch.zeros(b, length, dtype=torch.bool)
        for r, s in enumerate(starts):
            ids[r, : len(s)] = torch.tensor(s)
            forced[r, : len(s)] = True
        for p in range(length - 1):
            logits = self.forward(ids[:, p : p + 1], cache, p)[:, 0] / temps[:, None]
            noise = torch.empty_like(logits).exponential_(generator=gen)
            new = (torch.softmax(logits, -1) / noise).argmax(-1)
            ids[:, p + 1] = torch.where(forced[:, p + 1], ids[:, p + 1], new)
        return ids.numpy()


def rope_table(dim: int, length: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    freq = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * torch.cat((freq, freq))
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def command_sample(args: argparse.Namespace) -> None:
    """Write WORK/sampled.jsonl: stories of the 260K model, half from nothing, half continuing a real beginning."""
    teacher = Llama(args.data / "stories260k")
    real = load_stories(args.data)["train"]
    gen = torch.Generator().manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    real_ids = [[1, *e.ids] for e in teacher.tok.encode_batch(real, add_special_tokens=False)]
    written, begin, batch = 0, time.time(), args.batch
    with (args.work / "sampled.jsonl").open("w", encoding="utf-8") as out, torch.inference_mode():
        while written < args.bytes and time.time() - begin < args.minutes * 60:
            starts = []
            for r in range(batch):
                ids = real_ids[rng.integers(len(real_ids))]
                starts.append(ids[: rng.integers(6, 64)] if r % 2 else [1])
            temps = torch.rand(batch, generator=gen) * (args.hot - args.cold) + args.cold
            for row in teacher.sample(starts, temps, 512, gen):
                cuts = np.flatnonzero(row == 1)
                for a, z in itertools.pairwise(cuts):  # the unfinished last story is dropped
                    story = teacher.tok.decode(row[a + 1 : z].tolist()).strip()
                    if len(story) >= 200 and story.isascii():
                        out.write(json.dumps(story) + "\n")
                        written += len(story)
            out.flush()
            print(f"{written / 1e6:.2f} MB after {time.time() - begin:.0f} s", flush=True)


# ----------------------------------------------------------------------------------------------------------------
# The demo model


class GroupedLinear(torch.autograd.Function):
    """y[a:b] = x[a:b] @ w[e].T for consecutive row groups; sizes [E] are the group sizes."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, w: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        y = x.new_empty(len(x), w.shape[1])
        for xs, ys, we in zip(x.split(sizes), y.split(sizes), w, strict=True):
            torch.mm(xs, we.T, out=ys)
        ctx.save_for_backward(x, w)
        ctx.sizes = sizes
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple:
        x, w = ctx.saved_tensors
        gx, gw, g = torch.empty_like(x), torch.empty_like(w), g.contiguous()
        groups = zip(x.split(ctx.sizes), g.split(ctx.sizes), gx.split(ctx.sizes), w, gw, strict=True)
        for xs, gs, gxs, we, gwe in groups:
            torch.mm(gs, we, out=gxs)
            torch.mm(gs.T, xs, out=gwe)
        return gx, gw, None


class NextTokenLoss(torch.autograd.Function):
    """Mean cross entropy of logits [N, V]; the gradient is computed in the forward pass (one exponential)."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        high = logits.amax(1, keepdim=True)
        picked = logits.gather(1, target[:, None]) - high
        grad = (logits - high).exp_()
        total = grad.sum(1, keepdim=True)
        grad.mul_(1 / (total * len(grad)))
        grad.scatter_add_(1, target[:, None], torch.full_like(picked, -1 / len(grad)))
        ctx.save_for_backward(grad)
        return (total.log() - picked).mean()

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple:
        return ctx.saved_tensors[0].mul_(g), None


class Spread(torch.autograd.Function):
    """Copy each token's row to its k places in expert order; `back` [N, k] holds those places."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, token: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token, back)
        return x.index_select(0, token)

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple:
        _, back = ctx.saved_tensors
        return sum(g.index_select(0, column) for column in back.unbind(1)), None, None


class Combine(torch.autograd.Function):
    """Add up the k rows of each token: the adjoint of Spread."""

    @staticmethod
    def forward(ctx, y: torch.Tensor, token: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token, back)
        return sum(y.index_select(0, column) for column in back.unbind(1))

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple:
        token, _ = ctx.saved_tensors
        return g.index_select(0, token), None, None


class Layer(torch.nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.c = c
        h, d, e, f = c["hidden_size"], c["head_dim"], c["num_experts"], c["moe_intermediate_size"]
        hq, hk = c["num_attention_heads"], c["num_key_value_heads"]
        out = 0.05 / math.sqrt(2 * c["num_hidden_layers"])

        def weight(*shape: int, std: float = 0.05) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape) * std)

        self.norm1 = torch.nn.Parameter(torch.ones(h))
        self.norm2 = torch.nn.Parameter(torch.ones(h))
        self.qnorm = torch.nn.Parameter(torch.ones(d))
        self.knorm = torch.nn.Parameter(torch.ones(d))
        self.q, self.k, self.v = weight(hq * d, h), weight(hk * d, h), weight(hk * d, h)
        self.o = weight(h, hq * d, std=out)
        self.router = weight(e, h, std=0.02)
        self.gate_up = weight(e, 2 * f, h)
        self.down = weight(e, h, f, std=out)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, drop: float) -> tuple:
        """x [B, T, H] -> x, balance loss, number of tokens per expert."""
        c, eps = self.c, self.c["rms_norm_eps"]
        b, t, n = x.shape
        hq, hk, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        h = F.rms_norm(x, (n,), self.norm1, eps)
        q, k, v = F.linear(h, torch.cat((self.q, self.k, self.v))).view(b, t, -1, d).split((hq, hk, hk), 2)
        q = rotate(F.rms_norm(q, (d,), self.qnorm, eps).transpose(1, 2), cos, sin)
        k = rotate(F.rms_norm(k, (d,), self.knorm, eps).transpose(1, 2), cos, sin)
        v = v.transpose(1, 2)
        k, v = k.repeat_interleave(hq // hk, 1), v.repeat_interleave(hq // hk, 1)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        o = F.linear(o.transpose(1, 2).reshape(b, t, hq * d), self.o)
        x = x + F.dropout(o, drop, self.training)
        h = F.rms_norm(x, (n,), self.norm2, eps).view(b * t, n)
        o, balance, sizes = self.experts(h)
        return x + F.dropout(o.view(b, t, n), drop, self.training), balance, sizes

    def experts(self, h: torch.Tensor) -> tuple:
        e, k = self.c["num_experts"], self.c["num_experts_per_tok"]
        prob = torch.softmax(F.linear(h, self.router), -1)
        top, index = prob.topk(k, -1)
        top = top / top.sum(-1, keepdim=True)
        order = index.view(-1).argsort(stable=True)  # places of (token, choice) pairs, expert by expert
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        token, back = order // k, back.view(-1, k)
        count = torch.bincount(index.view(-1), minlength=e)
        sizes = count.tolist()
        gate, up = GroupedLinear.apply(Spread.apply(h, token, back), self.gate_up, sizes).chunk(2, -1)
        y = GroupedLinear.apply(F.silu(gate) * up, self.down, sizes) * top.view(-1)[order][:, None]
        balance = e * (count / count.sum() * prob.mean(0)).sum()  # 1 when even
        return Combine.apply(y, token, back), balance, sizes


class Model(torch.nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.c = c
        self.embed = torch.nn.Parameter(torch.randn(c["vocab_size"], c["hidden_size"]) * c["initializer_range"])
        self.layers = torch.nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = torch.nn.Parameter(torch.ones(c["hidden_size"]))
        self.rope = rope_table(c["head_dim"], c["max_position_embeddings"], c["rope_theta"])

    def forward(self, ids: torch.Tensor, drop: float = 0.0) -> tuple:
        """ids [B, T] -> logits [B, T, V], mean balance loss, tokens per layer and expert."""
        cos, sin = (r[: ids.shape[1]] for r in self.rope)
        x = F.dropout(F.embedding(ids, self.embed), drop, self.training)
        balance, loads = 0.0, []
        for layer in self.layers:
            x, bal, sizes = layer(x, cos, sin, drop)
            balance = balance + bal / len(self.layers)
            loads.append(sizes)
        x = F.rms_norm(x, (x.shape[-1],), self.norm, self.c["rms_norm_eps"])
        return F.linear(x, self.embed), balance, loads


NAMES = {
    "norm1": "input_layernorm.weight",
    "norm2": "post_attention_layernorm.weight",
    "qnorm": "self_attn.q_norm.weight",
    "knorm": "self_attn.k_norm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "router": "mlp.gate.weight",
}


def to_published(model: Model) -> dict[str, torch.Tensor]:
    """The weights in bfloat16 under their published names."""
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        p = f"model.layers.{i}."
        out.update({p + published: getattr(layer, own) for own, published in NAMES.items()})
        for e, (gate_up, down) in enumerate(zip(layer.gate_up, layer.down, strict=True)):
            gate, up = gate_up.chunk(2)
            for name, w in (("gate", gate), ("up", up), ("down", down)):
                out[f"{p}mlp.experts.{e}.{name}_proj.weight"] = w
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in out.items()}


def from_published(c: dict, w: dict[str, torch.Tensor]) -> Model:
    model = Model(c)
    w = {k: v.float() for k, v in w.items()}
    with torch.no_grad():
        model.embed.copy_(w["model.embed_tokens.weight"])
        model.norm.copy_(w["model.norm.weight"])
        for i, layer in enumerate(model.layers):
            p = f"model.layers.{i}."
            for own, published in NAMES.items():
                getattr(layer, own).copy_(w[p + published])
            for e in range(c["num_experts"]):
                q = f"{p}mlp.experts.{e}."
                layer.gate_up[e].copy_(torch.cat((w[q + "gate_proj.weight"], w[q + "up_proj.weight"])))
                layer.down[e].copy_(w[q + "down_proj.weight"])
    return model.eval()


# ----------------------------------------------------------------------------------------------------------------
# Training


class Muon:
    """Momentum orthogonalised by a Newton-Schulz iteration, for weight matrices; equal shapes go in one batch."""

    def __init__(self, layers: list[Layer], momentum: float = 0.95, decay: float = 0.1):
        self.groups: dict[tuple, list[torch.Tensor]] = {}
        for layer in layers:
            for m in (layer.q, layer.k, layer.v, layer.o, layer.down, layer.gate_up):
                rows, columns = m.shape[-2:]
                rows //= 2 if m is layer.gate_up else 1  # its halves are separate matrices
                self.groups.setdefault((rows, columns), []).append(m)
        self.state = {k: torch.zeros(sum(m.numel() for m in v) // math.prod(k), *k) for k, v in self.groups.items()}
        self.momentum, self.decay = momentum, decay

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for shape, params in self.groups.items():  # views: [matrices, *shape]
            grad = torch.cat([p.grad.view(-1, *shape) for p in params])
            state = self.state[shape].lerp_(grad, 1 - self.momentum)
            x = grad.lerp_(state, self.momentum)
            x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)).to(torch.bfloat16)
            tall = shape[0] > shape[1]
            x = x.mT if tall else x
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
            x = (x.mT if tall else x).float()
            scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            at = 0
            for p in params:
                count = p.numel() // math.prod(shape)
                p.mul_(1 - lr * self.decay).sub_(x[at : at + count].view_as(p), alpha=scale)
                at += count


def bits(model, ids: list[int], window: int = 512, stride: int = 256) -> float:
    """-log2 p of ids[1:]; texts longer than the window are scored with at least window - stride tokens before."""
    total, done = 0.0, 1
    for end in range(min(window, len(ids)), len(ids) + stride, stride):
        end = min(end, len(ids))
        begin = max(0, end - window)
        logits = model(torch.tensor([ids[begin : end - 1]]))[0]
        logp = torch.log_softmax(logits.double(), -1)[done - 1 - begin :]
        total -= logp.gather(1, torch.tensor(ids[done:end])[:, None]).sum().item() / math.log(2)
        done = end
        if done == len(ids):
            break
    return total


@torch.inference_mode()
def bits_per_byte(model, encode, stories: list[str]) -> float:
    return sum(bits(model, encode(s)) for s in stories) / sum(len(s.encode()) for s in stories)


@torch.inference_mode()
def generate(model: Model, tok: Tokenizer, prompt: str, count: int, temp: float = 0.0, seed: int = 0) -> str:
    ids, gen = tok.encode(prompt).ids, torch.Generator().manual_seed(seed)
    for _ in range(count):
        logits = model(torch.tensor([ids[-512:]]))[0][0, -1]
        new = torch.multinomial(torch.softmax(logits / temp, -1), 1, generator=gen) if temp else logits.argmax()
        if new.item() == END_ID:
            break
        ids.append(new.item())
    return tok.decode(ids)


def command_train(args: argparse.Namespace) -> None:
    """Train; WORK/state.pt is the resumable state. The number in WORK/steps, if there, replaces --steps."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    tok = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    stories = load_stories(args.data)
    real = Stream(tok, stories["train"], rng, True, args.bpe_dropout)
    fake = Stream(tok, read_sampled(args.work / "sampled.jsonl"), rng, False, 0.0)
    model = Model(CONFIG)
    if args.init:
        model.load_state_dict(torch.load(args.init)["model"])
    muon = Muon(list(model.layers))
    others = [p for n, p in model.named_parameters() if "norm" in n or "embed" in n or "router" in n]
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    step, cpu = 0, 0.0
    if (args.work / "state.pt").exists():
        state = torch.load(args.work / "state.pt")
        model.load_state_dict(state["model"])
        muon.state = state["muon"]
        adam.load_state_dict(state["adam"])
        step, cpu, real.passes, fake.passes = state["step"], state["cpu"], *state["passes"]
        rng.bit_generator.advance(step * 1_000_003)
    (args.work / "train.pid").write_text(str(os.getpid()))
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters; tokens real {len(real.flat)}, sampled {len(fake.flat)}", flush=True)
    begin, saved, first, losses = time.process_time() - cpu, time.time(), step if args.rewarm else 0, []
    total = args.steps
    while True:
        if (args.work / "steps").exists():
            total = int((args.work / "steps").read_text())
        if step >= total:
            break
        left = (total - step) / (args.decay * total)  # < 1 in the decay phase
        if args.clock:
            begin_decay, end = args.clock
            left = (end - time.time()) / (end - begin_decay)
            if left <= 0:
                total = step + 1
        rate = min(1.0, max(left, 0.0), (step + 1 - first) / 50)
        length = 256 if left > 1 else 512
        rows = args.tokens // length
        share = args.real if left > 1 else args.real_decay
        real_rows = int(rows * share + rng.random())
        if left < 1:
            real.dropout = 0.0
        parts = [s.windows(n, length) for s, n in ((real, real_rows), (fake, rows - real_rows)) if n]
        ids = torch.from_numpy(np.concatenate(parts))
        model.train()
        logits, balance, loads = model(ids[:, :-1], args.dropout)
        loss = NextTokenLoss.apply(logits.flatten(0, 1), ids[:, 1:].flatten())
        (loss + CONFIG["router_aux_loss_coef"] * balance).backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(args.lr * rate)
        for group in adam.param_groups:
            group["lr"] = args.adam_lr * rate
        adam.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
        step += 1
        if step % 25 == 0 or step <= 3:
            share = np.array(loads) / np.sum(loads, 1, keepdims=True)
            print(
                f"step {step} loss {np.mean(losses[-25:]):.4f} balance {balance.item():.3f} load {share.min():.3f}.."
                f"{share.max():.3f} rate {rate:.3f} cpu {time.process_time() - begin:.0f} s",
                flush=True,
            )
        if step % args.every == 0 or step == total:
            model.eval()
            dev = bits_per_byte(lambda x: model(x)[0], lambda s: [END_ID, *tok.encode(s).ids], stories["dev"])
            print(f"== step {step} dev bits per byte {dev:.4f} passes {real.passes} {fake.passes}")
            print(generate(model, tok, "Once upon a time", 64), flush=True)
        if time.time() - saved > 180 or step == total:
            saved = time.time()
            state = {"model": model.state_dict(), "muon": muon.state, "adam": adam.state_dict(), "step": step}
            state |= {"cpu": time.process_time() - begin, "passes": (real.passes, fake.passes)}
            torch.save(state, args.work / "state.tmp")
            os.replace(args.work / "state.tmp", args.work / "state.pt")


# ----------------------------------------------------------------------------------------------------------------
# Export and evaluation


def command_export(args: argparse.Namespace) -> None:
    """Round the weights of WORK/state.pt to bfloat16 and write the published files."""
    model = Model(CONFIG)
    model.load_state_dict(torch.load(args.work / "state.pt")["model"])
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(to_published(model), args.out / "model.safetensors", {"format": "pt"})
    (args.out / "tokenizer.json").write_bytes((args.work / "tokenizer.json").read_bytes())
    generation = {"bos_token_id": END_ID, "eos_token_id": END_ID, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    tokenizer = {
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": END,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    for name, content in (("config", CONFIG), ("generation_config", generation), ("tokenizer_config", tokenizer)):
        (args.out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    for path in sorted(args.out.iterdir()):
        path.chmod(0o644)
        print(f"{path.stat().st_size:>9} {path.name}")


def unigram(train: np.ndarray, held: np.ndarray, size: int) -> float:
    """Bits of `held` under the symbol frequencies of `train`, each count plus one."""
    count = np.bincount(train, minlength=size) + 1.0
    return float(-np.log2(count / count.sum())[held].sum())


@torch.inference_mode()
def command_evaluate(args: argparse.Namespace) -> None:
    """Print the numbers of the model card.

    Protocol: each held-out story is scored on its own, after the model's start token (<|endoftext|> here, <s> for the
    260K model); the end token is not scored. Windows of 512 tokens, stride 256: a longer story is scored with at
    least 256 tokens of context. Bits of all stories divided by their UTF-8 bytes; sums in float64.
    """
    config = json.loads((args.out / "config.json").read_text())
    weights = load_file(args.out / "model.safetensors")
    model = from_published(config, weights)
    tok = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    stories = load_stories(args.data)
    sizes = {k: sum(len(s.encode()) for s in v) for k, v in stories.items()}
    total = sum(w.numel() for w in weights.values())
    experts = sum(w.numel() for k, w in weights.items() if ".experts." in k)
    active = total - experts + experts * config["num_experts_per_tok"] // config["num_experts"]
    print(f"parameters: {total} in all, {active} per token (embedding table included in both)")
    llama = Llama(args.data / "stories260k")

    def encode(story: str) -> list[int]:
        return [END_ID, *tok.encode(story).ids]

    def encode_llama(story: str) -> list[int]:
        return [1, *llama.tok.encode(story, add_special_tokens=False).ids]

    for name in ("dev", "val"):
        held, size = stories[name], sizes[name]
        loads = np.zeros((config["num_hidden_layers"], config["num_experts"]))

        def demo(ids: torch.Tensor, loads: np.ndarray = loads) -> torch.Tensor:
            logits, _, load = model(ids)
            loads += np.array(load)
            return logits

        train_bytes, held_bytes = (np.frombuffer("".join(s).encode(), dtype=np.uint8) for s in (stories["train"], held))
        train_ids, held_ids = (np.concatenate([encode(s)[1:] for s in x]) for x in (stories["train"], held))
        print(f"{name}: {len(held)} stories, {size} bytes, {len(held_ids)} tokens; bits per byte:")
        print(f"  unigram over bytes       {unigram(train_bytes, held_bytes, 256) / size:.4f}")
        print(f"  unigram over demo tokens {unigram(train_ids, held_ids, config['vocab_size']) / size:.4f}")
        print(f"  260K model               {bits_per_byte(llama.forward, encode_llama, held):.4f}")
        print(f"  demo model, bfloat16     {bits_per_byte(demo, encode, held):.4f}")
    print("expert load on the validation text, percent of the layer's token-expert pairs:")
    for i, load in enumerate(loads / loads.sum(1, keepdims=True)):
        print(f"  layer {i}: " + " ".join(f"{100 * x:5.1f}" for x in load))
    for prompt in ("Once upon a time", "One day, a little girl named Lily", "Tom had a red ball."):
        for temp in (0.0, 0.7):
            print(f"--- temperature {temp}\n{generate(model, tok, prompt, args.tokens, temp)}")
    if args.transformers:
        compare_with_transformers(args.out, model, tok, stories["val"])


def compare_with_transformers(folder: Path, model: Model, tok: Tokenizer, stories: list[str]) -> None:
    from transformers import AutoTokenizer, Qwen3MoeForCausalLM

    theirs = Qwen3MoeForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    auto, worst, same = AutoTokenizer.from_pretrained(folder), 0.0, True
    for story in stories[:20]:
        ids = tok.encode(story).ids[:512]
        same &= auto(story)["input_ids"][:512] == ids
        x = torch.tensor([ids])
        worst = max(worst, (theirs(x).logits - model(x)[0]).abs().max().item())
    print(f"transformers: largest difference of logits {worst:.2e}; same token ids: {same}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the corpora")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    sub = parser.add_subparsers(required=True)
    p = sub.add_parser("sample", help="sample extra stories from the 260K model")
    p.add_argument("--bytes", type=int, default=24_000_000)
    p.add_argument("--minutes", type=float, default=20.0)
    p.add_argument("--batch", type=int, default=512)
    p.add_argument("--cold", type=float, default=0.5, help="lowest temperature")
    p.add_argument("--hot", type=float, default=1.0, help="highest temperature")
    p.set_defaults(run=command_sample)
    p = sub.add_parser("tokenizer", help="train the tokenizer")
    p.set_defaults(run=command_tokenizer)
    p = sub.add_parser("train", help="train the model")
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--tokens", type=int, default=4096, help="tokens per step")
    p.add_argument("--lr", type=float, default=0.015, help="Muon")
    p.add_argument("--adam-lr", type=float, default=0.004)
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--bpe-dropout", type=float, default=0.1)
    p.add_argument("--decay", type=float, default=0.35, help="last part of the steps, with falling rate")
    p.add_argument("--real", type=float, default=0.3, help="share of real text before the decay")
    p.add_argument("--real-decay", type=float, default=0.7, help="share of real text in the decay")
    p.add_argument("--every", type=int, default=250, help="steps between checks on the development set")
    p.add_argument("--rewarm", action="store_true", help="ramp the rate up again on resuming")
    p.add_argument(
        "--clock", type=float, nargs=2, metavar="SECONDS", help="decay between these Unix times, whatever --steps says"
    )
    p.add_argument("--init", type=Path, help="start from the weights of this state.pt")
    p.set_defaults(run=command_train)
    p = sub.add_parser("export", help="write the published files in bfloat16")
    p.add_argument("--out", type=Path, default=DEMO)
    p.set_defaults(run=command_export)
    p = sub.add_parser("evaluate", help="print the numbers of the model card")
    p.add_argument("--out", type=Path, default=DEMO)
    p.add_argument("--tokens", type=int, default=80, help="length of the printed continuations")
    p.add_argument("--transformers", action="store_true", help="also compare logits with transformers")
    p.set_defaults(run=command_evaluate)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
