"""The report for people: Markdown, and one HTML page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from kbpg.report.drawing import tall, wide
from kbpg.report.templates import environment

if TYPE_CHECKING:
    from kbpg.report.document import Document

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
WRONG = ("critical", "warning")
"""Severities of findings that somebody has to do something about."""
NOT_MEASURED = "not measured yet"


def html(document: Document) -> str:
    """Return the page."""
    drawings = {"wide": wide(document["topology"]), "tall": tall(document["topology"])}
    return (
        environment(True, *FILTERS)
        .get_template("report.html.j2")
        .render(**_words(document), drawings=drawings)
    )


def markdown(document: Document) -> str:
    """Return the text."""
    return environment(False, *FILTERS).get_template("report.md.j2").render(**_words(document))


def _words(document: Document) -> dict[str, Any]:
    checks = document["checks"]
    findings = document["findings"]
    return {
        "report": document,
        "wrong": [each for each in findings if each["severity"] in WRONG],
        "notices": [each for each in findings if each["severity"] not in WRONG],
        "verdict": verdict(document),
        "groups": [(name, list(found)) for name, found in groupby(checks, lambda check: check["group"])],
        "figures": {name: ms for check in checks for name, ms in check["milliseconds"].items()},
        "marks": MARKS,
    }


def verdict(document: Document) -> str:
    """Return the one sentence that counts."""
    counts, total = document["counts"], len(document["checks"])
    if document["passed"]:
        return f"all {total} checks passed"
    parts = [f"{counts[name]} {name}" for name in ("failed", "skipped", "passed") if counts[name]]
    return f"{', '.join(parts)} of {total} checks"


def seconds(value: float) -> str:
    """Return a duration as people read it: `12 ms`, `1.4 s`."""
    if value < 0.001:
        return "< 1 ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def measured(value: float | None) -> str:
    """Return a measured recovery time, or that there is none."""
    return NOT_MEASURED if value is None else f"{value:.1f} s"


def drilled(fault: Document) -> str:
    """Return when, by how many runs of which drill it was measured, and what was lost; "" where it was not."""
    found = fault["measured"]
    if found is None:
        return ""
    runs = (
        f"{found['drill']}, the worst of {found['runs']} runs" if found["runs"] > 1 else str(found["drill"])
    )
    return f"{found['when'][:10]}, {runs}, {found['lost'] or 'no'} {'row' if found['lost'] == 1 else 'rows'} lost"


def predicted(fault: Document) -> str:
    """Return the predicted range of a fault in full seconds."""
    low, high = int(fault["low_seconds"]), -int(-fault["high_seconds"] // 1)
    return f"{low}–{high} s"


def size(value: int | None) -> str:
    """Return bytes as people read them; a dash for what is not known."""
    if value is None:
        return "–"
    number, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"


def found(hosts: dict[str, str | None]) -> str:
    """Return versions by host in as few words as possible: one for all, or each with its hosts."""
    by_version: dict[str, list[str]] = {}
    for host, version in hosts.items():
        by_version.setdefault(version or "not known", []).append(host)
    if len(by_version) == 1:
        return next(iter(by_version))
    return "; ".join(f"{version} ({', '.join(names)})" for version, names in by_version.items())


def cell(text: object) -> str:
    """Return a text that stays in its cell of a Markdown table."""
    flat = " ".join(str(text).splitlines())
    for sign, shown in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("](", "]\\(")):
        flat = flat.replace(sign, shown)
    return flat


def code(text: object) -> str:
    """Return a text as code in a line of Markdown, also in a cell, whatever backquotes are in it."""
    flat = " ".join(str(text).splitlines()).replace("|", "\\|")
    ticks = "`" * (_longest(flat) + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{pad}{flat}{pad}{ticks}"


def block(lines: Sequence[str]) -> str:
    """Return lines as a block of code in Markdown, whatever backquotes are in them."""
    text = "\n".join(lines)
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}\n{text}\n{fence}"


def _longest(text: str) -> int:
    """Return how many backquotes stand in a row at most."""
    return max(map(len, re.findall("`+", text)), default=0)


FILTERS = (seconds, measured, drilled, predicted, size, found, cell, code, block)
