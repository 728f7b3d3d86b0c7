"""What is left of a pause is told of once, ended where nobody did, and forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kbpg.engine.compare import compare
from kbpg.engine.site import Site
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.hosts.port import Output
from kbpg.model import Change, Placed
from kbpg.operations.left_pauses import forget
from kbpg.operations.pause_guard import note_fact, note_path
from kbpg.resources.file import FileState
from kbpg.resources.pause_ended import PauseEnded

from .small_cluster import PROXIES, context, knowing, site

CONTEXT = context()
NOTE = note_fact(CONTEXT)
BEGAN = "2026-11-23T16:00:00Z switchover from db-1 to db-2: clients of pgbouncer are made to wait"
ENDED = "2026-11-23T16:00:01Z kbpg was heard no more: the guard let the clients of pgbouncer go on"
FAILED = "2026-11-23T16:00:01Z kbpg was heard no more: the guard could not let the clients of pgbouncer go on"


def docker(host: FakeHost, words: Sequence[str], _: bytes) -> Output:
    return Output(0, "")


def remove(host: FakeHost, words: Sequence[str], _: bytes) -> Output:
    host.files.pop(words[-1], None)
    return Output(0, "")


def proxies(**notes: str) -> dict[str, FakeHost]:
    """Return proxies, with the notes of some."""
    found = {name: FakeHost(name, programs={"docker": docker, "rm": remove}) for name in PROXIES}
    for name, text in notes.items():
        found[name.replace("_", "-")].files[note_path(CONTEXT)] = FakeFile(text.encode())
    return found


def there(hosts: dict[str, FakeHost], place: str = "cluster") -> Site:
    notes = {name: host.files.get(note_path(CONTEXT)) for name, host in hosts.items()}
    answers = {
        name: {NOTE.key: FileState("0:0", 0o600, "", note.content.decode()) if note else None}
        for name, note in notes.items()
    }
    return site(place, hosts, answers)


def resumed(host: FakeHost) -> bool:
    return ["docker", "exec", "pgbouncer", "sh", "-c", "kill -USR2 1"] in host.journal


def test_nothing_was_left() -> None:
    found = compare(Placed("px-1", PauseEnded(CONTEXT)), knowing({"px-1": {NOTE.key: None}}, "px-1"))
    assert found.change is None


def test_a_note_is_a_difference_that_says_what_happened() -> None:
    state = FileState("0:0", 0o600, "", f"{BEGAN}\n{ENDED}\n")
    found = compare(Placed("px-1", PauseEnded(CONTEXT)), knowing({"px-1": {NOTE.key: state}}, "px-1"))
    assert found.change is not None
    assert found.lines == ("an earlier kbpg did not end a pause of PgBouncer:", BEGAN, ENDED)


@pytest.mark.parametrize(("last", "resumes"), [(ENDED, False), (FAILED, True), ("", True)])
def test_what_nobody_ended_is_ended_and_forgotten(last: str, resumes: bool) -> None:
    hosts = proxies(px_1=f"{BEGAN}\n{last}\n")
    PauseEnded(CONTEXT).fix(there(hosts, "px-1"), Change({}, {}))
    assert resumed(hosts["px-1"]) is resumes
    assert note_path(CONTEXT) not in hosts["px-1"].files


def test_the_next_command_tells_of_it_and_forgets_it() -> None:
    hosts = proxies(px_2=f"{BEGAN}\n{FAILED}\n")
    assert forget(there(hosts)) == {"px-2": (BEGAN, FAILED)}
    assert resumed(hosts["px-2"])
    assert not hosts["px-1"].journal
    assert forget(there(hosts)) == {}
