"""Runs a chat template in another process, which is ended when it takes too long or too much, and always waited for."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import refmoe
from refmoe.errors import TokenizerError

WAIT = 30.0  # seconds; the worker limits its own processor time; this is for a machine that is stuck
_BOOT = "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); from refmoe.chat.worker import main; main()"


def run(request: dict[str, Any], where: str) -> dict[str, Any]:
    """The worker's reply. TokenizerError, beginning with `where`, when the template fails or is stopped."""
    paths = [str(Path(refmoe.__file__).parents[1]), *sys.path]
    command = [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(paths)]
    content = json.dumps(request | {"now": request.get("now") or time.time()}).encode()
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=WAIT, check=False,
                              start_new_session=True)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TokenizerError(f"{where}: was stopped after {WAIT:.0f} seconds") from None
    except OSError as problem:
        raise TokenizerError(f"{where}: cannot run in a process of its own: {problem.strerror}") from None
    if done.returncode < 0:
        raise TokenizerError(f"{where}: was stopped: it takes too long (signal {-done.returncode})")
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it wrote nothing"])[-1]
        raise TokenizerError(f"{where}: its process failed: {last[:200]}") from None
    return dict(reply)
