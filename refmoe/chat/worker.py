"""The process in which a template runs: reads a request from stdin, writes the rendered text to stdout, ends.

It is limited by the operating system, because a template can ask for more work than the age of the universe in one
line: processor time, address space, and what it may write. The sandbox of refmoe.chat.environment keeps it from
everything else. Request and reply are one JSON object each; refmoe.chat.sandbox is the other end.
"""

import contextlib
import json
import random
import sys
from typing import Any

TIME, TIME_PER_BYTE = 1.0, 2.0**-20  # seconds of processor time: a second, and one for each MiB of messages
SPACE = 256 << 20  # bytes beyond those in use when the template starts
MAX_OUTPUT = 4 << 20  # characters of one rendering


def main() -> None:
    """Answer one request."""
    raw = sys.stdin.buffer.read()
    from jinja2 import TemplateError, TemplateSyntaxError

    from refmoe.chat import environment, provenance

    _limit(TIME + TIME_PER_BYTE * len(raw))
    try:
        reply = _render(json.loads(raw), environment, provenance)
    except TemplateSyntaxError as problem:
        reply = {"error": f"line {problem.lineno}: {problem.message}"}
    except TemplateError as problem:
        reply = {"error": str(problem.message), "raised": True}
    except MemoryError:
        reply = {"error": "needs too much memory"}
    except RecursionError:
        reply = {"error": "calls itself too deeply"}
    except provenance.Refused as problem:
        reply = {"error": str(problem)}
    except Exception as problem:  # whatever an expression of the template raises
        reply = {"error": f"{type(problem).__name__}: {problem}"}
    json.dump(reply, sys.stdout)


def _render(request: dict[str, Any], environment: Any, provenance: Any) -> dict[str, Any]:
    from jinja2 import meta

    made = environment.environment(request["now"])
    variables = request["variables"]
    known = meta.find_undeclared_variables(made.parse(request["template"]))
    if request["thinking"] is not None:
        switch = next((name for name in ("enable_thinking", "thinking") if name in known), None)
        if switch is None:
            return {"error": "no switch", "switch": False}
        variables[switch] = request["thinking"]
    template = made.from_string(request["template"])

    def render(messages: Any, tools: Any) -> str:
        random.seed(0)  # so that |random gives the same each time
        parts, size = [], 0
        for part in template.generate(messages=messages, tools=tools, documents=None, add_generation_prompt=True,
                                      **variables):  # fmt: skip
            size += len(part)
            if size > MAX_OUTPUT:
                raise provenance.Refused(f"writes more than {MAX_OUTPUT} characters")
            parts.append(part)
        return "".join(parts)

    text, foreign = provenance.foreign(
        render, request["messages"], request["tools"], request["control"], request["marks"])
    return {"text": text, "foreign": foreign}


def _limit(seconds: float) -> None:
    """Let the operating system end this process when it takes too long; refuse it memory."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import signal

        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as status:
            used = int(status.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, used + SPACE))
