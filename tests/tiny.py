"""The tiny models of golden/tiny: where they are, what they should give, and child processes with another setting."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

import refmoe

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "golden" / "tiny"
NAMES = sorted(path.name for path in TINY.iterdir() if path.is_dir())


@cache
def model(name: str, kv_dtype: str = "f32", threads: int | None = None):
    """A loaded tiny model."""
    return refmoe.load(TINY / name, kv_dtype=kv_dtype, threads=threads)


def facts(name: str) -> dict:
    """ids.json."""
    return json.loads((TINY / name / "ids.json").read_text("utf-8"))


@cache
def outside(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and the metadata of outside.safetensors."""
    from refmoe import checkpoint  # here: the layout test needs no Numba

    header = checkpoint.read_header(TINY / name / "outside.safetensors")
    infos = list(header.tensors.values())
    dtypes = {"F64": np.float64, "I64": np.int64}
    tensors = {
        info.name: raw.view(dtypes[info.dtype]).reshape(info.shape)
        for info, raw in zip(infos, checkpoint.read(infos), strict=True)
    }
    return tensors, {key: json.loads(text) for key, text in header.metadata.items()}


def python(code: str, *arguments: str, timeout: int = 600, **environment: str) -> str:
    """What a fresh interpreter prints, run with other environment variables; its stderr if it fails."""
    settings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, *arguments], env=settings, timeout=timeout,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
