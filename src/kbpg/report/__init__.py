"""What `kbpg validate` and `kbpg drill` found, as a document, and that as files: Markdown, HTML, JSON, JUnit."""

from kbpg.report.document import build
from kbpg.report.files import DRILL_FILES, FILES, prepare, write

__all__ = ["DRILL_FILES", "FILES", "build", "prepare", "write"]
