"""Stand-ins: tokenizer files of three kinds, a model whose logits are a table, and a tiny real checkpoint."""

import itertools
import json
from types import SimpleNamespace

import numpy as np

from refmoe import checkpoint, detokenize, program, text
from refmoe.model import Model
from refmoe.numerics import codecs, counter

SHARED = text.Path(__file__).parents[2] / "shared"  # published data beside the repository, where there is any


def special(token_id, content):
    """An added special token of tokenizer.json."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, "special": True} | flags


def bpe(vocab, **options):
    """The model part of tokenizer.json: BPE."""
    return {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": None, "byte_fallback": False} | options


def byte_level() -> dict:
    """Ids 0..255 are the bytes, 256 <s>, 257 <end>; no BOS is added."""
    alphabet = {character: byte for character, byte in detokenize.byte_alphabet().items()}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
        "added_tokens": [special(256, "<s>"), special(257, "<end>")],
        "post_processor": level, "decoder": level, "model": bpe(alphabet),
    }  # fmt: skip


def fallback() -> dict:
    """SentencePiece style: 0 <unk>, 1 <s> (added in front), 2 </s>, 3.. bytes, 259.. "▁", letters and "▁a"."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for piece in ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁a"]:
        vocab[piece] = len(vocab)
    template = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "pre_tokenizer": None,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template,
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": bpe(vocab, merges=["▁ a"], byte_fallback=True, unk_token="<unk>"),
    }  # fmt: skip


def words() -> dict:
    """Whole words, no decoder: the library joins tokens with spaces."""
    vocab = {word: i for i, word in enumerate(["<unk>", "once", "upon", "a", "time", "�"])}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [special(0, "<unk>")], "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }  # fmt: skip


def write_tokenizer(folder, content, **config):
    """Put tokenizer.json (and tokenizer_config.json, if there are settings for it) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


class FakeEngine:
    """Logits of a position are table[id at that position]; `batches` remembers what was run."""

    def __init__(self, table):
        self.table, self.batches = np.asarray(table, np.float32), []

    def sequence(self):
        return SimpleNamespace(length=0)

    def run(self, batch, every=False, record=None):
        self.batches.append([list(ids) for _, ids in batch])
        results = []
        for sequence, ids in batch:
            sequence.length += len(ids)
            rows = self.table[np.asarray(ids)]  # [T, V]
            results.append(rows if every else rows[-1:])
        return results


def chain(vocab, path):
    """A table whose greedy path is path[0] -> path[1] -> ...; other ids lead to 0."""
    table = np.zeros((vocab, vocab), np.float32)
    table[:, 0] = 1.0
    for here, there in itertools.pairwise(path):
        table[here, there] = 5.0
    return table


def model(table, tokenizer=None, bos=None, eos=(), context=1000):
    """A refmoe Model around a FakeEngine."""
    engine = FakeEngine(table)
    opened = SimpleNamespace(path=text.Path("fake"), metadata={})
    built = SimpleNamespace(dims={"V": engine.table.shape[1]}, context=context)
    return Model(opened, built, engine, tokenizer, (bos, tuple(eos)), 0.25)


TINY = {
    "model_type": "mixtral", "vocab_size": 290, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False,
    "hidden_act": "silu", "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def write_checkpoint(folder, **config):
    """A random Mixtral of some 20,000 parameters in f32, without a tokenizer."""
    return random_checkpoint(folder, TINY | config)


def random_checkpoint(folder, config, dtype="F32", scale=0.3):
    """Random weights for a config, stored as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for number, expected in enumerate(program.build(config, "config.json").expected()):
        name = expected.tensor.name + (".weight" if expected.tensor.kind == "matrix" else "")
        values = counter.fill_normal(number, 0, int(np.prod(expected.shape)), scale)
        values += np.float32(expected.tensor.kind == "vector")
        tensors[name] = (dtype, expected.shape, codecs.f32_to_bf16(values) if dtype == "BF16" else values)
    checkpoint.write(folder / "model.safetensors", tensors, {})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
