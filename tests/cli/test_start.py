"""How fast kbpg starts, and what it leaves alone until it is needed."""

from __future__ import annotations

import subprocess
import sys
import time

HEAVY = ("paramiko", "cryptography", "psycopg", "pydantic", "jinja2", "rich", "yaml", "kbpg.steps")
LIMIT = 1.0
"""Seconds; the goal is 0.3 on a quiet 2-core machine, and test machines are not quiet."""


def test_help_is_fast() -> None:
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "kbpg", "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    seconds = time.monotonic() - started
    assert ended.stdout.startswith("Usage: kbpg")
    assert seconds <= LIMIT


def test_help_imports_only_what_it_needs() -> None:
    script = (
        "import sys; from kbpg.__main__ import run; code = run(['--help'])\n"
        f"print('imported:', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.splitlines()[-1] == "imported: [] 0"


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
