"""Whatever a host answers: it stays text in every report, and no password of it makes a file that cannot be read."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kbpg.adoption.in_use import PoolerInUseFact
from kbpg.adoption.passwords import Taken, completed, take_over, unfit
from kbpg.credentials import complete, parse
from kbpg.credentials.store import render
from kbpg.engine.history import parse as read_journal
from kbpg.errors import CredentialsError
from kbpg.hosts.port import Output
from kbpg.operations.recovering import Remains, why_not_recover
from kbpg.report.junit import junit
from kbpg.report.pages import block, cell, code, html, markdown
from kbpg.secret import Secret

from . import hostile
from .small_cluster import context
from .test_passwords_in_use import HOSTS, PROGRAM, four, parse_inventory
from .test_report import Page
from .validation_world import document, world

FREE = (
    "summary",
    "evidence",
    "problem",
    "seen",
    "why",
    "remedy",
    "text",
    "state",
    "title",
    "cluster",
    "host",
    "user",
)
"""What stands in a report as a host, or whoever wrote the inventory, had it."""


@functools.cache
def broken() -> Any:
    cluster = world()
    cluster.stop("db-3", "patroni")
    cluster.off("proxy-2")
    return document(cluster)


@functools.cache
def shape() -> list[str]:
    """Return the tags of the page of an ordinary report."""
    return [tag for tag, _ in Page(html(filled(broken(), "x"))).tags]


def filled(value: Any, text: str) -> Any:
    """Return a document with `text` in each free place."""
    if isinstance(value, dict):
        return {
            key: ([text] if isinstance(each, list) else text)
            if key in FREE and isinstance(each, str | list)
            else filled(each, text)
            for key, each in value.items()
        }
    return [filled(each, text) for each in value] if isinstance(value, list) else value


@settings(max_examples=100)
@given(hostile.anything)
def test_a_page_has_the_same_tags_whatever_is_in_it(text: str) -> None:
    page = Page(html(filled(broken(), text)))
    assert [tag for tag, _ in page.tags] == shape()
    for tag, attributes in page.tags:
        assert tag != "script"
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:"))


@settings(max_examples=100)
@given(hostile.anything)
def test_junit_is_xml_with_the_text_in_it(text: str) -> None:
    suites = Tree.fromstring(junit(filled(broken(), text)))  # noqa: S314 - it was just written
    # XML 1.0 cannot hold the others
    shown = "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in text)
    message = suites.find(".//failure").get("message")  # type: ignore[union-attr]
    assert message is not None
    # XML makes one line end of each kind
    assert message.split() == shown.split()


@settings(max_examples=100)
@given(hostile.anything)
def test_markdown_has_the_same_lines_whatever_is_in_it(text: str) -> None:
    def rows(value: str) -> list[int]:
        page = markdown(filled(broken(), value))
        lines = re.sub(r"^(`{3,})\n.*?\n\1$", "", page, flags=re.MULTILINE | re.DOTALL).split("\n")
        return [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines if line.startswith("|")]

    assert rows(text) == rows("x")


@settings(max_examples=200)
@given(hostile.anything)
def test_code_in_markdown_ends_where_it_should(text: str) -> None:
    written = code(text)
    opening = re.match("`+", written)
    assert opening is not None
    assert "\n" not in written
    inside = written[len(opening[0]) : -len(opening[0])]
    assert max(map(len, re.findall("`+", inside)), default=0) < len(opening[0])
    shown = block([text, text])
    fence = re.match("`{3,}", shown)
    assert fence is not None
    assert shown == f"{fence[0]}\n{text}\n{text}\n{fence[0]}"
    assert fence[0] not in text
    assert re.search(r"(?<!\\)(\\\\)*[|`]|<|\]\(", cell(text)) is None


class Host:
    """A host that answers both questions."""

    def __init__(self, name: str, answer: str) -> None:
        self.name = self.address = name
        self._answer = answer

    def read(self, questions: Any, **more: Any) -> dict[str, Output]:
        return {question.key: Output(0, self._answer) for question in questions}


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(("raft", "repl", "rewind", "rest", "pooler"), hostile.anything)))
def test_a_password_of_a_host_is_kept_as_it_is_or_refused(said: dict[str, str]) -> None:
    roles = {
        "superuser": ["kb_admin", "super-secret"],
        "replication": ["replicator", said["repl"]],
        "rewind": ["rewind_user", said["rewind"]],
    }
    answer = json.dumps(PROGRAM | {"raft": said["raft"], "rest": ["kbpg", said["rest"]], "roles": roles})
    userlist = '"pgbouncer_auth" "' + said["pooler"].replace('"', '""') + '"\n'
    inventory = parse_inventory(HOSTS, "inventory.yaml")
    hosts: dict[str, Any] = {name: Host(name, answer) for name in ("db-1", "db-2", "db-3")}
    hosts["px-1"] = Host("px-1", userlist)
    taken = take_over(inventory, hosts)
    try:
        whole = completed(four(), taken, strict=True)
    except CredentialsError:
        event("refused")
        assert taken.unfit
        return
    finally:
        assert not unfit(taken.values)
    event("accepted")
    credentials = complete(whole)
    again = parse(render(credentials, four()).reveal(), path="credentials/postgres.env")
    assert again.values["RAFT_PASS"].reveal() == said["raft"]
    assert again.values["POSTGRES_REPLICATION_PASS"].reveal() == said["repl"]
    assert again.missing == ()


@pytest.mark.parametrize(
    ("password", "why"),
    [("two\nlines-of-it", "control character"), ("short", "5 characters long"), ("é" * 600, "1200 bytes")],
)
def test_what_the_file_cannot_hold_is_said_before_anything_is_written(password: str, why: str) -> None:
    told = {"RAFT_PASS": Secret(password)}
    taken = Taken(unfit=unfit(told))
    with pytest.raises(CredentialsError, match=rf"RAFT_PASS: missing, and the one in use .*{why}"):
        completed(four(), taken, strict=True)
    assert "RAFT_PASS" in completed(four(), taken, strict=False).missing
    every = dict.fromkeys(
        (
            "POSTGRES_SUPERPASS",
            "POSTGRES_REPLICATION_PASS",
            "POSTGRES_REWIND_PASS",
            "PGBOUNCER_AUTH_PASS",
            "RAFT_PASS",
            "PATRONI_REST_PASS",
        ),
        Secret("fitting-password"),
    )
    refused = why_not_recover(context(), Remains("kb_admin", {**every, **told}))
    assert refused is not None
    assert why in " ".join(refused.detail)
    assert password not in " ".join(refused.lines())


@settings(max_examples=100)
@given(hostile.anything)
def test_the_password_of_pgbouncer_is_read_as_it_is(password: str) -> None:
    fact = PoolerInUseFact("/x")
    text = '"other" "x"\n"pgbouncer_auth" "' + password.replace('"', '""') + '"\n'
    found = fact.parse(Output(0, text))
    if not re.match(r"md5[0-9a-f]{32}$|SCRAM-SHA-256\$", password):
        assert found is not None
        assert found.reveal() == password


@settings(max_examples=100)
@given(st.lists(hostile.anything, min_size=1, max_size=4), hostile.anything)
def test_the_journal_shows_no_control_character(words: list[str], host: str) -> None:
    line = {"time": "2026-11-28T06:10:04Z", "host": host, "command": words, "status": host, "seconds": 0}
    (entry,) = read_journal("20261128T061003Z-x-1.jsonl", json.dumps(line)).entries
    for text in (entry.host, str(entry.status), *entry.command):
        assert all(c.isprintable() or c in "\n\t" for c in text)
