"""The report's forms: what is in them, that hostile texts stay texts, and that no secret is in any."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest

from kbpg.credentials import all_secrets
from kbpg.drills.measured import Measured
from kbpg.errors import UsageError
from kbpg.health.validation.catalogue import ALL
from kbpg.report import FILES, build, prepare, write
from kbpg.report.junit import junit
from kbpg.report.pages import found, html, markdown, seconds, size, verdict

from .validation_world import document, pretended, world

Document = dict[str, Any]


@pytest.fixture(scope="module")
def healthy() -> Document:
    return document()


@pytest.fixture(scope="module")
def broken() -> Document:
    cluster = world()
    cluster.stop("db-3", "patroni")
    cluster.off("proxy-2")
    return document(cluster)


class Page(HTMLParser):
    """Reads the page: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# --- what is in it --------------------------------------------------------------------------------------


def test_every_form_has_every_check(healthy: Document) -> None:
    titles = [check["title"] for check in healthy["checks"]]
    assert len(titles) == len(ALL)
    page = Page(html(healthy)).text
    for text in (page, markdown(healthy)):
        assert all(title in text for title in titles)
        assert all(check["summary"] in text for check in healthy["checks"])
        assert all(line in text for check in healthy["checks"] for line in check["evidence"])
        assert "all 34 checks passed" in text.lower()


def test_the_topology_has_roles_addresses_and_lag(healthy: Document, broken: Document) -> None:
    assert healthy["topology"]["leader"] == "db-1"
    assert [node["role"] for node in healthy["topology"]["nodes"]] == ["leader", "replica", "replica"]
    assert healthy["topology"]["nodes"][1]["lag_bytes"] == 0
    page = Page(html(healthy))
    assert sum(tag == "svg" for tag, _ in page.tags) == 2  # one for wide screens, one for narrow ones
    for words in ("db-2", "192.0.2.2", "replica", "lag 0 B", "quorum", "timeline 1", "leader", "HAProxy ✓"):
        assert words in page.text
    third = broken["topology"]["nodes"][2]
    assert (third["role"], third["problem"]) == ("unknown", "nothing answers there")
    assert broken["topology"]["proxies"][1]["problem"] == "no answer from proxy-2:22 within 5 s"


def test_predicted_figures_stand_next_to_what_is_not_measured(healthy: Document) -> None:
    for text in (Page(html(healthy)).text, markdown(healthy)):
        assert "18–25 s" in text
        assert text.count("not measured yet") == 4
        assert "no acknowledged commit, as long as one replica streams" in text


def test_a_drill_that_was_measured_is_shown_with_its_date() -> None:
    drills = {
        "switchover": Measured("switchover", 2.4, 0, "2026-11-20T10:00:00Z", 1),
        "leader-power-cut": Measured("leader-poweroff", 21.3, 1, "2026-11-21T10:00:00Z", 5),
    }
    measured = build(pretended(), drills)
    text, page = markdown(measured), Page(html(measured)).text
    assert "| 2.4 s (2026-11-20, switchover, no rows lost) |" in text
    assert "| 21.3 s (2026-11-21, leader-poweroff, the worst of 5 runs, 1 row lost) |" in text
    assert "2026-11-21, leader-poweroff, the worst of 5 runs, 1 row lost" in page
    for shown in (text, page):
        assert shown.count("not measured yet") == 2
    faults = {each["fault"]: each for each in measured["recovery"]["faults"]}
    assert faults["leader-power-cut"]["measured_seconds"] == 21.3
    assert faults["leader-power-cut"]["measured"] == {
        "drill": "leader-poweroff",
        "lost": 1,
        "when": "2026-11-21T10:00:00Z",
        "runs": 5,
    }
    assert faults["postgresql-crash"]["measured"] is None


def test_a_broken_cluster_is_said_first_and_its_causes_next(broken: Document) -> None:
    page = html(broken)
    counts = broken["counts"]
    assert counts["failed"] > 3
    assert verdict(broken).startswith(f"{counts['failed']} failed")
    assert page.index("failed") < page.index("What is wrong, and what mends it") < page.index('id="checks"')
    mended = next(f["remedy"] for f in broken["findings"] if f["id"] == "container-stopped")
    assert mended in Page(page).text
    assert '<details class="failed" open>' in page
    assert '<details class="passed" open>' not in page


def test_versions_and_connection_strings(healthy: Document) -> None:
    versions = {each["component"]: each for each in healthy["versions"]}
    assert versions["PostgreSQL"]["hosts"] == dict.fromkeys(("db-1", "db-2", "db-3"), "16.11")
    assert versions["HAProxy"]["hosts"] == {"proxy-1": "3.0.11-1", "proxy-2": "3.0.11-1"}
    assert versions["PgBouncer"]["hosts"]["proxy-1"] == "1.24.1"
    strings = {(each["user"], each["kind"]): each["uri"] for each in healthy["connection_strings"]}
    assert len(strings) == 6
    assert strings["kb_app", "pooled"].startswith("postgresql://kb_app:***@192.0.2.11:6432,")


def test_json_is_the_document(healthy: Document, tmp_path: Path) -> None:
    write(tmp_path, healthy)
    assert json.loads((tmp_path / "report.json").read_text()) == healthy
    assert {"passed", "counts", "checks", "findings", "topology", "recovery", "versions"} <= set(healthy)


def test_junit_counts_and_names(broken: Document) -> None:
    suites = Tree.fromstring(junit(broken))  # noqa: S314 - it was just written
    cases = suites.findall("./testsuite/testcase")
    assert suites.get("tests") == str(len(ALL)) == str(len(cases))
    assert suites.get("failures") == str(len(suites.findall(".//failure"))) == str(broken["counts"]["failed"])
    assert suites.get("skipped") == str(len(suites.findall(".//skipped"))) == str(broken["counts"]["skipped"])
    for suite in suites.findall("./testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
    rest = next(case for case in cases if "Patroni REST" in str(case.get("name")))
    failure = rest.find("failure")
    assert failure is not None
    assert failure.get("message") == "db-3: nothing answers there"
    assert "db-1: Patroni 4.1.5" in str(failure.text)


# --- what must not happen -------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m \x00 ]]> & \"'"


def hostile(value: Any) -> Any:
    """Return the same document with a hostile text in place of each free one."""
    free = ("summary", "evidence", "problem", "seen", "why", "remedy", "text", "state")
    if isinstance(value, dict):
        return {
            key: ([HOSTILE] if isinstance(each, list) else HOSTILE)
            if key in free and isinstance(each, str | list)
            else hostile(each)
            for key, each in value.items()
        }
    return [hostile(each) for each in value] if isinstance(value, list) else value


def test_hostile_texts_stay_texts(broken: Document) -> None:
    changed = hostile(broken)
    page = Page(html(changed))
    assert page.open == []
    assert not any(tag == "script" for tag, _ in page.tags)
    assert "<script>alert(1)</script>" in page.text
    suites = Tree.fromstring(junit(changed))  # noqa: S314 - it was just written
    assert "<script>" in str(suites.find(".//failure").get("message"))  # type: ignore[union-attr]
    rows = [line for line in markdown(changed).splitlines() if line.startswith("| ✗")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_the_page_needs_nothing_else(healthy: Document) -> None:
    page = html(healthy)
    assert not any(tag in ("script", "iframe", "img", "object") for tag, _ in Page(page).tags)
    for _, attributes in Page(page).tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    cluster = world()
    secrets = [secret.reveal() for secret in all_secrets(cluster.context.credentials)]
    # Where a secret could come from: a log line, an answer, a reason
    cluster.stop("db-3", "patroni", "restarting")
    cluster.log("db-3", "patroni", f"FATAL: password={secrets[0]} is wrong", f"PGPASSWORD='{secrets[2]}'")
    cluster.silence("proxy-2", cluster.ask.haproxy, f"answered {secrets[1]}")
    cluster.change("db-2", cluster.ask.node, state=f"running {secrets[3]}")
    paths = write(tmp_path, document(cluster))
    assert {path.name for path in paths} == {"report.md", "report.html", "report.json", "junit.xml"}
    for path in paths:
        text = path.read_text()
        assert "***" in text
        assert not [secret for secret in secrets if secret in text], path.name
        assert "SCRAM-SHA-256$" not in text


def test_files_are_whole_and_for_everybody(healthy: Document, tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b")
    for _ in range(2):
        paths = write(tmp_path / "a" / "b", healthy)
        assert [path.name for path in paths] == list(FILES)
        assert all(path.stat().st_mode & 0o777 == 0o644 for path in paths)
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == sorted(FILES)  # nothing half-written


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file exists"):
        prepare(tmp_path / "file")
    with pytest.raises(UsageError, match="not a directory"):
        prepare(tmp_path / "file" / "below")


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "< 1 ms"), (0.0123, "12 ms"), (0.9994, "999 ms"), (1.26, "1.3 s")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3_200_000, "3.2 MB")]
)
def test_sizes(value: int | None, text: str) -> None:
    assert size(value) == text


def test_versions_are_said_in_few_words() -> None:
    assert found({"a": "16.11", "b": "16.11"}) == "16.11"
    assert found({"a": "16.11", "b": "16.10", "c": None}) == "16.11 (a); 16.10 (b); not known (c)"
