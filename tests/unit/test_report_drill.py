"""The drills' forms: what is in them, that hostile texts stay texts, and that what was not seen is a dash."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest

from kbpg.report import DRILL_FILES, write
from kbpg.report.drill_pages import html, markdown, sessions, verdict
from kbpg.report.drill_summary import kinds
from kbpg.report.drill_words import errors, happened, tick, wait, word
from kbpg.report.junit import drill_junit

from .drill_document import (
    broken,
    crash,
    document,
    idle,
    nothing,
    poweroff,
    proxy,
    sequence,
    several,
    switchover,
)
from .test_report import HOSTILE, Page

Document = dict[str, Any]


# --- what is in it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drills", "said"),
    [
        ((), "no drill was run"),
        ((switchover(),), "1 drill, no acknowledged row lost, longest wait 2.9 s"),
        ((poweroff(), crash()), "2 drills, no acknowledged row lost, longest wait 22.0 s"),
        (
            (poweroff(), broken()),
            "1 of 2 drills failed, 2 acknowledged rows lost, 1 row written twice, longest wait 55.0 s",
        ),
        ((nothing(),), "1 of 1 drill failed, lost rows not counted, longest wait not measured"),
        (
            (nothing(), crash()),
            "1 of 2 drills failed, no acknowledged row lost (not counted in 1), longest wait 2.4 s",
        ),
    ],
)
def test_the_verdict_is_one_sentence(drills: tuple[Document, ...], said: str) -> None:
    assert verdict(document(*drills)) == said
    assert said[1:] in Page(html(document(*drills))).text
    assert said in markdown(document(*drills))


def test_runs_of_a_drill_are_one_line_with_the_median_and_the_worst() -> None:
    found = {kind.name: kind for kind in kinds(document(crash(1, 3), switchover(), crash(2, 3), crash(3, 3)))}
    assert list(found) == ["postmaster-crash", "switchover"]
    kind = found["postmaster-crash"]
    assert kind.waits["pooled"].text == "2.5 s / 2.8 s"
    assert (kind.errors["pooled"], kind.errors["direct"]) == (9, 24)
    assert (kind.predicted, kind.goal) == ("0.3–5.5 s", ("≤ 3 s ✓", "good"))
    assert found["switchover"].waits["direct"].text == "2.9 s"
    assert found["switchover"].goal == ("–", "")


def test_a_goal_that_one_run_misses_is_missed() -> None:
    bad = crash(2, 2) | {"goal": {"rto": 3.0, "met": False}}
    assert kinds(document(crash(1, 2), bad))[0].goal == ("≤ 3 s ✗ 1 of 2", "bad")


def test_every_form_has_every_drill_with_its_problems_and_events() -> None:
    found = several()
    page = Page(html(found))
    assert page.open == []
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 * len(found["drills"])
    for text in (page.text, markdown(found)):
        for drill in found["drills"]:
            assert drill["title"] in text
            assert drill["summary"] in text
            assert all(problem in text for problem in drill["problems"])
            assert all(event["text"] in text for event in drill["events"])
        assert "18.3–26.5 s" in text
        assert "nobody was promoted" in text
        assert "6432" in text


def test_ports_are_the_clusters_own_where_they_are_known() -> None:
    own = document(crash(), ports={"pooled": 7432})
    for text in (html(own), markdown(own)):
        assert "7432" in text
        assert "5432" in text
        assert "6432" not in text


def test_every_drawing_is_named_and_described_once() -> None:
    tree = html(several())
    ids = re.findall(r' id="([^"]+)"', tree)
    assert len(ids) == len(set(ids))
    for labels in re.findall(r'<svg[^>]* aria-labelledby="([^"]+)"', tree):
        assert set(labels.split()) <= set(ids)
    assert (
        "the leader&#39;s host loses power, run 1 of 2 on db-master-01: longest wait for a write 21.3 s"
        in tree
    )
    assert set(re.findall(r'href="#([^"]+)"', tree)) <= set(ids)


def test_junit_has_a_case_a_run_and_its_problems() -> None:
    suites = Tree.fromstring(drill_junit(several()))  # noqa: S314 - it was just written
    cases = suites.findall("./testsuite/testcase")
    assert (suites.get("tests"), suites.get("failures"), len(cases)) == ("8", "1", 8)
    assert [suite.get("name") for suite in suites.findall("./testsuite")][:2] == [
        "postmaster-crash",
        "leader-poweroff",
    ]
    failure = suites.find(".//failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("2 acknowledged rows are lost")
    assert str(failure.text).splitlines() == broken()["problems"]


def test_files_of_drills_are_written_like_those_of_a_validation(tmp_path: Path) -> None:
    paths = write(tmp_path, several(), DRILL_FILES)
    assert [path.name for path in paths] == ["drill.md", "drill.html", "drill.json", "junit.xml"]
    assert json.loads((tmp_path / "drill.json").read_text()) == several()


# --- what must not happen -------------------------------------------------------------------------------


def hostile(value: Any) -> Any:
    """Return the same document with a hostile text in place of each text, wherever it stands."""
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_texts_stay_texts() -> None:
    for changed in (hostile(document(broken(), poweroff(1, 2))), hostile(document(sequence(), idle()))):
        page = Page(html(changed))
        assert page.open == []
        assert not any(tag == "script" for tag, _ in page.tags)
        assert "<script>alert(1)</script>" in page.text
        for _, attributes in page.tags:
            assert not any(
                "script" in (value or "") for name, value in attributes.items() if name != "datetime"
            )
        Tree.fromstring(drill_junit(changed))  # noqa: S314 - it was just written
        text = markdown(changed)
        assert "<script>" not in text.replace("&lt;", "")
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
        assert widths <= {14, 7, 4}


def absent(value: Any, key: str) -> Any:
    """Return the same document with None under this key, wherever it stands."""
    if isinstance(value, dict):
        return {name: None if name == key else absent(each, key) for name, each in value.items()}
    return [absent(each, key) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "key",
    [
        *(
            "rto",
            "errors",
            "acknowledged",
            "refused",
            "unknown",
            "failed",
            "latency_ms",
            "worst_ms",
            "direct",
        ),
        *("lost", "duplicated", "unknown_kept", "unknown_gone", "timelines", "redundant_after", "fault_at"),
        *("predicted", "low", "high", "formula", "difference", "goal", "met", "series", "target", "seed"),
        *("bin", "begin", "workload", "row_pause_ms", "pooled", "reads", "figures"),
    ],
)
def test_what_was_not_seen_may_be_absent(key: str) -> None:
    changed = absent(document(poweroff(), crash(1, 2), crash(2, 2), broken()), key)
    page = html(changed)
    assert Page(page).open == []
    assert "None" not in page
    assert "None" not in markdown(changed)
    drill_junit(changed)


@pytest.mark.parametrize(
    "found", [document(), document(nothing()), document(idle()), document(nothing(), idle())]
)
def test_nothing_measured_is_said(found: Document) -> None:
    page = Page(html(found))
    assert page.open == []
    assert "None" not in page.text + markdown(found)
    assert ("Nothing was measured over time." in page.text) == (nothing() in found["drills"])
    assert ("none acknowledged" in page.text) == (idle() in found["drills"])
    Tree.fromstring(drill_junit(found))  # noqa: S314 - it was just written


def test_an_empty_list_of_drills_did_not_pass() -> None:
    page = html(document())
    assert 'class="panel verdict bad"' in page
    assert "<table" not in page


def test_the_page_needs_nothing_else() -> None:
    page = html(several())
    assert not any(tag in ("script", "iframe", "img", "object") for tag, _ in Page(page).tags)
    assert "@import" not in page
    assert "url(" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0.00 s"), (0.4, "0.40 s"), (0.96, "1.0 s"), (21.23, "21.2 s")]
)
def test_waits_are_in_seconds(value: float | None, text: str) -> None:
    assert wait(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "errors –"), (0, "no error"), (1, "1 error"), (1200, "1,200 errors")]
)
def test_errors_are_counted_in_words(value: int | None, text: str) -> None:
    assert errors(value) == text


def test_moments_count_from_the_fault() -> None:
    assert [event["when"] for event in happened(switchover())] == ["+0.0 s", "+1.9 s", "+2.6 s", "+4.1 s"]
    assert [event["when"] for event in happened(switchover() | {"fault_at": None})][:2] == ["5.0 s", "6.9 s"]
    assert (tick(-5.0, True), tick(0.0, True), tick(10.0, True), tick(0.1 + 0.2, False)) == (
        "−5 s",
        "0 s",
        "+10 s",
        "0.3 s",
    )


def test_several_faults_are_numbered_and_unknown_events_keep_their_name() -> None:
    faults = [event["what"] for event in happened(sequence(3)) if event["kind"] == "fault"]
    assert faults == ["fault 1", "fault 2", "fault 3"]
    assert happened(proxy())[0]["what"] == "fault"
    assert (word("checkpoint"), word("a-kind-with-a-long-name")) == ("checkpoint", "a-kind-with-a-l…")


def test_the_clients_are_said() -> None:
    assert sessions(document()) == (
        "Clients: 16 write through PgBouncer, 4 write without it, 4 read, each pausing 5 ms between rows."
    )
    assert sessions(document(workload={"pooled": 1, "direct": 0})) == "Clients: 1 write through PgBouncer."
    assert sessions(document(workload=None)) == "Clients: none."
