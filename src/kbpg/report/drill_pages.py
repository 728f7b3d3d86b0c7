"""Drills for people: Markdown, and one HTML page that needs nothing else. The document is in docs/json.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kbpg.report.drill_chart import charts
from kbpg.report.drill_summary import kinds, total, verdict, whole
from kbpg.report.drill_words import errors, happened, number, run_of, timelines, wait, whereabouts
from kbpg.report.pages import cell
from kbpg.report.templates import environment

if TYPE_CHECKING:
    from kbpg.report.document import Document

PORTS = {"pooled": 6432, "direct": 5432, "reads": 5433}
"""Where the document does not name the cluster's own."""
FILTERS = (cell, errors, happened, number, run_of, timelines, wait, whereabouts)

__all__ = ["html", "markdown", "verdict"]


def html(document: Document) -> str:
    """Return the page."""
    template = environment(True, *FILTERS).get_template("drill.html.j2")
    return template.render(**_words(document), charts=charts)


def markdown(document: Document) -> str:
    """Return the text."""
    return environment(False, *FILTERS).get_template("drill.md.j2").render(**_words(document))


def _words(document: Document) -> dict[str, Any]:
    document = whole(document)
    drills = document["drills"]
    return {
        "report": document,
        "verdict": verdict(document),
        "good": bool(document["passed"] and drills),
        "kinds": kinds(document),
        "failed": sum(not drill["passed"] for drill in drills),
        "ports": {**PORTS, **(document.get("ports") or {})},
        "sessions": sessions(document),
        "written": total(
            drill["figures"][path]["acknowledged"] for drill in drills for path in ("pooled", "direct")
        ),
    }


def sessions(document: Document) -> str:
    """Return who the clients were, in one sentence."""
    load = document["workload"] or {}
    said = (("pooled", "write through PgBouncer"), ("direct", "write without it"), ("reads", "read"))
    parts = [f"{load[key]} {what}" for key, what in said if load.get(key)]
    if not parts:
        return "Clients: none."
    pause = load.get("row_pause_ms")
    return f"Clients: {', '.join(parts)}{f', each pausing {pause:g} ms between rows' if pause else ''}."
