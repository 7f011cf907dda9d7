"""Checkpoints: safetensors files, model directories, claims of a program on tensors, loading."""

from refmoe.checkpoint.claims import Claims, claim
from refmoe.checkpoint.directory import Checkpoint, hub_cache, locate
from refmoe.checkpoint.directory import open_checkpoint as open
from refmoe.checkpoint.load import load
from refmoe.checkpoint.reading import read
from refmoe.checkpoint.safetensors import Header, TensorInfo, read_header, write
from refmoe.checkpoint.strict_json import read_json

__all__ = ["Checkpoint", "Claims", "Header", "TensorInfo", "claim", "hub_cache", "load", "locate", "open", "read",
           "read_header", "read_json", "write"]  # fmt: skip
