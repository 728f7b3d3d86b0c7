"""The report as JUnit XML, for build servers: a test suite a group, a test case a check."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Tree

if TYPE_CHECKING:
    from kbpg.report.document import Document

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (section 2.2)."""


def junit(document: Document) -> str:
    """Return the report as JUnit's XML; evidence is each case's output."""
    checks = document["checks"]
    suites = Tree.Element("testsuites", {"name": "kbpg validate", **_counts(checks)})
    for group in dict.fromkeys(check["group"] for check in checks):
        mine = [check for check in checks if check["group"] == group]
        about = {"name": _text(group), "timestamp": document["started"].rstrip("Z")}
        suite = Tree.SubElement(suites, "testsuite", {**about, **_counts(mine)})
        for check in mine:
            name = f"kbpg.validate.{_text(document['cluster'])}.{_text(group)}"
            case = Tree.SubElement(
                suite, "testcase", classname=name, name=_text(check["title"]), time=f"{check['seconds']:.3f}"
            )
            evidence = _text("\n".join(check["evidence"]))
            if check["outcome"] == "failed":
                failure = Tree.SubElement(
                    case, "failure", message=_text(check["summary"]), type="NotAccepted"
                )
                failure.text = evidence
            elif check["outcome"] == "skipped":
                Tree.SubElement(case, "skipped", message=_text(check["summary"]))
            else:
                Tree.SubElement(case, "system-out").text = _text(f"{check['summary']}\n{evidence}")
    Tree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(suites, encoding="unicode")}\n'


def _counts(checks: list[Document]) -> dict[str, str]:
    outcomes = [check["outcome"] for check in checks]
    return {
        "tests": str(len(checks)),
        "failures": str(outcomes.count("failed")),
        "errors": "0",
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(check['seconds'] for check in checks):.3f}",
    }


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
