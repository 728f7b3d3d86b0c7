"""A login that is not root where sudo wants a password. The server has users, and an /etc, of its own."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kbpg.asking import Asking, SudoPasswords
from kbpg.engine.lock import Locks
from kbpg.errors import AccessDenied, CommandFailed, CommandTimeout, HostError
from kbpg.hosts.attached import attached, interact
from kbpg.hosts.ssh import SshHost, connect
from kbpg.hosts.terminal import Terminal
from kbpg.secret import Secret

from .conftest import DEADLINE, Settings, free_port, make_key, missing, stop, wait_for

PASSWORD = "it's a $ecret \\ wörd"
OTHER = "the other one"

START = """\
set -eu
mount -t tmpfs tmpfs /mnt
cp -a /etc /mnt/etc
mount --bind /mnt/etc /etc
for directory in /home /run /var/lib/sudo /var/mail; do
  mkdir -p "$directory"
  mount -t tmpfs tmpfs "$directory"
done
mkdir -p /run/sshd /etc/keys
listen=
for number in 1 2 3 4; do
  listen="$listen -o ListenAddress=127.0.0.$number"
done
for user in ops twin plain; do
  useradd --create-home --shell /bin/bash "$user"
  cp "$2" "/etc/keys/$user"
done
chpasswd <"$3"
printf '%s\\n' 'ops ALL=(ALL) ALL' 'twin ALL=(ALL) ALL' 'Defaults:twin lecture=always,use_pty' >/etc/sudoers.d/kbpg
sed -i 's/pam_unix.so/& nodelay/' /etc/pam.d/common-auth
ssh-keygen -q -t ed25519 -N '' -f /etc/keys/host
exec "$4" -D -e -p "$1" -h /etc/keys/host $listen -o StrictModes=no -o UsePAM=no \\
  -o PidFile=none -o AuthorizedKeysFile=/etc/keys/%u
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An sshd with users `ops` and `twin`, who may sudo with their passwords, and `plain`, who may not."""
    if reason := missing():
        pytest.skip(reason)
    if not shutil.which("sudo"):
        pytest.skip("no sudo")
    unshare = ["unshare", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    directory, port = tmp_path_factory.mktemp("sudo"), free_port()
    key = make_key(directory / "id")
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program is not None
    words = [
        *unshare,
        "sh",
        "-c",
        START,
        "start",
        str(port),
        f"{key}.pub",
        str(directory / "passwords"),
        program,
    ]
    (directory / "passwords").write_text(f"ops:{PASSWORD}\ntwin:{OTHER}\nplain:{PASSWORD}\n")
    with (directory / "sshd.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    wait_for(process, port, directory)
    yield Settings(port, key, directory / "known_hosts")
    stop(process)


@dataclass
class Person:
    """Who is asked, and types one password after the other."""

    types: list[str]
    asked: list[str] = field(default_factory=list)

    def secret(self, question: str) -> Secret | None:
        self.asked.append(question)
        return Secret(self.types.pop(0)) if self.types else None

    @property
    def asking(self) -> Asking:
        return Asking(lambda question: pytest.fail(question), self.secret)


@dataclass
class Notes:
    """A journal."""

    all: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def record(self, host: str, command: Any, *, sent: int = 0, **how: object) -> None:
        self.all.append(tuple(command))
        self.sent.append(sent)

    def mask(self, text: str) -> str:
        return text


def reach(
    server: Settings, who: Person | None = None, passwords: SudoPasswords | None = None, **changes: Any
) -> SshHost:
    name, journal = changes.pop("name", "db-1"), changes.pop("journal", None)
    settings = server.but(**{"user": "ops", **changes})
    return connect(
        name,
        "127.0.0.1",
        settings,
        journal=journal,
        ask=who.asking if who else None,
        accept_new=True,
        passwords=passwords or SudoPasswords(),
    )


class Ask:
    key = "who"
    script = "id -u; id -un >&2; cat"


@pytest.fixture(scope="module")
def known(server: Settings) -> SudoPasswords:
    passwords = SudoPasswords()
    reach(server, Person([PASSWORD]), passwords).close()
    return passwords


@pytest.fixture
def ops(server: Settings, known: SudoPasswords) -> Iterator[SshHost]:
    with reach(server, None, known) as host:
        yield host


def test_everything_is_done_as_root(ops: SshHost) -> None:
    assert ops.run(["id", "-u"]).stdout == "0\n"
    assert b"".join(ops.stream(["id", "-u"])) == b"0\n"
    answer = ops.read([Ask()])["who"]
    assert (answer.stdout, answer.stderr) == ("0\n", "root\n")
    ops.write("/home/kbpg-try", b"x\n", owner="0:0", mode=0o600)
    assert ops.run(["stat", "-c", "%u %a %s", "/home/kbpg-try"]).stdout == "0 600 2\n"


@pytest.mark.parametrize("given", [b"", b"\n", b"one\ntwo", b"\0\xff"])
def test_a_command_reads_what_it_is_given_and_not_the_password(ops: SshHost, given: bytes) -> None:
    assert ops.run(["od", "-An", "-tx1"], stdin=given).stdout.split() == [f"{byte:02x}" for byte in given]
    assert ops.run(["sh", "-c", 'printf %s "$*" "$0"', "a b", "", "'c'"]).stdout == " 'c'a b"


def test_input_goes_through_sudo(ops: SshHost) -> None:
    assert ops.run(["wc", "-c"], stdin=(b"x" * 100_000 for _ in range(50))).stdout == "5000000\n"


def test_failures_and_deadlines_are_those_of_the_command(ops: SshHost) -> None:
    with pytest.raises(CommandFailed, match="exit code 3") as caught:
        ops.run(["sh", "-c", "echo no >&2; exit 3"])
    assert caught.value.detail == ("no",)
    with pytest.raises(CommandTimeout):
        ops.run(["sleep", "64.7"], timeout=0.5)
    assert ops.run(["pgrep", "-f", "^sleep 64.7$"], check=False).status == 1


def test_the_lock_is_root_s_too(ops: SshHost) -> None:
    with Locks.acquire([ops], who="root@here", doing="apply-all"):
        assert ops.run(["stat", "-c", "%u", "/run/kbpg.lock"]).stdout == "0\n"
        assert ops.run(["flock", "--nonblock", "/run/kbpg.lock", "true"], check=False).status == 1
    assert ops.run(["flock", "--nonblock", "/run/kbpg.lock", "true"]).ok


def test_what_is_held_reads_its_input_as_it_comes(ops: SshHost) -> None:
    command = ["sh", "-c", "echo ready $(id -u); read -r line; echo $line >/home/said"]
    held = ops.hold(command, shown="a test", marker="ready", timeout=5)
    assert held.answer.strip() == "0"
    assert held.send(b"said\n")
    held.release()
    assert ops.run(["cat", "/home/said"]).stdout == "said\n"


def test_a_person_may_be_attached(ops: SshHost) -> None:
    with attached(ops, ["sh", "-c", "id -u; cat"], shown=("psql",), stdin=b"select 1\n") as running:
        assert b"".join(data for _, data in running.output) == b"0\nselect 1\n"
    assert running.status == 0


class Screen(Terminal):
    """A terminal whose person types a line, and which keeps what is shown."""

    def __init__(self) -> None:
        self.shown = b""

    def join(self, channel: Any, link: object) -> None:
        channel.settimeout(DEADLINE)
        while b"ready" not in self.shown:
            self.shown += channel.recv(1000)
        channel.sendall(b"typed\n")
        while data := channel.recv(1000):
            self.shown += data
        channel.status_event.wait(1)


@pytest.mark.parametrize("user", ["ops", "twin"])
def test_a_terminal_shows_what_is_typed_and_not_the_password(server: Settings, user: str) -> None:
    """`twin` has the defaults of newer versions of sudo: a terminal behind the terminal."""
    screen = Screen()
    script = 'echo ready; read -r line; echo "<$line>"; stty -a | grep -ow echo; tty; exit 3'
    with reach(server, Person([PASSWORD if user == "ops" else OTHER]), user=user) as host:
        status = interact(host, ["sh", "-c", script], shown=("psql",), terminal=screen)
    words = screen.shown.split()
    assert (status, words[-5:-1]) == (3, [b"ready", b"typed", b"<typed>", b"echo"])
    assert words[-1].startswith(b"/dev/pts/")
    assert not {word.encode() for word in (*PASSWORD.split()[2:], "other")} & set(words)


def test_the_password_is_in_no_argument_environment_or_journal(
    server: Settings, known: SudoPasswords
) -> None:
    notes = Notes()
    with reach(server, None, known, journal=notes) as host:
        look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
        found = host.run(["sh", "-c", look]).stdout
        host.run(["cat"], stdin=b"four")
    assert "tr" in found
    assert PASSWORD not in found
    assert "ecret" not in str(notes.all)
    assert notes.sent == [0, 4]


# --- who is asked, and how often


def test_one_answer_does_for_all_hosts_and_for_the_run(server: Settings) -> None:
    person, passwords, learnt = Person([PASSWORD]), SudoPasswords(), []
    passwords.learnt_by(lambda secrets: learnt.extend(secret.reveal() for secret in secrets))

    def attempt(number: int) -> str:
        with reach(server, person, passwords, name=f"db-{number}") as host:
            return host.run(["id", "-u"]).stdout

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, range(4))) == ["0\n"] * 4
    assert len(person.asked) == 1
    assert "password of ops" in person.asked[0]
    with reach(server, None, passwords) as host:
        assert host.run(["id", "-u"]).stdout == "0\n"
    assert learnt == [PASSWORD]


def test_a_mistyped_password_is_asked_for_again(server: Settings) -> None:
    person = Person(["wrong", PASSWORD])
    with reach(server, person, None) as host:
        assert host.run(["id", "-u"]).stdout == "0\n"
    assert len(person.asked) == 2
    assert "did not take that" in person.asked[1]


@pytest.mark.parametrize(("types", "asked"), [(["a", "b", "c", PASSWORD], 3), (["wrong", ""], 2), ([], 1)])
def test_nobody_is_asked_for_ever(server: Settings, types: list[str], asked: int) -> None:
    person, passwords = Person(types), SudoPasswords()
    with pytest.raises(AccessDenied, match="db-1: ops may not become root without a password") as caught:
        reach(server, person, passwords)
    assert caught.value.detail == ("sudo was given no password that it takes",)
    with pytest.raises(AccessDenied):
        reach(server, person, passwords, name="db-2")
    assert len(person.asked) == asked


def test_where_nobody_is_there_the_error_says_what_can_be_done(server: Settings) -> None:
    with pytest.raises(AccessDenied) as caught:
        reach(server)
    assert caught.value.lines() == [
        "db-1: ops may not become root without a password",
        "  sudo: a password is required",
        "hint: with visudo add `ops ALL=(ALL) NOPASSWD: ALL`, or set `ssh.user: root`; at a terminal kbpg asks for "
        "the password, elsewhere KBPG_SUDO_PASSWORD may hold it",
    ]


def test_another_user_has_another_password_and_a_lecture_is_no_output(server: Settings) -> None:
    person, passwords = Person([PASSWORD, OTHER]), SudoPasswords()
    reach(server, person, passwords).close()
    with reach(server, person, passwords, user="twin") as host:
        assert host.run(["id", "-u"]).stdout == "0\n"
        assert host.read([Ask()])["who"].stdout == "0\n"
        assert host.run(["cat"], stdin=b"x" * 3_000_000).stdout == "x" * 3_000_000
    assert "password of twin" in person.asked[1]


def test_a_host_with_another_password_of_the_same_user_is_asked_about(server: Settings) -> None:
    person, passwords = Person([PASSWORD]), SudoPasswords()
    passwords.taken("ops", Secret("that of another host"))
    reach(server, person, passwords).close()
    assert "another password of ops" in person.asked[0]


def test_the_environment_may_hold_the_password(server: Settings) -> None:
    environment = {"KBPG_SUDO_PASSWORD": PASSWORD}
    passwords = SudoPasswords.from_environment(environment)
    assert environment == {}
    with reach(server, None, passwords) as host:
        assert host.run(["id", "-u"]).stdout == "0\n"


def test_a_wrong_one_of_the_environment_is_tried_once(server: Settings) -> None:
    passwords = SudoPasswords.from_environment({"KBPG_SUDO_PASSWORD": "wrong"})
    for name, said in (
        ("db-1", "sudo does not take the password in KBPG_SUDO_PASSWORD"),
        ("db-2", "sudo: a password is required"),
    ):
        with pytest.raises(AccessDenied) as caught:
            reach(server, Person([PASSWORD]), passwords, name=name)
        assert caught.value.detail == (said,)


def test_a_right_password_of_a_user_who_may_not_is_told_as_that(server: Settings) -> None:
    person = Person([PASSWORD])
    with pytest.raises(AccessDenied) as caught:
        reach(server, person, None, user="plain")
    assert str(caught.value) == "db-1: plain may not become root, even with the right password"
    assert "not in the sudoers file" in "".join(caught.value.detail)
    assert caught.value.hint == "with visudo add `plain ALL=(ALL) ALL`, or set `ssh.user: root`"
    assert len(person.asked) == 1


def test_a_password_that_is_no_longer_wanted_reaches_no_command(server: Settings, ops: SshHost) -> None:
    ops.run(["sh", "-c", "echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz"])
    try:
        assert ops.run(["cat"], stdin=b"mine").stdout == "mine"
        screen = Screen()
        script = 'echo ready; read -r line; echo "<$line>"'
        assert interact(ops, ["sh", "-c", script], shown=("psql",), terminal=screen) == 0
        assert b"<typed>" in screen.shown
        assert b"ecret" not in screen.shown
    finally:
        ops.run(["rm", "/etc/sudoers.d/zz"])
    assert ops.run(["cat"], stdin=b"mine").stdout == "mine"


def test_a_password_that_changed_meanwhile_is_an_error(server: Settings, ops: SshHost) -> None:
    with reach(server, None, SudoPasswords(Secret(PASSWORD))) as host:
        ops.run(["chpasswd"], stdin=b"ops:new\n")
        try:
            with pytest.raises(HostError, match="exit code 1"):
                host.run(["cat"], stdin=b"mine\nand\nmore\n")
        finally:
            with reach(server, Person(["new"])) as again:
                again.run(["chpasswd"], stdin=f"ops:{PASSWORD}\n".encode())


# --- the whole program, with somebody at a terminal


def test_the_program_asks_once_for_all_hosts(server: Settings, tmp_path: Path) -> None:
    lines = [
        "cluster: {name: test}",
        f"ssh: {{user: ops, port: {server.port}, key: {server.key}, known_hosts: known_hosts}}",
    ]
    for number, name in enumerate(("db-1", "db-2", "db-3", "proxy-1"), 1):
        lines += ["db:"] if number == 1 else ["proxies:"] if number == 4 else []
        host = f"ssh: {{host: 127.0.0.{number}}}"
        lines.append(f"  - {{name: {name}, address: 192.0.2.{number}, {host}}}")
    (tmp_path / "inventory.yaml").write_text("\n".join(lines) + "\n")
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "kbpg", "--accept-new-host-keys", "plan"]
    # getpass talks to the controlling terminal
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *program],
        cwd=tmp_path,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    prompt = b""
    while not prompt.endswith(b": "):
        prompt += os.read(ours, 1000)
    os.write(ours, f"{PASSWORD}\n".encode())
    said, _ = process.communicate(timeout=60)
    os.close(ours)
    assert prompt.count(b"password of ops") == 1
    assert b"may not become root" not in said
    assert PASSWORD.encode() not in said
    (journal,) = (tmp_path / ".kbpg/journal").iterdir()
    written = journal.read_text()
    assert {host for host in ("db-1", "db-2", "db-3", "proxy-1") if f'"{host}"' in written} == {
        "db-1",
        "db-2",
        "db-3",
        "proxy-1",
    }
    assert not re.findall(r"\$ecret|it.s a", written + said.decode())
