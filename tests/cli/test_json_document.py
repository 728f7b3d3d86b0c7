"""docs/json.md names every key that `--json` prints, no others, and every command that reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.cli.app import command
from kbpg.cli.diagnosing import document as diagnosed
from kbpg.drills.document import Drills, build
from kbpg.drills.workload import Crowd
from kbpg.health.diagnose import Diagnosis
from kbpg.health.finding import Action, Finding, Repair, Severity
from kbpg.health.repair.course import Attempt, Verdict
from kbpg.inventory import load
from kbpg.operations.config_show import Shown
from kbpg.operations.switchover import Handover
from kbpg.raft import RaftStatus
from kbpg.raft_admin import Consensus
from kbpg.status.screen import document as standing
from kbpg.status.standing import Standing
from kbpg.status.values import Member, Proxy

from .conftest import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"
WITHOUT = {"psql", "logs", "lab up", "lab down", "lab ssh", "inventory schema"}
"""The commands that --json changes nothing of; docs/json.md says so."""
REPAIR = Repair(Action.REINITIALIZE, "db-2", "clone db-2 anew from db-1")
FINDING = Finding("replica-lag", Severity.WARNING, "db-2", "title", "seen", "why", "remedy", repair=REPAIR)
STATUS = RaftStatus("192.0.2.1:7000", True, 3, 100, 10, {"192.0.2.1:7000": True}, state="follower")
CONSENSUS = Consensus(
    {"db-1": "192.0.2.1:7000", "db-2": "192.0.2.2:7000"}, {"db-1": "no answer", "db-2": STATUS}
).document()
STANDING = Standing("test", datetime(2026, 11, 29, tzinfo=UTC), None, None, (), ())


def sections() -> dict[str, str]:
    """Return the text below each heading, by the heading without backquotes."""
    parts = re.split(r"^## (.+)\n", DOCUMENT.read_text(), flags=re.MULTILINE)
    return {title.replace("`", ""): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def tables(title: str) -> list[set[str]]:
    """Return the keys of each table of the section whose heading begins so."""
    (text,) = [text for heading, text in sections().items() if heading.split(",")[0] == title]
    found = re.findall(r"^\| key \| value \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [
        {key for line in table.splitlines() for key in re.findall(r"`(.+?)`", line.split(" | ")[0])}
        for table in found
    ]


def names(of: type) -> set[str]:
    return {field.name for field in fields(of)}


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Return every command that is no group, as it is typed; a group that works alone is one too."""
    for name, below in getattr(group, "commands", {}).items():
        if not hasattr(below, "commands"):
            yield " ".join((*path, name))
            continue
        if getattr(below, "invoke_without_command", False):
            yield " ".join((*path, name))
        yield from leaves(below, (*path, name))


def test_every_command_has_a_section() -> None:
    headings = " ".join(sections())
    commands = set(leaves(command()))
    missing = {name for name in commands if not re.search(rf"kbpg {name}(?: [A-Z:]+)* --json", headings)}
    assert missing == WITHOUT
    assert len(commands) > 30


@pytest.mark.parametrize(
    ("title", "index", "found"),
    [
        ("kbpg diagnose --json", 0, {*diagnosed(Diagnosis((), 0), {}), "repairs"}),
        ("kbpg diagnose --json", 1, set(Attempt(FINDING, Verdict.MENDED).document())),
        ("kbpg diagnose --json", 2, set(FINDING.document())),
        ("kbpg raft status --json", 0, set(CONSENSUS)),
        ("kbpg raft status --json", 1, {key for member in CONSENSUS["members"] for key in member}),
        ("kbpg status --json", 0, set(standing(STANDING))),
        ("kbpg status --json", 1, names(Member)),
        ("kbpg status --json", 2, names(Proxy)),
        ("kbpg config show --json", 0, set(Shown("db-1", ()).document())),
        ("kbpg switchover --json", 0, names(Handover)),
    ],
)
def test_the_keys_are_the_documented_ones(title: str, index: int, found: set[str]) -> None:
    assert tables(title)[index] == found


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_of_a_repair_is_documented(verdict: Verdict) -> None:
    (text,) = [text for title, text in sections().items() if title.startswith("kbpg diagnose")]
    assert f"`{verdict.value}`" in text


def test_the_keys_of_all_drills_are_documented(world: World) -> None:
    drills = Drills(datetime(2026, 11, 29, tzinfo=UTC), 1.0, (), Crowd())
    assert set(build(drills, load(Path("inventory.yaml")))) <= tables("kbpg drill DRILL --json")[0]


@pytest.mark.parametrize(
    ("words", "code", "title"),
    [
        ("plan", 3, "kbpg plan --json"),
        ("apply-all", 0, "kbpg apply-all --json"),
        ("inventory check", 0, "kbpg inventory check --json"),
        ("credentials show", 0, "kbpg credentials show --json"),
    ],
)
def test_what_is_printed_has_the_documented_keys(
    world: World, capsys: pytest.CaptureFixture[str], words: str, code: int, title: str
) -> None:
    assert run([*words.split(), "--json"]) == code
    assert set(json.loads(capsys.readouterr().out)) == tables(title)[0]


@pytest.mark.parametrize(
    ("words", "keys"), [("credentials path", {"path", "exists"}), ("uri", {"kind", "uri"})]
)
def test_what_has_no_table_is_documented_in_a_line(
    world: World, capsys: pytest.CaptureFixture[str], words: str, keys: set[str]
) -> None:
    assert run([*words.split(), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == keys
    assert all(f"`{key}`" in sections()[f"kbpg {words} --json"] for key in keys)
