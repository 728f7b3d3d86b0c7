"""The one import of paramiko, without the half of it that kbpg never uses.

`paramiko.config` imports `invoke`, for `Match exec` in ~/.ssh/config alone. That import is 60 ms of 140 ms
(measured on a 2-core machine, Python 3.11), paid by every command, so it is put off until a configuration
asks for it: `with_match_exec()`.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any


def _paramiko_without_invoke() -> None:
    if "invoke" in sys.modules or "paramiko" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    modules["invoke"] = None
    try:
        importlib.import_module("paramiko")
    finally:
        del modules["invoke"]


def with_match_exec() -> None:
    """Let paramiko evaluate `Match exec`. Raises `ImportError` when `invoke` is not installed."""
    config: Any = importlib.import_module("paramiko.config")
    config.invoke = importlib.import_module("invoke")


_paramiko_without_invoke()

import paramiko  # noqa: E402
from paramiko.packet import Packetizer  # noqa: E402
from paramiko.pkey import UnknownKeyType  # noqa: E402
from paramiko.ssh_exception import IncompatiblePeer  # noqa: E402

# Its log repeats, with tracebacks, what kbpg raises as one clear line.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

__all__ = ["IncompatiblePeer", "Packetizer", "UnknownKeyType", "paramiko", "with_match_exec"]
