"""What every host must do: the same tests for the fake, for a real sshd on this machine, and for the lab."""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kbpg.engine.lock import Locks
from kbpg.errors import CommandFailed, LockHeld
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output, Writer
from kbpg.hosts.ssh import SshHost, connect


@dataclass(frozen=True)
class Look:
    """Owner, mode and kind of a path, and what is in a file."""

    path: str

    @property
    def key(self) -> str:
        return f"look:{self.path}"

    @property
    def script(self) -> str:
        path = shlex.quote(self.path)
        return f"[ -e {path} ] || exit 44; stat -c '%u:%g %a %F' {path}; [ -d {path} ] || cat {path}"


@dataclass(frozen=True)
class Echo:
    """Prints a text as it is, and ends with a status."""

    key: str
    text: str = ""
    status: int = 0

    @property
    def script(self) -> str:
        return f"printf %s {shlex.quote(self.text)}; printf %s trouble >&2; exit {self.status}"


def _look(host: FakeHost, question: Look) -> Output:
    if directory := host.directories.get(question.path):
        return Output(0, f"{directory.owner} {directory.mode:o} directory\n")
    if file := host.files.get(question.path):
        kind = "regular file" if file.content else "regular empty file"
        return Output(0, f"{file.owner} {file.mode:o} {kind}\n{file.content.decode(errors='replace')}")
    return Output(44, "")


def _cat(host: FakeHost, argv: Any, stdin: bytes) -> Output:
    return Output(0, stdin.decode(errors="replace"))


def _false(host: FakeHost, argv: Any, stdin: bytes) -> Output:
    return Output(1, "")


def fake_host() -> FakeHost:
    host = FakeHost("fake")
    host.answers = {
        Look: _look,
        Echo: lambda host, question: Output(question.status, question.text, "trouble"),
    }
    host.programs |= {"cat": _cat, "false": _false}
    return host


@pytest.fixture(params=["fake", "sshd", pytest.param("lab", marks=pytest.mark.lab)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hosts(kind: str, request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """The same host, connected to twice."""
    if kind == "fake":
        host = fake_host()
        yield host, host
        return
    if kind == "sshd":
        settings = request.getfixturevalue("sshd").settings
        name, address = "contract", "127.0.0.1"
    else:
        from kbpg.inventory import load

        inventory = load(request.getfixturevalue("lab_inventory"))
        host = inventory.hosts[-1]
        settings, name, address = inventory.ssh_for(host), host.name, str(host.address)
    with connect(name, address, settings) as first, connect(name, address, settings) as second:
        yield first, second


@pytest.fixture
def host(hosts: tuple[Any, Any]) -> Writer:
    return hosts[0]  # type: ignore[no-any-return]


@pytest.fixture
def place(host: Any, kind: str, tmp_path: Path) -> Iterator[str]:
    """A directory of the test's own on the host."""
    path = str(tmp_path) if kind == "sshd" else f"/run/kbpg-contract-{tmp_path.name}"
    host.run(["install", "-d", "-o", "0", "-g", "0", "-m", "0755", path])
    yield path
    if kind == "lab":
        host.run(["rm", "-rf", path])


def look(host: Any, path: str) -> Output:
    return host.read([Look(path)])[f"look:{path}"]  # type: ignore[no-any-return]


def test_read_answers_every_question_by_its_key(host: Writer) -> None:
    text = "a 'quote', a \"double\", $HOME, a \\ and no newline"
    answers = host.read([Echo("one", text), Echo("two", "zwei\n", status=3), Look("/nowhere")])

    assert list(answers) == ["one", "two", "look:/nowhere"]
    assert (answers["one"].status, answers["one"].stdout, answers["one"].stderr) == (0, text, "trouble")
    assert (answers["two"].status, answers["two"].stdout) == (3, "zwei\n")
    assert (answers["look:/nowhere"].status, answers["look:/nowhere"].stdout) == (44, "")


def test_read_refuses_two_questions_with_one_key(host: Writer) -> None:
    with pytest.raises(ValueError, match="one key"):
        host.read([Echo("same"), Echo("same")])


def test_read_of_nothing_is_nothing(host: Writer) -> None:
    assert host.read([]) == {}


@pytest.mark.parametrize("content", [b"", b"one line\n", b"no newline", "ümläut 'n' $more\n".encode() * 5000])
def test_write_puts_the_content_with_owner_and_mode(host: Writer, place: str, content: bytes) -> None:
    host.write(f"{place}/a file", content, owner="999:998", mode=0o640)

    kind = "regular file" if content else "regular empty file"
    assert look(host, f"{place}/a file").stdout == f"999:998 640 {kind}\n{content.decode()}"


def test_write_replaces_what_was_there(host: Writer, place: str) -> None:
    host.write(f"{place}/file", b"old, and longer than the new\n", owner="0:0", mode=0o644)
    host.write(f"{place}/file", b"new\n", owner="999:999", mode=0o600)

    assert look(host, f"{place}/file").stdout == "999:999 600 regular file\nnew\n"


@pytest.mark.parametrize("path", ["nowhere/file", "."])
def test_write_where_no_file_can_be_fails(host: Writer, place: str, path: str) -> None:
    target = place if path == "." else f"{place}/{path}"
    with pytest.raises(CommandFailed) as caught:
        host.write(target, b"x", owner="0:0", mode=0o600)
    assert str(caught.value) == f"{host.name}: `write {target} 0:0 0600` ended with exit code 1"


def test_run_passes_input_and_returns_output(host: Writer) -> None:
    output = host.run(["cat"], stdin=b"as it is: \xc3\xbc '\"\n")
    assert (output.status, output.stdout, output.ok) == (0, "as it is: ü '\"\n", True)


def test_run_takes_its_input_piece_by_piece(host: Writer) -> None:
    output = host.run(["cat"], stdin=(f"{number}\n".encode() for number in range(3000)))
    assert output.stdout == "".join(f"{number}\n" for number in range(3000))


def test_run_raises_what_the_source_of_its_input_raises(host: Writer) -> None:
    def source() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        host.run(["cat"], stdin=source())


def test_run_raises_on_failure_unless_told_otherwise(host: Writer) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(["false"])
    assert caught.value.host == host.name
    assert (caught.value.command, caught.value.status) == ("false", 1)
    assert host.run(["false"], check=False).status == 1


def test_the_programs_of_the_fake_do_what_the_real_ones_do(host: Writer, place: str) -> None:
    host.run(["install", "-d", "-o", "999", "-g", "998", "-m", "0700", f"{place}/data"])
    assert look(host, f"{place}/data").stdout == "999:998 700 directory\n"
    host.run(["mkdir", "-p", f"{place}/a/b"])
    assert look(host, f"{place}/a/b").stdout == "0:0 755 directory\n"
    host.write(f"{place}/a/b/file", b"x\n", owner="0:0", mode=0o644)
    host.run(["chown", "1:2", f"{place}/a/b/file"])
    host.run(["chmod", "0400", f"{place}/a/b/file"])
    host.run(["mv", f"{place}/a", f"{place}/c"])
    assert look(host, f"{place}/c/b/file").stdout == "1:2 400 regular file\nx\n"
    assert look(host, f"{place}/a").status == 44
    host.run(["rm", "-f", f"{place}/c/b/file", f"{place}/never was"])
    assert look(host, f"{place}/c/b/file").status == 44


@pytest.mark.parametrize(
    "argv",
    [
        ["chown", "1:1", "PLACE/none"],
        ["chmod", "0600", "PLACE/none"],
        ["mv", "PLACE/none", "PLACE/b"],
        ["rm", "-f", "PLACE"],
        ["mkdir", "-p", "PLACE/file"],
    ],
    ids=lambda argv: argv[0],
)
def test_the_programs_of_the_fake_fail_where_the_real_ones_do(
    host: Writer, place: str, argv: list[str]
) -> None:
    host.write(f"{place}/file", b"x", owner="0:0", mode=0o600)
    assert host.run([word.replace("PLACE", place) for word in argv], check=False).status == 1


def test_stream_yields_what_a_command_prints(host: Any, place: str, kind: str) -> None:
    if kind == "fake":
        host.programs["seq"] = lambda host, argv, stdin: Output(0, "1\n2\n3\n")
    assert b"".join(host.stream(["seq", "3"])) == b"1\n2\n3\n"


def test_stream_raises_at_the_end(host: Writer) -> None:
    with pytest.raises(CommandFailed, match="`false` ended with exit code 1"):
        list(host.stream(["false"]))


@pytest.fixture
def service(host: Any, kind: str) -> Iterator[int]:
    """A port of the host where something says back what it hears, in capitals."""
    if kind == "lab":
        pytest.skip("nothing of ours listens on a lab host")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        if kind == "fake":
            host.services["127.0.0.1", port] = ("127.0.0.1", port)
        thread = threading.Thread(target=_shout, args=(server,), daemon=True)
        thread.start()
        yield port
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _shout(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data.upper())


def test_dial_opens_a_stream_to_a_port_of_the_host(host: Writer, service: int) -> None:
    with host.dial(service) as stream:
        stream.sendall(b"hello")
        stream.shutdown(socket.SHUT_WR)
        assert stream.makefile("rb").read() == b"HELLO"


def test_dial_where_nobody_listens_is_refused(host: Writer) -> None:
    with pytest.raises(ConnectionRefusedError):
        host.dial(1)


def test_forward_passes_connections_on(host: Writer, service: int) -> None:
    with host.forward(service) as port:
        for word in (b"one", b"two"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                stream.sendall(word)
                assert stream.recv(100) == word.upper()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_forward_to_where_nobody_listens_closes_the_connection(host: Writer) -> None:
    # Around both: the reset may come before the connection is made
    with (
        host.forward(1) as port,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as stream,
    ):
        stream.recv(100)


def test_the_lock_is_had_by_one_at_a_time(hosts: tuple[Any, Any], place: str) -> None:
    first, second = hosts
    with Locks.acquire([first], who="root@one", doing="apply-all", directory=place):
        assert not first.lock_lost()
        with pytest.raises(LockHeld), Locks.acquire([second], who="b", doing="c", directory=place):
            pytest.fail("two have the lock")
    with Locks.acquire([second], who="root@two", doing="step 03", directory=place):
        assert second.guard is not None
    assert second.guard is None
    assert not second.lock_lost()


def test_the_real_host_is_an_ssh_host(hosts: tuple[Any, Any], kind: str) -> None:
    assert isinstance(hosts[0], FakeHost if kind == "fake" else SshHost)
