"""The products of all formats have the same bits for every processor Numba can be told to compile for.

Compiling all of them takes minutes for each processor, so here every second format is compiled for the one without and
the others for the one with AVX2. `NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= python -m tests.products` does them all.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refmoe import formats
from tests import products, vectors

pytestmark = [vectors.needs_jit, pytest.mark.slow,
              pytest.mark.skipif(os.uname().machine != "x86_64", reason="the processor names are those of x86-64")]


@pytest.mark.parametrize(("processor", "names"), [("x86-64", formats.names()[::2]), ("haswell", formats.names()[1::2])],
                         ids=["x86-64", "haswell"])  # fmt: skip
def test_same_digest(processor, names):
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    root = Path(products.__file__).parent.parent
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run([sys.executable, "-m", "tests.products", *names], env=environment, cwd=root,
                          capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == products.digest(names)
