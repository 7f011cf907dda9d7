#!/usr/bin/env bash
# Before every commit: lint, types, the fast tests, then the op tests with the JIT off. Needs pip install ".[test,dev]".
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check .
mypy
python scripts/write_spec.py --check
python scripts/make_golden.py check
python -m pytest -n auto -m "not slow" tests
NUMBA_DISABLE_JIT=1 python -m pytest -n auto -m "not slow" tests/ops tests/numerics tests/formats
