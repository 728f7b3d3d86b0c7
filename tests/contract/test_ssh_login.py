"""Connecting to real sshd processes: host keys, keys, agents, jump hosts, and every way it can fail."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kbpg.errors import AccessDenied, HostKeyError, Unreachable
from kbpg.hosts.settings import SshSettings
from kbpg.hosts.ssh import SshHost, connect

from .conftest import Sshd, free_port, make_key, start_sshd, stop


def reach(settings: SshSettings, **options: object) -> SshHost:
    return connect("db-1", "127.0.0.1", settings, **options)  # type: ignore[arg-type]


def works(host: SshHost) -> bool:
    with host:
        return host.run(["id", "-u"]).stdout == "0\n"


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def fingerprint(sshd: Sshd) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(sshd.directory / "host_key.pub")],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()[1]


# --- host keys


def test_a_known_key_passes_without_a_question(sshd: Sshd) -> None:
    assert works(reach(sshd.settings, ask=lambda question: pytest.fail("asked")))


def test_an_unknown_key_without_anybody_to_ask_stops(new_sshd: Sshd) -> None:
    with pytest.raises(HostKeyError) as caught:
        reach(new_sshd.settings)
    assert caught.value.lines() == [
        f"db-1: the host key of 127.0.0.1:{new_sshd.port} is unknown",
        f"  it shows a ssh-ed25519 key with fingerprint {fingerprint(new_sshd)}",
        "hint: compare the fingerprint, then run again with --accept-new-host-keys",
    ]
    assert not new_sshd.settings.known_hosts.exists()


def test_an_unknown_key_is_asked_about_once_and_remembered(new_sshd: Sshd) -> None:
    asked: list[str] = []
    assert works(reach(new_sshd.settings, ask=lambda question: not asked.append(question)))
    assert works(reach(new_sshd.settings))

    known_hosts = new_sshd.settings.known_hosts
    assert len(asked) == 1
    assert fingerprint(new_sshd) in asked[0]
    assert f"127.0.0.1:{new_sshd.port}" in asked[0]
    assert known_hosts.read_text() == f"[127.0.0.1]:{new_sshd.port} {new_sshd.host_key}\n"
    assert stat.S_IMODE(known_hosts.stat().st_mode) == 0o600


def test_an_unknown_key_that_is_not_accepted_stops(new_sshd: Sshd) -> None:
    with pytest.raises(HostKeyError, match="was not accepted"):
        reach(new_sshd.settings, ask=lambda question: False)
    assert not new_sshd.settings.known_hosts.exists()


def test_new_keys_can_be_accepted_without_asking(new_sshd: Sshd) -> None:
    assert works(reach(new_sshd.settings, accept_new=True))
    assert works(reach(new_sshd.settings))


def test_an_accepted_key_starts_on_a_line_of_its_own(new_sshd: Sshd) -> None:
    new_sshd.settings.known_hosts.write_text("other ssh-ed25519 AAAA")
    assert works(reach(new_sshd.settings, accept_new=True))
    assert new_sshd.settings.known_hosts.read_text().splitlines()[0] == "other ssh-ed25519 AAAA"


def test_a_key_accepted_by_kbpg_is_known_to_ssh_too(new_sshd: Sshd) -> None:
    reach(new_sshd.settings, accept_new=True).close()
    known, key = new_sshd.settings.known_hosts, new_sshd.settings.key
    options = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    done = subprocess.run(
        ["ssh", "-F", "none", *options, "-i", str(key), "-p", str(new_sshd.port), "root@127.0.0.1", "true"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_key_always_stops(new_sshd: Sshd, accept_new: bool) -> None:
    other = make_key(new_sshd.directory / "other").with_suffix(".pub").read_text()
    known_hosts = new_sshd.settings.known_hosts
    content = f"# a comment\n\n[127.0.0.1]:{new_sshd.port} {other}"
    known_hosts.write_text(content)
    with pytest.raises(HostKeyError) as caught:
        reach(new_sshd.settings, accept_new=accept_new, ask=lambda question: pytest.fail("asked"))
    assert caught.value.lines() == [
        f"db-1: the host key of 127.0.0.1:{new_sshd.port} has changed",
        f"  it shows a ssh-ed25519 key with fingerprint {fingerprint(new_sshd)}",
        f"  {known_hosts}, line 3, has another ssh-ed25519 key",
        f"hint: only if the host was reinstalled: remove line 3 of {known_hosts}",
    ]
    assert known_hosts.read_text() == content


def test_a_key_of_another_type_than_the_known_one_is_a_changed_key(new_sshd: Sshd) -> None:
    make_key(new_sshd.directory / "ecdsa", "-t", "ecdsa")
    other = (new_sshd.directory / "ecdsa.pub").read_text()
    new_sshd.settings.known_hosts.write_text(f"[127.0.0.1]:{new_sshd.port} {other}")
    with pytest.raises(HostKeyError, match="has changed"):
        reach(new_sshd.settings, accept_new=True)


def test_of_two_host_keys_the_known_one_is_asked_for(tmp_path: Path, sshd: Sshd) -> None:
    make_key(tmp_path / "rsa", "-t", "rsa", "-b", "2048")
    both = start_sshd(tmp_path, f"HostKey {tmp_path / 'rsa'}")
    try:
        kind, key = (tmp_path / "rsa.pub").read_text().split()[:2]
        both.settings.known_hosts.write_text(f"[127.0.0.1]:{both.port} {kind} {key}\n")
        assert works(reach(both.settings))
    finally:
        stop(both.process)


def test_hashed_names_are_understood(new_sshd: Sshd) -> None:
    known_hosts = new_sshd.settings.known_hosts
    known_hosts.write_text(f"[127.0.0.1]:{new_sshd.port} {new_sshd.host_key}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(known_hosts)], check=True, capture_output=True)
    assert known_hosts.read_text().startswith("|1|")
    assert works(reach(new_sshd.settings))


def test_a_revoked_key_stops(new_sshd: Sshd) -> None:
    new_sshd.settings.known_hosts.write_text(f"@revoked * {new_sshd.host_key}\n")
    with pytest.raises(HostKeyError, match=r"is revoked in .*, line 1"):
        reach(new_sshd.settings, accept_new=True)


def test_parallel_connections_ask_one_question_after_the_other(new_sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = start_sshd(tmp_path / "second")
    asked: list[str] = []
    asking = threading.Lock()

    def ask(question: str) -> bool:
        assert asking.acquire(blocking=False), "two questions at once"
        asked.append(question)
        time.sleep(0.1)  # a person takes a moment, in which the others would interrupt
        asking.release()
        return True

    known_hosts = new_sshd.settings.known_hosts
    both = [new_sshd.settings, second.settings.but(known_hosts=known_hosts)] * 3
    try:
        with ThreadPoolExecutor(len(both)) as pool:
            assert all(pool.map(lambda settings: works(reach(settings, ask=ask)), both))
    finally:
        stop(second.process)
    assert len(asked) == 2
    assert len(known_hosts.read_text().splitlines()) == 2


# --- fingerprints in the inventory


def never(question: str) -> bool:
    pytest.fail("asked")


OTHER = f"SHA256:{'A' * 43}"
"""The fingerprint of no key here."""


def test_a_pinned_key_passes_without_a_question_and_without_known_hosts(new_sshd: Sshd) -> None:
    pinned = new_sshd.settings.but(fingerprints=(OTHER, fingerprint(new_sshd)))
    assert works(reach(pinned, ask=never))
    assert not new_sshd.settings.known_hosts.exists()


@pytest.mark.parametrize("accept_new", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_key_that_is_not_pinned_stops(new_sshd: Sshd, known: bool, accept_new: bool) -> None:
    if known:
        new_sshd.settings.known_hosts.write_text(f"[127.0.0.1]:{new_sshd.port} {new_sshd.host_key}\n")
    with pytest.raises(HostKeyError) as caught:
        reach(new_sshd.settings.but(fingerprints=(OTHER,)), accept_new=accept_new, ask=never)
    error = caught.value
    assert str(error) == (
        f"db-1: the host key of 127.0.0.1:{new_sshd.port} is none of those that the inventory pins"
    )
    assert error.detail == (
        f"it shows a ssh-ed25519 key with fingerprint {fingerprint(new_sshd)}",
        f"the inventory has {OTHER}",
    )
    assert error.hint is not None
    assert "ssh-keygen -lf" in error.hint
    assert "`ssh.fingerprint`" in error.hint
    assert new_sshd.settings.known_hosts.exists() == known


def test_a_pinned_key_that_known_hosts_contradicts_stops(new_sshd: Sshd) -> None:
    other = make_key(new_sshd.directory / "other").with_suffix(".pub").read_text()
    pinned = new_sshd.settings.but(fingerprints=(fingerprint(new_sshd),))
    pinned.known_hosts.write_text(f"[127.0.0.1]:{new_sshd.port} {other}")
    with pytest.raises(HostKeyError, match="has changed"):
        reach(pinned, accept_new=True)
    pinned.known_hosts.write_text(f"@revoked * {new_sshd.host_key}\n")
    with pytest.raises(HostKeyError, match="is revoked"):
        reach(pinned, accept_new=True)


def test_a_known_key_of_another_type_than_the_pinned_one_is_not_asked_for(tmp_path: Path) -> None:
    make_key(tmp_path / "rsa", "-t", "rsa", "-b", "2048")
    both = start_sshd(tmp_path, f"HostKey {tmp_path / 'rsa'}")
    try:
        kind, key = (tmp_path / "rsa.pub").read_text().split()[:2]
        both.settings.known_hosts.write_text(f"[127.0.0.1]:{both.port} {kind} {key}\n")
        assert works(reach(both.settings.but(fingerprints=(fingerprint(both),))))
    finally:
        stop(both.process)


def test_a_jump_host_has_fingerprints_of_its_own(sshd: Sshd, new_sshd: Sshd) -> None:
    (new_sshd.directory / "authorized_keys").write_text((sshd.directory / "id.pub").read_text())
    through = sshd.settings.but(
        jump=f"root@127.0.0.1:{new_sshd.port}",
        fingerprints=(fingerprint(sshd),),
        jump_fingerprints=(fingerprint(new_sshd),),
    )
    assert works(reach(through, ask=never))
    with pytest.raises(HostKeyError, match=r"jump host 127\.0\.0\.1: .* none of those"):
        reach(through.but(jump_fingerprints=(OTHER,)), accept_new=True)


# --- keys and agents


def test_a_refused_key_is_named(sshd: Sshd, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    with pytest.raises(AccessDenied) as caught:
        reach(sshd.settings.but(key=wrong))
    assert caught.value.lines() == [
        f"db-1: 127.0.0.1:{sshd.port} refused the login as root",
        f"  refused: {wrong}",
        f"hint: ssh-copy-id -p {sshd.port} root@127.0.0.1, or set `ssh.user` and `ssh.key`",
    ]


def test_an_encrypted_key_needs_an_agent(sshd: Sshd, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", "-N", "a passphrase")
    with pytest.raises(AccessDenied) as caught:
        reach(sshd.settings.but(key=locked))
    assert caught.value.detail == (f"{locked} is encrypted and no agent offered it",)
    assert caught.value.hint == f"ssh-add {locked}"


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file or directory"), ("nonsense", "is not a private key")]
)
def test_a_key_file_that_cannot_be_used_is_named(
    sshd: Sshd, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AccessDenied) as caught:
        reach(sshd.settings.but(key=path))
    assert str(path) in caught.value.detail[0]
    assert said in caught.value.detail[0]


def test_without_any_key_the_hint_says_how_to_give_one(sshd: Sshd) -> None:
    with pytest.raises(AccessDenied) as caught:
        reach(sshd.settings.but(key=None))
    assert caught.value.hint == "set `ssh.key` in the inventory, or start an agent and `ssh-add` a key"


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Let `authority` sign the public key of `key` for root; return the certificate, beside it."""
    words = ["ssh-keygen", "-q", "-s", str(authority), "-I", "a test", "-n", "root", *options]
    subprocess.run([*words, str(key.with_suffix(".pub"))], check=True, capture_output=True)
    return key.with_name(f"{key.name}-cert.pub")


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[Sshd, Path]]:
    """An sshd that knows no key of a user, only an authority; and that authority."""
    authority = make_key(tmp_path / "authority")
    directory = tmp_path / "certified"
    directory.mkdir()
    sshd = start_sshd(directory, f"TrustedUserCAKeys {authority}.pub")
    (directory / "authorized_keys").write_text("")
    sshd.settings.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    yield sshd, authority
    stop(sshd.process)


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa",), ("rsa", "-b", "2048")], ids=lambda kind: kind[0])
def test_a_key_with_a_certificate_beside_it_logs_in(
    certified: tuple[Sshd, Path], tmp_path: Path, kind: tuple[str, ...]
) -> None:
    sshd, authority = certified
    key = make_key(tmp_path / "certified-key", "-t", *kind)
    settings = sshd.settings.but(key=key)
    with pytest.raises(AccessDenied):
        reach(settings)
    sign(authority, key)
    assert works(reach(settings))


def test_a_certificate_of_another_authority_or_of_the_past_is_refused(
    certified: tuple[Sshd, Path], tmp_path: Path
) -> None:
    sshd, authority = certified
    key = make_key(tmp_path / "certified-key")
    settings = sshd.settings.but(key=key)
    sign(make_key(tmp_path / "stranger"), key)
    with pytest.raises(AccessDenied, match="refused the login as root"):
        reach(settings)
    sign(authority, key, "-V", "20200101:20200102")
    with pytest.raises(AccessDenied) as caught:
        reach(settings)
    assert caught.value.detail == (f"refused: {key} with its certificate", f"refused: {key}")


def test_a_key_whose_certificate_is_of_no_use_may_itself_be_authorized(sshd: Sshd, tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_bytes((sshd.directory / "id").read_bytes())
    key.chmod(0o600)
    key.with_suffix(".pub").write_bytes((sshd.directory / "id.pub").read_bytes())
    sign(make_key(tmp_path / "stranger"), key)
    assert works(reach(sshd.settings.but(key=key)))


def test_an_agent_offers_its_certificate(certified: tuple[Sshd, Path], agent: Path, tmp_path: Path) -> None:
    sshd, authority = certified
    key = make_key(tmp_path / "certified-key")
    sign(authority, key)
    subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True)
    assert works(reach(sshd.settings.but(key=None)))


@pytest.fixture
def agent(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An agent that holds the key that the sshd accepts."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 5
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    subprocess.run(["ssh-add", "-q", str(sshd.settings.key)], check=True)
    yield path
    process.terminate()
    process.wait(5)


@pytest.mark.usefixtures("agent")
def test_the_agent_is_used_when_no_key_is_given(sshd: Sshd) -> None:
    assert works(reach(sshd.settings.but(key=None)))


@pytest.mark.usefixtures("agent")
def test_the_agent_is_used_when_the_key_is_encrypted(sshd: Sshd, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", "-N", "a passphrase")
    assert works(reach(sshd.settings.but(key=locked)))


Answer = Callable[[int, bytes], bytes | None]
"""What an agent answers to a request of this type, with this body; None for nothing, ever."""
REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, FAILURE = 11, 12, 13, 5


@contextmanager
def bad_agent(path: Path, answer: Answer | None) -> Iterator[None]:
    """Listen as an agent that answers so; without an answer it hangs up at once."""

    def read(stream: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length and (more := stream.recv(length - len(data))):
            data += more
        return data

    def serve(stream: socket.socket) -> None:
        with stream, suppress(OSError):
            while answer and (head := read(stream, 4)):
                body = read(stream, int.from_bytes(head, "big"))
                if (said := answer(body[0], body[1:])) is not None:
                    stream.sendall(len(said).to_bytes(4, "big") + said)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def with_one_key(sshd: Sshd, then: bytes | None) -> Answer:
    """Answer as an agent that has the sshd's key, and says `then` where it is to sign."""
    blob = b64decode((sshd.directory / "id.pub").read_text().split()[1])

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == REQUEST_IDENTITIES:
            return bytes([IDENTITIES_ANSWER, 0, 0, 0, 1]) + text(blob) + text(b"one")
        assert kind == SIGN_REQUEST
        return then

    return answer


BAD_AGENTS: dict[str, tuple[Callable[[Sshd], Answer | None], str]] = {
    "hangs up": (lambda sshd: None, "gives no keys: "),
    "refuses": (lambda sshd: lambda kind, body: bytes([FAILURE]), "gives no keys: could not get keys"),
    "garbage": (
        lambda sshd: lambda kind, body: bytes([IDENTITIES_ANSWER, 0, 0, 0, 1, *[0] * 7, 2, 255, 254]),
        "gives no keys: ",
    ),
    "silent": (lambda sshd: lambda kind, body: None, "gives no keys: timed out"),
    "does not sign": (lambda sshd: with_one_key(sshd, bytes([FAILURE])), "one: the agent did not sign (key"),
    "hangs when it is to sign": (lambda sshd: with_one_key(sshd, None), "the agent did not sign (timed out)"),
}


@pytest.mark.parametrize("bad", BAD_AGENTS)
def test_an_agent_that_is_broken_is_told_of_and_keeps_nobody_from_the_key_files(
    bad: str, sshd: Sshd, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = BAD_AGENTS[bad]
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    settings = sshd.settings.but(key=None, connect_timeout=1.0)
    with bad_agent(tmp_path / "agent", made(sshd)):
        with pytest.raises(AccessDenied) as caught:
            reach(settings)
        assert said in "\n".join(caught.value.detail)
        shutil.copy(sshd.directory / "id", own_home / ".ssh" / "id_ed25519")
        assert works(reach(settings))


def test_an_agent_that_is_gone_is_told_of(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with pytest.raises(AccessDenied) as caught:
        reach(sshd.settings.but(key=None))
    assert caught.value.detail == (f"the agent at {tmp_path}/agent gives no keys: No such file or directory",)


def test_ssh_config_says_what_the_inventory_does_not(sshd: Sshd, own_home: Path) -> None:
    (own_home / ".ssh" / "config").write_text(
        f"Host db-1\n HostName 127.0.0.1\n Port {sshd.port}\n User root\n IdentityFile {sshd.settings.key}\n"
        f" UserKnownHostsFile {sshd.settings.known_hosts}\n"
    )
    bare = sshd.settings.but(host=None, port=None, user=None, key=None, known_hosts=None)
    assert works(reach(bare))


def test_the_inventory_wins_over_ssh_config(sshd: Sshd, own_home: Path) -> None:
    (own_home / ".ssh" / "config").write_text("Host *\n Port 1\n User nobody\n IdentityFile /nonsense\n")
    assert works(reach(sshd.settings))


# --- jump hosts


def test_a_jump_host_is_verified_and_passed_through(sshd: Sshd, new_sshd: Sshd) -> None:
    settings = sshd.settings.but(jump=f"root@127.0.0.1:{new_sshd.port}")
    (new_sshd.directory / "authorized_keys").write_text((sshd.directory / "id.pub").read_text())
    with pytest.raises(HostKeyError, match=r"jump host 127\.0\.0\.1: the host key .* is unknown"):
        reach(settings)
    host = reach(settings, accept_new=True)
    assert len(new_sshd.children()) == 1
    assert works(host)


def test_a_host_that_the_jump_host_cannot_reach_is_named(sshd: Sshd) -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=f"db-1: the jump host cannot reach 127.0.0.1:{port}"):
        reach(sshd.settings.but(port=port, jump=f"root@127.0.0.1:{sshd.port}"))


# --- no connection


def test_a_refused_connection_is_one_clear_line(sshd: Sshd) -> None:
    port = free_port()
    with pytest.raises(Unreachable) as caught:
        reach(sshd.settings.but(port=port))
    assert caught.value.lines() == [
        f"db-1: 127.0.0.1:{port} refused the connection",
        "hint: is sshd running there, on that port?",
    ]


def test_no_answer_is_one_clear_line(sshd: Sshd) -> None:
    # A listener whose queue is full drops what else comes, like a host that is off.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(Unreachable) as caught:
            reach(sshd.settings.but(port=port, connect_timeout=1.0))
    assert str(caught.value) == f"db-1: no answer from 127.0.0.1:{port} within 1 s"


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (None, "accepts connections but does not speak SSH within 1 s"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "closed the connection before the login"),
        (b"SSH-2.0-x\r\n", "closed the connection before the login"),
    ],
    ids=["silence", "http", "hangs up"],
)
def test_something_that_is_no_sshd_is_one_clear_line(sshd: Sshd, greeting: bytes | None, said: str) -> None:
    done = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            if greeting is None:
                done.wait(10)
            else:
                connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        with pytest.raises(Unreachable, match=f"db-1: 127.0.0.1:{port} {said}"):
            reach(sshd.settings.but(port=port, connect_timeout=1.0))
        done.set()
        thread.join(5)


def test_a_name_that_cannot_be_resolved_is_one_clear_line(sshd: Sshd) -> None:
    with pytest.raises(Unreachable, match=r"db-1: the name no\.\.name cannot be resolved"):
        reach(sshd.settings.but(host="no..name"))


def test_failed_logins_leave_nothing_behind(sshd: Sshd, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        with pytest.raises(AccessDenied):
            reach(sshd.settings.but(key=wrong))
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == threads
    assert descriptors() <= before
