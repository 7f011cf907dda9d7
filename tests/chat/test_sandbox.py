"""Templates that attack: time, memory, output, Python's insides. One line each, no process left, no memory taken."""

import os
import subprocess
import time

import pytest

from refmoe.chat import sandbox
from refmoe.errors import TokenizerError
from refmoe.generate import peak_memory

MESSAGES = [{"role": "user", "content": "Hi"}]


def run(source, **more):
    request = {"template": source, "messages": MESSAGES, "tools": None, "control": [], "marks": [], "thinking": None,
               "variables": {}}  # fmt: skip
    return sandbox.run(request | more, "template")


def test_what_templates_may_use():
    source = """\
    {% for m in messages if m.role == 'user' %}
        {% if loop.index > 1 %}{% break %}{% endif %}
        {{- m.content | trim ~ strftime_now('%Y') }}
    {% endfor %}
{% generation %}{{ {'b': '<é>', 'a': [1, none, true]} | tojson }}{% endgeneration %}
{{- {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true, separators=(',', '=')) }}
{{- 'é' | tojson(ensure_ascii=true) }}"""
    year = time.localtime(86400 * 1000).tm_year
    expected = f'Hi{year}\n{{"b": "<é>", "a": [1, null, true]}}{{\n "a"=2,\n "b"=1\n}}"\\u00e9"'
    assert run(source, now=86400.0 * 1000)["text"] == expected


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize(
    ("source", "message"),
    [("{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
      "{% endfor %}", "takes too long"),
     ("{{ 2 ** (10 ** 10) }}", "takes too long"),
     ("{{ 'a' * 10 ** 10 }}", "needs too much memory"),
     ("{{ 'a'.center(4000000000) }}", "needs too much memory"),
     ("{{ [1] * 10 ** 9 }}", "needs too much memory"),
     ("{{ '%1000000000d' % 5 }}", "needs too much memory"),
     ("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "writes more than 4194304 characters"),
     ("{{ range(10 ** 9) }}", "Range too big"),
     ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself too deeply"),
     ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "calls itself too deeply"),
     ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
     ("{{ (''|attr('__class__')).x }}", "unsafe"),
     ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
     ("{{ '{0.__class__.__mro__}'.format(1) }}", "unsafe"),
     ("{{ messages.append(1) }}", "unsafe"),
     ("{% include '/etc/passwd' %}", "no loader"),
     ("{% import 'os' as os %}", "no loader"),
     ("{% if %}", "line 1: Expected an expression"),
     ("{{ x.y.z }}", "'x' is undefined"),
     ("{{ raise_exception('not\nthis') }}", "not\nthis")],
)  # fmt: skip
def test_hostile_templates(source, message):
    before, begin = peak_memory(), time.monotonic()
    try:
        reply = run(source)
    except TokenizerError as problem:
        reply = {"error": str(problem)}
    assert message in reply["error"] and "text" not in reply
    assert peak_memory() - before < 100 << 20
    assert time.monotonic() - begin < 20  # a second of processor time, on however busy a machine


@pytest.mark.skipif(not hasattr(os, "waitpid"), reason="processes of POSIX")
def test_no_process_is_left(monkeypatch):
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(sandbox, "WAIT", 0.2)
    with pytest.raises(TokenizerError, match=r"^template: was stopped after 0 seconds"):
        run("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    assert len(started) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


def test_a_process_that_fails(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(TokenizerError, match="cannot run in a process of its own: No such file"):
        run("x")
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "_BOOT", "raise SystemExit('broken')")
    with pytest.raises(TokenizerError, match="its process failed: broken"):
        run("x")


def test_the_same_every_time():
    source = "{{ range(1000) | random }} {{ strftime_now('%s') }}"
    assert run(source, now=5.0) == run(source, now=5.0)
