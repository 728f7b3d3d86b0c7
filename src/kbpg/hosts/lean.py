"""The one import of paramiko, without the half of it that kbpg never uses.

`paramiko.config` imports `invoke`, for `Match exec` in ~/.ssh/config alone. That import is 60 ms of 140 ms
(measured on a 2-core machine, Python 3.11), paid by every command; and its `run` reads our standard input.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_EXEC_TIMEOUT = 10
"""Seconds that a `Match exec` command may take."""


@dataclass(frozen=True)
class _Done:
    ok: bool


class _Shell:
    """What `paramiko.config` needs of `invoke`."""

    @staticmethod
    def run(command: str, **_: object) -> _Done:
        """Run the command of a `Match exec` and tell whether it ended well."""
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_EXEC_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return _Done(False)
        return _Done(done.returncode == 0)


def _import_paramiko() -> None:
    modules: dict[str, Any] = sys.modules
    if "invoke" not in modules:
        modules["invoke"] = None
        try:
            importlib.import_module("paramiko")
        finally:
            del modules["invoke"]
    config: Any = importlib.import_module("paramiko.config")
    config.invoke = _Shell


_import_paramiko()

import paramiko  # noqa: E402
from paramiko.packet import Packetizer  # noqa: E402
from paramiko.pkey import UnknownKeyType  # noqa: E402
from paramiko.ssh_exception import IncompatiblePeer  # noqa: E402

# Its log repeats, with tracebacks, what kbpg raises as one clear line.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

__all__ = ["IncompatiblePeer", "Packetizer", "UnknownKeyType", "paramiko"]
