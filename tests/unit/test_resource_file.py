"""Files and directories: what a plan shows, what a fix does and in which order, and what the shell really says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kbpg.engine.compare import compare
from kbpg.engine.run import Run
from kbpg.errors import NotConverged
from kbpg.facts import Fact, Facts, Knowledge, NotKnown, ShellFact
from kbpg.hosts.fake import FakeDirectory, FakeFile, FakeHost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output
from kbpg.model import ABSENT, Impact, Placed, Resource, Status
from kbpg.resources.directory import Directory, DirectoryFact
from kbpg.resources.file import RUN_KEY, File, FileFact, FileState, digest

from .fake_docker import with_docker
from .shell_answers import answers_of
from .small_cluster import ValueFact, answer_value, context, put, stage, step

PATH = "/opt/app/app.conf"
MARKER = "/opt/app/loaded"


def host(**files: FakeFile) -> FakeHost:
    made = with_docker(FakeHost("db-1"), "/opt/app")
    made.files |= {f"/opt/app/{name.replace('_', '.')}": file for name, file in files.items()}
    return made


def apply(on: FakeHost, *resources: Resource) -> Run:
    run = Run(context(), {"db-1": on}, FakeHost("controller"))
    run.apply([step(stage(*(("db-1", resource) for resource in resources)))])
    return run


def plan(on: FakeHost, resource: Resource) -> tuple[str, ...]:
    run = Run(context(), {"db-1": on}, FakeHost("controller"))
    return run.plan([step(stage(("db-1", resource)))]).outcomes[0].lines


def status(run: Run) -> list[Status]:
    return [outcome.status for outcome in run.report.outcomes]


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize(
    ("there", "commands"),
    [
        (None, [["write", PATH, "999:999", "0600"]]),
        (FakeFile(b"new\n", "999:999", 0o600), []),
        (FakeFile(b"old\n", "999:999", 0o600), [["write", PATH, "999:999", "0600"]]),
        (FakeFile(b"old\n", "0:0", 0o644), [["write", PATH, "999:999", "0600"]]),
        (FakeFile(b"new\n", "0:0", 0o600), [["chown", "999:999", PATH], ["chmod", "0600", PATH]]),
        (FakeFile(b"new\n", "999:999", 0o644), [["chown", "999:999", PATH], ["chmod", "0600", PATH]]),
    ],
    ids=["absent", "right", "content", "everything", "owner", "mode"],
)
def test_only_what_differs_is_changed(
    there: FakeFile | None, commands: list[list[str]], secret: bool
) -> None:
    on = host(**({"app_conf": replace(there)} if there else {}))
    run = apply(on, File(PATH, b"new\n", owner="999:999", mode=0o600, secret=secret))
    assert status(run) == [Status.CHANGED if commands else Status.OK]
    assert on.journal == commands
    assert on.files[PATH] == FakeFile(b"new\n", "999:999", 0o600)


def test_the_marker_is_removed_before_the_content_is_written() -> None:
    """A run that dies in between leaves a reload to be done, not an old configuration that counts as loaded."""
    on = host(app_conf=FakeFile(b"old\n"), loaded=FakeFile(b"config=old"))
    apply(on, File(PATH, b"new\n", marker=MARKER))
    assert on.journal == [["rm", "-f", MARKER], ["write", PATH, "0:0", "0644"]]


def test_the_marker_stays_while_only_owner_or_mode_change() -> None:
    on = host(app_conf=FakeFile(b"new\n", mode=0o600), loaded=FakeFile(b"config=old"))
    apply(on, File(PATH, b"new\n", marker=MARKER))
    assert MARKER in on.files


def test_the_check_comes_before_everything_and_stops_it() -> None:
    on = host(app_conf=FakeFile(b"old\n"), loaded=FakeFile(b"config=old"))

    def check(site: object, content: bytes) -> None:
        assert content == b"new\n"
        assert on.journal == []
        raise NotConverged("HAProxy would not load it")

    run = apply(on, File(PATH, b"new\n", marker=MARKER, check=check))
    (failed,) = run.report.of(Status.FAILED)
    assert failed.error is not None
    assert failed.error.message == "HAProxy would not load it"
    assert on.journal == []
    assert on.files[PATH].content == b"old\n"


def test_a_plan_shows_the_lines_of_a_file() -> None:
    on = host(app_conf=FakeFile(b"a 1\nb 2\nc 3\n", mode=0o600))
    assert plan(on, File(PATH, b"a 1\nb 9\nc 3\n")) == ("mode: 0600 → 0644", "-b 2", "+b 9")
    assert on.journal == []


def test_a_long_difference_is_cut() -> None:
    on = host(app_conf=FakeFile(b""))
    lines = plan(on, File(PATH, b"".join(b"line %d\n" % number for number in range(100))))
    assert len(lines) == 41
    assert lines[0] == "+line 0"
    assert lines[-1] == "… 60 more lines"


def test_nothing_of_a_secret_file_is_shown() -> None:
    on = host(app_conf=FakeFile(b"password=old-secret\n"))
    file = File(PATH, b"password=new-secret\n", secret=True, mode=0o600)
    assert plan(on, file) == ("content: differs → matches", "mode: 0644 → 0600")
    (output,) = on.read([file.facts[0]]).values()  # type: ignore[list-item]
    assert "old-secret" not in output.stdout


def test_nothing_of_a_secret_file_is_shown_even_if_it_was_read() -> None:
    file = File(PATH, b"password=new-secret\n", secret=True)
    knowledge = Knowledge()
    read = FileState("0:0", 0o644, digest(b"x", secret=True), "password=old-secret\n")
    knowledge.put("db-1", {FileFact(PATH).key: read})
    assert compare(Placed("db-1", file), Facts(knowledge, "db-1")).lines == ("content: differs → matches",)


def test_the_digest_of_a_secret_is_keyed_and_that_of_others_is_not() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(b"abc", secret=True) != digest(b"abc")
    assert digest(b"abc", secret=True) == digest(RUN_KEY.encode() + b"abc")
    assert len(RUN_KEY) == 32


def test_a_content_made_of_facts_waits_for_them() -> None:
    fact = ValueFact("memory")
    other = FakeHost("db-2", answers={ValueFact: answer_value})
    file = File(PATH, lambda facts: f"memory={facts.get(fact, 'db-2')}".encode(), sources=[("db-2", fact)])
    on = host()
    run = Run(context(), {"db-1": on, "db-2": other}, FakeHost("controller"))
    put(other, memory="?")
    assert run.plan([step(stage(("db-1", file)))]).outcomes[0].status is Status.UNKNOWN
    put(other, memory="8GB")
    run = Run(context(), {"db-1": on, "db-2": other}, FakeHost("controller"))
    assert run.apply([step(stage(("db-1", file)))]).outcomes[0].status is Status.CHANGED
    assert on.files[PATH].content == b"memory=8GB"


def test_the_impact_is_the_readers_and_none_for_a_file_that_nobody_has_read() -> None:
    file = File(PATH, b"new\n", impact=Impact.RELOAD)
    for on, impact in ((host(), Impact.NONE), (host(app_conf=FakeFile(b"old\n")), Impact.RELOAD)):
        run = Run(context(), {"db-1": on}, FakeHost("controller"))
        assert run.plan([step(stage(("db-1", file)))]).outcomes[0].impact is impact


# --- what a shell says -------------------------------------------------------------------------------


def asked(fact: ShellFact[object]) -> Output:
    done = subprocess.run(["sh", "-c", fact.script], capture_output=True, timeout=30)
    return Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode())


CONTENTS = [
    b"",
    b"\n",
    b"one line",
    b"two\nlines\n",
    b"\n\nblank first",
    "ünï €\n".encode(),
    b"quote ' and $HOME\n",
]


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("content", CONTENTS)
def test_a_real_file_is_read_whole(tmp_path: Path, content: bytes, secret: bool) -> None:
    path = tmp_path / "a 'file' with $odd name"
    path.write_bytes(content)
    path.chmod(0o640)
    fact = FileFact(str(path), secret)
    found = fact.parse(asked(fact))
    assert found is not None
    assert (found.owner, found.mode) == (f"{os.getuid()}:{os.getgid()}", 0o640)
    assert found.digest == digest(content, secret=secret)
    assert found.text == (None if secret else content.decode())


def test_nothing_there(tmp_path: Path) -> None:
    for fact in (FileFact(str(tmp_path / "none")), DirectoryFact(str(tmp_path / "none"))):
        assert fact.parse(asked(fact)) is None


def test_a_directory_where_a_file_belongs_is_unknown(tmp_path: Path) -> None:
    fact = FileFact(str(tmp_path))
    with pytest.raises(NotKnown, match=r"cannot be read: .*Is a directory"):
        fact.parse(asked(fact))


def test_a_real_directory(tmp_path: Path) -> None:
    path = tmp_path / "a 'directory'"
    path.mkdir()
    path.chmod(0o2750)
    fact = DirectoryFact(str(path))
    assert fact.parse(asked(fact)) == (f"{os.getuid()}:{os.getgid()}", 0o2750)
    path.rmdir()
    path.write_text("")
    with pytest.raises(NotKnown, match="is a regular empty file, not a directory"):
        fact.parse(asked(fact))


# --- many at once ------------------------------------------------------------------------------------


def test_many_paths_are_each_answered_as_alone(tmp_path: Path) -> None:
    for name, content in (("a", b"one\ntwo"), ("it's; $b\n", b""), ("c", b"\n\n7 7\n"), ("*", b"\0\xff")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o640)
    (tmp_path / "directory").mkdir(0o701)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nowhere")
    names = ["none", "a", "it's; $b\n", "c", "*", "link", "dangling", "directory", "at last none"]
    facts: list[FileFact | DirectoryFact] = [
        *(FileFact(str(tmp_path / name), secret=at % 2 == 0) for at, name in enumerate(names)),
        *(DirectoryFact(str(tmp_path / name)) for name in names),
    ]
    together = LocalHost().read(facts)
    alone = {fact.key: asked(fact) for fact in facts}
    for fact in facts:
        found, wanted = together[fact.key], alone[fact.key]
        assert (found.status, found.stdout) == (wanted.status, wanted.stdout), fact
    assert {found.status for found in together.values()} == {0, 1, 44}


def test_none_of_many_is_there(tmp_path: Path) -> None:
    facts = [FileFact(str(tmp_path / name)) for name in "abc"]
    answers = LocalHost().read(facts)
    assert [fact.parse(answers[fact.key]) for fact in facts] == [None, None, None]


@pytest.mark.parametrize(
    "fault",
    [
        'case "$*" in *broken*) exit 1;; esac',  # as for what disappears meanwhile, or cannot be read
        '[ $# -lt 5 ] || { echo 0:0 644; exit 0; }; case "$*" in *broken*) exit 1;; esac',  # a line too few
    ],
)
def test_a_path_that_stat_refuses_does_not_hide_the_others(fault: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "stat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{fault}\nexec /usr/bin/stat "$@"\n')
    program.chmod(0o755)
    for name in ("a", "broken"):
        (tmp_path / name).write_text(name)
    facts = [FileFact(str(tmp_path / name)) for name in ("a", "broken")]
    answers = answers_of(facts, programs=program.parent)
    found = facts[0].parse(answers[facts[0].key])
    assert found is not None
    assert found.text == "a"
    with pytest.raises(NotKnown, match="broken cannot be read"):
        facts[1].parse(answers[facts[1].key])


# --- directories -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "changes"),
    [
        (None, True),
        (FakeDirectory("999:999", 0o700), False),
        (FakeDirectory("0:0", 0o700), True),
        (FakeDirectory("999:999", 0o755), True),
    ],
    ids=["absent", "right", "owner", "mode"],
)
def test_a_directory_gets_owner_and_mode(there: FakeDirectory | None, changes: bool) -> None:
    on = host()
    if there:
        on.directories["/opt/data"] = replace(there)
    run = apply(on, Directory("/opt/data", owner="999:999", mode=0o700))
    command = ["install", "-d", "-o", "999", "-g", "999", "-m", "0700", "/opt/data"]
    assert on.journal == ([command] if changes else [])
    assert status(run) == [Status.CHANGED if changes else Status.OK]
    assert on.directories["/opt/data"] == FakeDirectory("999:999", 0o700)


def test_absent_is_said_as_absent() -> None:
    knowledge = Knowledge()
    resources: Sequence[tuple[Resource, Fact[object]]] = [
        (File(PATH, b""), FileFact(PATH)),
        (Directory("/opt/x"), DirectoryFact("/opt/x")),
    ]
    for resource, fact in resources:
        knowledge.put("db-1", {fact.key: None})
        facts = Facts(knowledge, "db-1")
        assert resource.have(facts) is ABSENT
        assert compare(Placed("db-1", resource), facts).lines == ("create",)
