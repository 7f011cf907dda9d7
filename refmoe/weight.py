"""One stored matrix: the bytes of a checkpoint in some format, and the logical shape they stand for."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Weight:
    """A matrix W_eff f32[rows, cols] in its stored form.

    `format` names a module of refmoe.formats; `parts` maps each of that format's suffixes to the stored bytes,
    a 1-D C-contiguous uint8 array (64-byte aligned where the checkpoint reader allocated it); `params` are the numbers
    that the format reads from the quantization config (none for most), and under the name of a suffix the stored dtype
    where the format allows several.
    """

    format: str
    rows: int
    cols: int
    parts: dict[str, np.ndarray]
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Stored bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())
