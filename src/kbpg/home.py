"""Whoever runs kbpg: name and home directory, of which a bare uid, as in a container, has neither."""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def home() -> Path | None:
    """Return the home directory, None where neither $HOME nor the password database knows one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expanded(path: Path | str) -> Path:
    """Return `path` with its leading `~` replaced; as in a shell, unchanged where there is no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def user() -> str:
    """Return the user's name, else the uid's number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # KeyError before Python 3.13
        return str(os.getuid())
