"""Credentials files as users write them, and broken ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kbpg.credentials import check_users, load, parse, shell
from kbpg.errors import CredentialsError, Exit

BROKEN = sorted((Path(__file__).parent / "credentials").glob("*.env"))
SHELLS = [path for path in map(shutil.which, ("sh", "dash", "bash")) if path]
TRICKY = "a'b\"c$d\\e%f@g:h/i ü"
MISSION = "POSTGRES_SUPERUSER=kb_admin\nPOSTGRES_SUPERPASS=superpass\nPOSTGRES_APP_USER=kb_app\n"


def app_password(line_value: str, key: str = "POSTGRES_APP_PASS") -> str:
    return parse(f"{MISSION}{key}={line_value}\n", path="f").values["POSTGRES_APP_PASS"].reveal()


def problems(text: str) -> list[str]:
    with pytest.raises(CredentialsError) as caught:
        parse(text, path="f")
    return caught.value.message.splitlines()


def test_there_are_broken_files() -> None:
    assert len(BROKEN) >= 10


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_file(path: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        load(path)
    shown = "\n".join(caught.value.lines()) + "\n"
    assert shown.replace(str(path), "FILE") == path.with_suffix(".txt").read_text("utf-8")
    assert "hunter2" not in shown, "all values in these files contain it"
    assert caught.value.exit_code is Exit.INPUT


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("barewords", "barewords"),
        ("'single $quoted`'", "single $quoted`"),
        ('"double \\"\\$\\`\\\\ \\e quoted"', 'double "$`\\ \\e quoted'),
        ("'it'\\''s quoted'", "it's quoted"),
        ("bare'single'\"double\"\\ escaped", "baresingledouble escaped"),
        ("has#hash", "has#hash"),
        ("comment12 # not this", "comment12"),
        ("'comment12'\t# not this", "comment12"),
        ("starry*[?]{a,b}", "starry*[?]{a,b}"),
        ("tilde~~~", "tilde~~~"),
        ("\\~tilde:\\~", "~tilde:~"),
        ("üñîçøđé😀", "üñîçøđé😀"),
        ("'a'\\''b\"c$d\\e%f@g:h/i ü'", TRICKY),
        ('"a\'b\\"c\\$d\\\\e%f@g:h/i ü"', TRICKY),
    ],
)
def test_a_value_is_read_as_a_shell_reads_it(written: str, value: str, tmp_path: Path) -> None:
    assert app_password(written) == value
    assert sourced(f"POSTGRES_APP_PASS={written}\n", tmp_path) == {value}


def test_export_blank_lines_comments_and_foreign_names() -> None:
    text = (
        "\n# a comment with $(things) `in` it\n \t# indented\n"
        "  export\tPOSTGRES_SUPERUSER=kb_admin\nexport POSTGRES_SUPERPASS='superpass'\n"
        "POSTGRES_APP_USER=kb_app\nPOSTGRES_APP_PASS=app-password\n"
        "BACKUP_BUCKET=\nBACKUP_KEY='short'\nBACKUP_KEY='tab\there'"
    )
    found = parse(text, path="f", mode=0o640)
    assert dict(found.lines) == {
        "POSTGRES_SUPERUSER": 4,
        "POSTGRES_SUPERPASS": 5,
        "POSTGRES_APP_USER": 6,
        "POSTGRES_APP_PASS": 7,
    }
    start, end = found.spans["POSTGRES_SUPERPASS"]
    assert text[start:end] == "'superpass'"
    assert found.too_open
    assert set(found.missing).isdisjoint(found.lines)


def test_nothing_found_shows_a_password() -> None:
    found = parse(f"{MISSION}POSTGRES_APP_PASS=hunter2hunter2\n", path="f")
    assert "hunter2" not in repr(found)
    assert "superpass" not in repr(found)


def test_every_problem_is_reported_at_once_in_the_order_of_the_lines() -> None:
    text = "POSTGRES_APP_PASS=$X\nPOSTGRES_SUPERPASS=short\nPOSTGRES_APP_USER=\n"
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["f:1", "POSTGRES_APP_PASS"],
        ["f:2", "POSTGRES_SUPERPASS"],
        ["f:3", "POSTGRES_APP_USER"],
        ["f:3", "POSTGRES_SUPERUSER"],
    ]


@pytest.mark.parametrize("written", ["a*b", "a?b", "[ab]", "{a,b}"])
def test_patterns_after_export_are_refused(written: str) -> None:
    text = f"{MISSION}export POSTGRES_APP_PASS={written}password\n"
    assert "f:4: POSTGRES_APP_PASS: an unquoted" in problems(text)[0]


def sourced(text: str, directory: Path) -> set[str]:
    """Return what the shells make of POSTGRES_APP_PASS, in an empty directory and with no command to find."""
    file = directory / "postgres.env"
    file.write_text(text, "utf-8")
    values = set()
    for program in SHELLS:
        done = subprocess.run(
            [program, "-c", '. ./postgres.env; printf %s "$POSTGRES_APP_PASS"'],
            cwd=directory,
            env={"PATH": str(directory), "HOME": "/home/somebody", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert not done.stderr
        values.add(done.stdout.decode("utf-8"))
    return values


@pytest.fixture(scope="module")
def empty_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shell")


BARE = ("a", ":", "=", "~", "#", "!!", "%", "*", "{x,y}", " ", "ü")
ESCAPED = (r"\'", r"\$HOME", r"\ ", r"\*", r"\&", r"\|", r"\\")
SINGLE = ("'b c'", "'\"'", "'$HOME'", "'~'", "''", "'\\'", "'|'", "';'", "'\t'")
DOUBLE = ('"d e"', '"\'"', r'"\""', r'"\$HOME"', r'"\`id\`"', r'"\n"', '""', r'"\\"', '"<"')
PIECES = st.sampled_from(BARE + ESCAPED + SINGLE + DOUBLE)
WRITTEN = st.one_of(
    st.lists(PIECES, max_size=8).map("".join),
    st.text(st.sampled_from("ab=:~#'\"\\$`*?[]{},!^ \t%ü-+@"), max_size=12),
)


@settings(max_examples=150, deadline=None)
@given(WRITTEN, st.booleans())
@example("a:~", False)
@example("'a'#b", False)
@example("~", True)
@example("a=~", True)
def test_whatever_is_accepted_is_what_the_shells_see(
    empty_directory: Path, written: str, exported: bool
) -> None:
    line = f"{'export ' if exported else ''}POSTGRES_APP_PASS={written}"
    try:
        found = shell.assignment(line)
    except shell.ShellSyntaxError:
        assume(False)
        raise AssertionError from None
    assert found is not None
    assert sourced(line + "\n", empty_directory) == {found.value.reveal()}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60).map(lambda text: text.replace("\n", " ")))
def test_no_message_shows_a_part_of_the_value(garbage: str) -> None:
    text = f"{MISSION}POSTGRES_APP_PASS=hunter2{garbage}hunter2\nhunter2{garbage}hunter2\nRAFT_PASS=$\n"
    for line in problems(text):
        assert "hunter2" not in line


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text, path="f")
    except CredentialsError as exc:
        lines = exc.message.split("\n")
    else:
        assert found.text.reveal() == text
        return
    assert all(re.match(r"f:[0-9]+: [^\n]+", line) for line in lines)


def test_users_are_those_of_the_inventory() -> None:
    found = parse(f"{MISSION}POSTGRES_APP_PASS=app-password\n", path="f")
    check_users(found, superuser="kb_admin", app_user="kb_app")
    with pytest.raises(CredentialsError) as caught:
        check_users(found, superuser="root", app_user="shop")
    assert caught.value.message.splitlines() == [
        "f:1: POSTGRES_SUPERUSER: is kb_admin, but cluster.superuser in the inventory is root",
        "f:3: POSTGRES_APP_USER: is kb_app, but cluster.app_user in the inventory is shop",
    ]
    assert caught.value.exit_code is Exit.INPUT


def refusal(path: Path) -> str:
    with pytest.raises(CredentialsError) as caught:
        load(path)
    return caught.value.message


def test_what_is_no_file(tmp_path: Path) -> None:
    assert load(tmp_path / "absent.env") is None
    assert refusal(tmp_path) == f"{tmp_path}: a directory: wanted a file"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: a named pipe: wanted a file"
    assert refusal(Path("/dev/zero")) == "/dev/zero: a device: wanted a file"
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert refusal(circle) == f"{circle}: cannot be read: too many levels of symbolic links"
    below_a_file = Path(__file__) / "postgres.env"
    assert refusal(below_a_file) == f"{below_a_file}: cannot be read: not a directory"
    large = tmp_path / "large.env"
    large.write_text("#" * 65_537)
    assert refusal(large) == f"{large}: more than 65536 bytes: not a credentials file"


def test_symbolic_links_are_followed_and_a_dangling_one_is_no_missing_file(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.env"
    link = tmp_path / "postgres.env"
    link.symlink_to(target)
    assert refusal(link) == f"{link}: a symbolic link to {target}, where there is no file"
    target.write_text(f"{MISSION}POSTGRES_APP_PASS=app-password\n")
    target.chmod(0o644)
    found = load(link)
    assert found is not None
    assert (found.path, found.mode, found.too_open) == (link, 0o644, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "postgres.env"
    file.write_text("")
    file.chmod(0)
    assert refusal(file) == f"{file}: cannot be read: permission denied for user {os.geteuid()}"
