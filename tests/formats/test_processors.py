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


EMULATED = ["q8_0", "q4_0", "q6_k", "iq4_nl", "mxfp4_packed"]  # signed, small, 16 columns, tables of bytes and f32


def digest_elsewhere(module, names, **settings):
    """What a program of tests prints in another process."""
    root = Path(products.__file__).parent.parent
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run([sys.executable, "-m", module, *names], env=os.environ | {"PYTHONPATH": paths} | settings,
                          cwd=root, capture_output=True, text=True, timeout=1800)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize(("processor", "names"), [("x86-64", formats.names()[::2]), ("haswell", formats.names()[1::2])],
                         ids=["x86-64", "haswell"])  # fmt: skip
def test_same_digest(processor, names):
    found = digest_elsewhere("tests.products", names, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="")
    assert found == products.digest(names)


def test_choices_for_avx512(tmp_path):
    """Also where the processor has none of it."""
    assert digest_elsewhere("tests.emulated", EMULATED, REFMOE_CACHE_DIR=str(tmp_path)) == products.digest(EMULATED)
