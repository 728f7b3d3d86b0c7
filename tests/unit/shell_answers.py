"""Questions to a host, asked of a real shell on this machine in one script."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbpg.hosts.port import Output, Question
from kbpg.hosts.script import Reading, compose


def answers_of(
    questions: Sequence[Question], *, shell: str = "sh", programs: Path | None = None
) -> Mapping[str, Output]:
    """Return the answers by key; what is in the directory `programs` goes before programs of this machine."""
    composed = compose(questions, "boundary")
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-s"],
        input=composed.text,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
        timeout=20,
    )
    reading = Reading(composed)
    reading.add(True, done.stdout)
    assert reading.add(False, done.stderr)
    return reading.answers(0)
