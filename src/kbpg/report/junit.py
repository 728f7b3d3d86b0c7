"""Reports as JUnit XML, for build servers: a test suite a group, a test case a check; drills likewise."""

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
    return _written(suites)


def drill_junit(document: Document) -> str:
    """Return drills as JUnit's XML: a test suite a drill, a test case a run; its problems are the failure."""
    cases = [{**drill, "outcome": "passed" if drill["passed"] else "failed"} for drill in document["drills"]]
    suites = Tree.Element("testsuites", {"name": "kbpg drill", **_counts(cases)})
    for name in dict.fromkeys(each["name"] for each in cases):
        mine = [each for each in cases if each["name"] == name]
        about = {"name": _text(name), "timestamp": _text(str(mine[0]["started"] or "")).rstrip("Z")}
        suite = Tree.SubElement(suites, "testsuite", {**about, **_counts(mine)})
        for drill in mine:
            _drill(suite, f"kbpg.drill.{_text(document['cluster'])}.{_text(name)}", drill)
    return _written(suites)


def _drill(suite: Tree.Element, classname: str, drill: Document) -> None:
    name = _text(f"{drill['title']}, run {drill['run']} of {drill['of']}")
    case = Tree.SubElement(
        suite, "testcase", classname=classname, name=name, time=f"{drill['seconds'] or 0:.3f}"
    )
    happened = _text("\n".join(f"{event['at']:.1f} s {event['text']}" for event in drill["events"]))
    if not drill["passed"]:
        problems = [_text(problem) for problem in drill["problems"]] or ["the drill did not pass"]
        failure = Tree.SubElement(case, "failure", message=problems[0], type="DrillFailed")
        failure.text = "\n".join(problems)
    Tree.SubElement(case, "system-out").text = happened


def _written(suites: Tree.Element) -> str:
    Tree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(suites, encoding="unicode")}\n'


def _counts(checks: list[Document]) -> dict[str, str]:
    outcomes = [check["outcome"] for check in checks]
    return {
        "tests": str(len(checks)),
        "failures": str(outcomes.count("failed")),
        "errors": "0",
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(check['seconds'] or 0 for check in checks):.3f}",
    }


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
