"""How fast kbpg starts, and what it leaves alone until it is needed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from psycopg.pq import Conninfo

HEAVY = ("paramiko", "cryptography", "psycopg", "pydantic", "jinja2", "rich", "yaml", "kbpg.steps")
LIMIT = 0.5
"""Seconds of CPU, as test machines are not quiet; the goal is 0.3 of wall time on a quiet 2-core machine."""


def _children() -> float:
    """Return the CPU seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_fast() -> None:
    # As a user has it, with its bytecode: an environment may forbid that it is kept, and the first run writes it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(3):
        before = _children()
        ended = subprocess.run(
            [sys.executable, "-m", "kbpg", "--help"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        taken.append(_children() - before)
        assert ended.stdout.startswith("Usage: kbpg")
    assert min(taken) <= LIMIT


def test_what_is_set_for_psql_is_no_part_of_kbpg_s_connections() -> None:
    """libpq itself is asked for its defaults, which the variables are, before and after the start."""
    script = (
        "from psycopg.pq import Conninfo; from kbpg.__main__ import run\n"
        "def changed(): return sorted(o.envvar.decode() for o in Conninfo.get_defaults()\n"
        "                             if o.envvar and b'odd' in (o.val or b''))\n"
        "before = changed(); code = run(['--version']); print(len(before) > 20, changed(), code)"
    )
    names = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **dict.fromkeys([*names, "PGTZ", "PGDATESTYLE"], "odd")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "True [] 0"


def test_help_imports_only_what_it_needs() -> None:
    script = (
        "import sys; from kbpg.__main__ import run; code = run(['--help'])\n"
        f"print('imported:', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.splitlines()[-1] == "imported: [] 0"


def test_status_imports_no_step_and_no_template() -> None:
    unwanted = ("psycopg", "jinja2", "rich", "kbpg.steps", "kbpg.resources.preflight.checks")
    script = f"import sys, kbpg.cli.status; print([name for name in {unwanted!r} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_completion_knows_commands_options_and_steps() -> None:
    def completed(words: str) -> set[str]:
        environment = {
            "_KBPG_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "kbpg"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return set(ended.stdout.split())

    assert {"apply-all", "plan", "lab"} <= completed("kbpg ")
    assert completed("kbpg lab st") == {"status"}
    assert {"--inventory", "--limit"} <= completed("kbpg plan --")
    assert completed("kbpg step ha") == {"haproxy"}
