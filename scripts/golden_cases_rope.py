"""Vectors of the rotary ops with the tables of published models and positions at the end of long contexts."""

from golden_cases import _rope, vector

from refmoe.numerics import rope_tables

KIMI_K2 = {"kind": "yarn", "head_dim": 64, "base": 50000.0, "factor": 32.0, "original_max_position_embeddings": 4096,
           "beta_fast": 1.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
GPT_OSS = {"kind": "yarn", "head_dim": 64, "base": 150000.0, "factor": 32.0, "original_max_position_embeddings": 4096,
           "truncate": False}
CODER = {"kind": "yarn", "head_dim": 128, "base": 1e7, "factor": 4.0, "original_max_position_embeddings": 262144}


@vector("Kimi-K2's table, whose ramp is a step (beta_fast = beta_slow = 1), with a ramp from 32 turns to 1 instead; "
        "amplitude applied although mscale and mscale_all_dim cancel; no scaling; scaling inverted", "A03 A07 A08")
def rope__yarn_hard_step(g):
    _rope(g, 1, 64, [1, 4095, 131071], *rope_tables.from_spec(KIMI_K2))


@vector("gpt-oss's table, whose ramp has no whole-numbered ends (truncate false), with floor and ceiling instead; "
        "amplitude forgotten; base left at 10000", "A07")
def rope__yarn_without_truncation(g):
    _rope(g, 1, 64, [1, 4095, 131071], *rope_tables.from_spec(GPT_OSS))


@vector("the last positions of Qwen3-Coder, 262,144 as published and 1,048,576 with YaRN: angles in binary64, "
        "positions in 16 bits, weak range reduction; base left at 10000", "A07")
def rope__last_positions_of_a_million(g):
    _rope(g, 1, 128, [262143, 1048575], *rope_tables.from_spec(CODER))
