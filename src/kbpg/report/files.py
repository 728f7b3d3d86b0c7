"""The files of a report, each written whole or not at all, readable by everybody: nothing in them is secret."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kbpg.errors import KbpgError, UsageError
from kbpg.report.drill_pages import html as drill_html
from kbpg.report.drill_pages import markdown as drill_markdown
from kbpg.report.junit import drill_junit, junit
from kbpg.report.pages import html, markdown

if TYPE_CHECKING:
    from kbpg.report.document import Document

MODE = 0o644


def _json(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


Files = Mapping[str, Callable[["Document"], str]]

FILES: Files = {
    "report.md": markdown,
    "report.html": html,
    "report.json": _json,
    "junit.xml": junit,
}
"""Every file of a validation by name, and what makes it of the document."""
DRILL_FILES: Files = {
    "drill.md": drill_markdown,
    "drill.html": drill_html,
    "drill.json": _json,
    "junit.xml": drill_junit,
}
"""The same for the document of drills."""


def prepare(directory: Path) -> None:
    """Make the directory, so that a path that is no use is told before anything is done. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: {(error.strerror or str(error)).lower()}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"{directory}: may not be written")


def write(directory: Path, document: Document, files: Files = FILES) -> list[Path]:
    """Write every file and return their paths. Raises `KbpgError`; a file is then the old one or the new one."""
    texts = {name: make(document) for name, make in files.items()}
    try:
        return [_replace(directory / name, text) for name, text in texts.items()]
    except OSError as error:
        raise KbpgError(
            f"{directory}: cannot be written: {(error.strerror or str(error)).lower()}"
        ) from error


def _replace(path: Path, text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
            stream.write(text.encode("utf-8", "replace"))
            stream.flush()
            os.fchmod(descriptor, MODE)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
