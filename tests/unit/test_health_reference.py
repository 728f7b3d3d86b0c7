"""docs/findings.md is what the code says."""

from __future__ import annotations

from pathlib import Path

from kbpg.health import catalogue, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "findings.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == reference.markdown(), "python -m kbpg.health.reference > docs/findings.md"


def test_every_check_has_a_page_that_says_why_and_what_to_do() -> None:
    text = reference.markdown()
    for check in catalogue.ALL:
        page = text.split(f"\n## {check.id}\n", 1)[1].split("\n## ", 1)[0]
        assert check.title in page
        assert "Mend: `" in page
        assert "{" not in page
