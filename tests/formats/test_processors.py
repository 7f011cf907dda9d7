"""The products of all formats have the same bits for every processor Numba can be told to compile for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import products, vectors

pytestmark = [vectors.needs_jit, pytest.mark.slow,
              pytest.mark.skipif(os.uname().machine != "x86_64", reason="the processor names are those of x86-64")]


@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_same_digest(processor):
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    root = Path(products.__file__).parent.parent
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run([sys.executable, "-m", "tests.products"], env=environment, cwd=root, capture_output=True,
                          text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == products.digest()
