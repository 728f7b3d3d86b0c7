"""Generated, completed and written credentials."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.credentials import (
    NAMES,
    PASSWORDS,
    Credentials,
    Found,
    all_secrets,
    complete,
    generate,
    load,
    parse,
    render,
    write,
)
from kbpg.credentials.limits import password_problems
from kbpg.errors import CredentialsError
from kbpg.secret import Secret

TRICKY = Secret("a'b\"c$d\\e%f@g:h/i ü")
HAND_WRITTEN = """# ours

export POSTGRES_SUPERUSER="kb_admin" # people
BACKUP_KEY=left-alone
POSTGRES_APP_PASS=ch'ang\\ed'\\ by\\ hand
POSTGRES_APP_USER=kb_app
POSTGRES_SUPERPASS=superpass"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def found_in(text: Secret) -> Found:
    return parse(text.reveal(), path="f")


def test_generated_passwords_are_strong_plain_and_different() -> None:
    credentials = generate("kb_admin", "kb_app")
    assert (credentials.superuser, credentials.app_user) == ("kb_admin", "kb_app")
    passwords = [secret.reveal() for secret in all_secrets(credentials)]
    assert len(set(passwords)) == len(PASSWORDS) == 7
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", password) for password in passwords)
    assert generate("kb_admin", "kb_app") != credentials


def test_credentials_and_the_file_have_the_same_parts() -> None:
    credentials = generate("kb_admin", "kb_app")
    secret_fields = {field.name for field in fields(Credentials) if field.type == "Secret"}
    assert secret_fields == set(PASSWORDS.values())
    assert list(credentials.values()) == list(NAMES)
    assert {secret for secret in credentials.values().values() if len(secret.reveal()) == 32} == set(
        all_secrets(credentials)
    )


def test_credentials_do_not_show_their_passwords() -> None:
    credentials = replace(generate("kb_admin", "kb_app"), app_password=Secret("hunter2hunter2"))
    assert "hunter2" not in repr(credentials)


def test_a_rendered_file_reads_back_and_renders_the_same() -> None:
    credentials = replace(generate("kb_admin", "kb_app"), app_password=TRICKY, superuser_password=TRICKY)
    text = render(credentials)
    found = found_in(text)
    assert complete(found) == credentials
    assert found.missing == ()
    assert render(credentials, found) == text


def test_a_file_with_the_four_names_gets_the_others_appended() -> None:
    found = parse(HAND_WRITTEN, path="f")
    credentials = complete(found)
    assert (credentials.superuser, credentials.app_user) == ("kb_admin", "kb_app")
    assert credentials.superuser_password == Secret("superpass")
    assert credentials.app_password == Secret("chang\\ed by hand")
    text = render(credentials, found).reveal()
    assert text.startswith(HAND_WRITTEN + "\n# added by kbpg\nPOSTGRES_REPLICATION_PASS='")
    added = text.removeprefix(HAND_WRITTEN).splitlines()[2:]
    assert [line.partition("=")[0] for line in added] == list(found.missing)
    assert len(added) == 5
    again = found_in(Secret(text))
    assert complete(again) == credentials
    assert render(credentials, again) == Secret(text)


def test_a_changed_password_changes_its_value_and_nothing_else() -> None:
    found = found_in(render(complete(parse(HAND_WRITTEN, path="f")), parse(HAND_WRITTEN, path="f")))
    credentials = replace(complete(found), app_password=TRICKY, superuser_password=Secret("another one"))
    text = render(credentials, found).reveal()
    before, after = found.text.reveal().splitlines(), text.splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [
        "POSTGRES_APP_PASS='a'\\''b\"c$d\\e%f@g:h/i ü'",
        "POSTGRES_SUPERPASS='another one'",
    ]
    assert complete(found_in(Secret(text))) == credentials


PASSWORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "),
    min_size=8,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(PASSWORD, st.sampled_from(["sh", "bash"]))
def test_the_shell_sources_what_was_rendered(
    tmp_path_factory: pytest.TempPathFactory, password: str, program: str
) -> None:
    assert list(password_problems("POSTGRES_APP_PASS", Secret(password))) == []
    file = tmp_path_factory.getbasetemp() / "sourced.env"
    credentials = replace(generate("kb_admin", "kb_app"), app_password=Secret(password))
    write(file, render(credentials))
    script = f'. "{file}"; printf %s "$POSTGRES_APP_PASS"'
    done = subprocess.run([program, "-c", script], capture_output=True, timeout=20, check=True)
    assert done.stdout.decode("utf-8") == password
    found = load(file)
    assert found is not None
    assert complete(found) == credentials


def test_written_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "credentials" / "postgres.env"
    previous = os.umask(0)
    try:
        write(file, Secret("one\n"))
    finally:
        os.umask(previous)
    assert file.read_text() == "one\n"
    assert (mode(file), mode(file.parent), mode(file.parent.parent)) == (0o600, 0o700, 0o700)
    assert names(file.parent) == ["postgres.env"]


def test_a_strict_umask_does_not_lock_the_owner_out(tmp_path: Path) -> None:
    previous = os.umask(0o777)
    try:
        write(tmp_path / "postgres.env", Secret("one\n"))
    finally:
        os.umask(previous)
    assert mode(tmp_path / "postgres.env") == 0o600


def test_writing_tightens_the_mode_and_leaves_the_directory_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "postgres.env"
    file.write_text("old")
    file.chmod(0o666)
    (tmp_path / ".postgres.env.new").write_text("what a killed kbpg left behind")
    write(file, Secret("new"))
    assert (file.read_text(), mode(file), mode(tmp_path)) == ("new", 0o600, 0o755)
    assert names(tmp_path) == ["postgres.env"]


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "vault" / "postgres.env"
    link = tmp_path / "postgres.env"
    link.symlink_to(target)
    write(link, Secret("new"))
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_file_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "postgres.env"):
        with pytest.raises(CredentialsError, match=r"cannot be written: (is|not) a directory") as caught:
            write(path, Secret("hunter2"))
        assert "hunter2" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "postgres.env"
    write(file, Secret("first"))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CredentialsError, match="another kbpg is writing it"):
            write(file, Secret("second"))
    finally:
        os.close(descriptor)
    assert file.read_text() == "first"
    write(file, Secret("second"))
    assert file.read_text() == "second"


WRITER = """
import sys
from kbpg.credentials import write
from kbpg.secret import Secret
print("started", flush=True)
while True:
    for letter in "ab":
        write(sys.argv[1], Secret(letter * 200_000))
"""


@pytest.mark.parametrize("milliseconds", [1, 3, 7, 15, 40])
def test_killed_while_writing_leaves_a_whole_file(tmp_path: Path, milliseconds: int) -> None:
    file = tmp_path / "postgres.env"
    write(file, Secret("a" * 200_000))
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"started\n"
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(milliseconds / 1000)
        writer.send_signal(signal.SIGKILL)
    assert file.read_text() in {"a" * 200_000, "b" * 200_000}
    assert mode(file) == 0o600
    write(file, Secret("next"))
    assert names(tmp_path) == ["postgres.env"]
