"""The compile cache: where it goes, and that neither damage nor a lost directory changes a result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refmoe import jit

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import numpy as np
from refmoe import jit
jit.when_compiling(lambda: print("compiling"))
from refmoe.numerics.fma import fma
from refmoe.numerics.codecs import round_bf16
print(round_bf16(np.float32(1.00390625 * 3)), jit.CACHE_DIRECTORY)
"""


def run(folder, **settings):
    """Lines printed by a process that needs one small kernel."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    child = subprocess.run([sys.executable, "-c", CODE], env=environment, cwd=folder, capture_output=True, text=True,
                           timeout=120, check=True)  # fmt: skip
    return child.stdout.splitlines()


pytestmark = pytest.mark.skipif(not jit.ENABLED, reason="the JIT is off: nothing is compiled")


def test_first_run_compiles_second_does_not(tmp_path):
    first, second = (run(tmp_path, REFMOE_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
    assert first[0] == "compiling" and first[1:] == second
    assert Path(second[0].split()[1]).parent == tmp_path / "cache"


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"not a pickle"])
def test_damaged_files_are_compiled_again(tmp_path, suffix, damage):
    settings = {"REFMOE_CACHE_DIR": str(tmp_path / "cache")}
    right = run(tmp_path, **settings)
    files = list(tmp_path.rglob("*" + suffix))
    assert files
    for file in files:
        file.write_bytes(damage)
    assert run(tmp_path, **settings) == right
    assert run(tmp_path, **settings) == right[1:]


def test_empty_variables_count_as_unset(tmp_path):
    lines = run(tmp_path, REFMOE_CACHE_DIR="", XDG_CACHE_HOME="", HOME=str(tmp_path / "home"))
    assert Path(lines[-1].split()[1]).is_absolute()
    assert not list(tmp_path.glob("refmoe*")) and not list(tmp_path.glob(jit.source_digest()[:24]))


def test_a_folder_that_cannot_be_made_falls_back(tmp_path):
    (tmp_path / "file").write_text("in the way")
    lines = run(tmp_path, REFMOE_CACHE_DIR=str(tmp_path / "file"), XDG_CACHE_HOME=str(tmp_path / "other"))
    assert Path(lines[-1].split()[1]).parent == tmp_path / "other" / "refmoe"
