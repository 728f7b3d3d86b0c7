"""What `kbpg validate` found, as a document, and that document as files: Markdown, HTML, JSON, JUnit."""

from kbpg.report.document import build
from kbpg.report.files import FILES, prepare, write

__all__ = ["FILES", "build", "prepare", "write"]
