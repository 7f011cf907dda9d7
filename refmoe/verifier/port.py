"""port - run somebody's program on vectors: COMMAND CASE RESULT, once for each case.

CASE and RESULT are safetensors files; CASE has no results in it (a blind export). The program's exit code says what
happened: 0, RESULT is written; 3, this op or format is not in this port; anything else is a failure.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from refmoe import golden
from refmoe.checkpoint.strict_json import show
from refmoe.errors import UsageError
from refmoe.verifier import vectors

ABSENT = 3
LAST = 400  # bytes of a program's stderr that are looked at


def run(
    command: Sequence[str], chosen: Sequence[golden.Case], folder: str | Path, seconds: float,
    progress: Callable[[int, int, str], object] = lambda done, total, what: None,
) -> tuple[int, list[str]]:
    """Export `chosen` to folder/vectors, write results to folder/results. Returns how many cases the program does not
    have, whose vectors are removed again, and a line for each failure. A case may take `seconds`. UsageError if the
    program cannot be started or has none of the cases.
    """  # fmt: skip
    reference, results = Path(folder) / "vectors", Path(folder) / "results"
    vectors.export(list(chosen), reference, blind=True)
    results.mkdir(parents=True, exist_ok=True)
    absent, failures = 0, []
    for number, case in enumerate(chosen):
        name = vectors.name_of(case)
        progress(number, len(chosen), name)
        target = results / vectors.path_of(case)
        target.parent.mkdir(parents=True, exist_ok=True)
        words = [*command, str(reference / vectors.path_of(case)), str(target)]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  timeout=seconds, check=False)  # fmt: skip
        except OSError as problem:
            raise UsageError(f"{show(command[0], 160)}: cannot be started: {problem.strerror}") from None
        except subprocess.TimeoutExpired:
            failures.append(f"{name}: expected a result within {seconds:g} s, found none")
            continue
        if done.returncode == ABSENT:
            absent += 1
            (reference / vectors.path_of(case)).unlink()
        elif done.returncode:
            said = done.stderr[-LAST:].decode("utf-8", "replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "nothing on stderr")
            failures.append(f"{name}: expected exit code 0, found {done.returncode}: {show(last, 160)}")
    if absent == len(chosen):
        raise UsageError(f"{show(command[0], 160)}: expected a port of some of the {absent} cases, found exit code "
                         f"{ABSENT} for each")  # fmt: skip
    return absent, failures
