"""What a checkpoint is without running it: counts, formats, tokenizer, digest, and weights that are nan or inf."""

from pathlib import Path
from typing import Any

import numpy as np

from refmoe import text
from refmoe.checkpoint import Checkpoint, Claims, TensorInfo
from refmoe.errors import TokenizerError
from refmoe.program import Program

NOT_FINITE = {  # dtype -> (element, bits that are all ones in inf and nan, bits of which a nan has some)
    "F64": ("<u8", 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
    "F32": ("<u4", 0x7F800000, 0x007FFFFF),
    "BF16": ("<u2", 0x7F80, 0x007F),
    "F16": ("<u2", 0x7C00, 0x03FF),
    "F8_E5M2": ("<u1", 0x7C, 0x03),
    "F8_E4M3": ("<u1", 0x7F, 0x7F),
    "F8_E8M0": ("<u1", 0xFF, 0xFF),
}


def of_config(path: Path, built: Program,
              metadata: Any = None) -> tuple[dict[str, Any], list[str], text.Tokenizer | None]:  # fmt: skip
    """Facts that need no weights, what is wrong with the tokenizer, and the tokenizer."""
    counts = built.parameters()
    facts: dict[str, Any] = {
        "architecture": built.arch,
        "program_digest": built.digest(),
        "parameters": counts["total"],
        "active": counts["active"],
        "quantisation": None if built.quantization is None else built.quantization.method,
        "vocabulary_rows": int(built.dims["V"]),
        "tokenizer_ids": None,
    }
    try:
        tokenizer = text.load(path, int(built.dims["V"]), metadata) if path.is_dir() or metadata else None
    except TokenizerError as problem:
        return facts, [str(problem)], None
    facts["tokenizer_ids"] = tokenizer.size if tokenizer else None
    return facts, [], tokenizer


def of_headers(opened: Checkpoint, claims: Claims) -> dict[str, Any]:
    """What is stored, by the headers."""
    stored = {matrix.parts[next(iter(matrix.parts))].name: matrix.rows * matrix.cols
              for matrix in claims.matrices.values()}  # fmt: skip
    stored |= {info.name: int(np.prod(info.shape, dtype=np.int64)) for info in claims.vectors.values()}
    return {
        "checkpoint_digest": opened.digest(),
        "stored_parameters": sum(stored.values()),
        "tensors": len(opened.tensors),
        "ignored_tensors": len(claims.ignored),
        "formats": [name for name, size in claims.nbytes.items() if size and name not in ("vector", "ignored")],
    }


def scan(opened: Checkpoint) -> tuple[str, dict[str, tuple[int, int]]]:
    """The content digest, and how many nan and inf each tensor holds that has some."""
    bad: dict[str, tuple[int, int]] = {}

    def look(info: TensorInfo, piece: memoryview) -> None:
        if info.dtype in NOT_FINITE:
            element, mask, fraction = NOT_FINITE[info.dtype]
            codes = np.frombuffer(piece, element)
            special = codes[(codes & mask) == mask]
            if special.size:
                nans, infs = bad.get(info.name, (0, 0))
                count = int(np.count_nonzero(special & fraction))
                bad[info.name] = nans + count, infs + special.size - count

    digest = opened.content_digest(look=look)
    return digest, dict(sorted(bad.items()))
