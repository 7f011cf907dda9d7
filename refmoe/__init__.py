"""refmoe - published mixture-of-experts checkpoints on a CPU, with results defined bit for bit by a written spec.

>>> import refmoe
>>> model = refmoe.load()                      # the embedded model; or a directory, or a hub id in the local cache
>>> logits = model.forward([1, 2, 3])          # float32 [T, V]
>>> text = "".join(step.text for step in model.generate(model.encode("Once upon a time"), max_tokens=64))
"""

from refmoe.errors import (
    CheckpointError,
    ConfigError,
    FormatError,
    ProgramError,
    RefmoeError,
    TokenizerError,
    TraceError,
    UsageError,
)

__version__ = "0.2.0"
NUMERICS_VERSION = 1  # a changed golden bit needs a new one

_LAZY = {"load": "refmoe.model", "Model": "refmoe.model", "Memory": "refmoe.generate", "compare": "refmoe.comparison"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'refmoe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = ["NUMERICS_VERSION", "CheckpointError", "ConfigError", "FormatError", "Memory", "Model", "ProgramError",
           "RefmoeError", "TokenizerError", "TraceError", "UsageError", "__version__", "compare", "load"]  # fmt: skip
