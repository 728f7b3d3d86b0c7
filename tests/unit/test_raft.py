"""Asking a Raft member: against recorded bytes of the real thing, and a member of our own that may be hostile.

`recorded/raft-pysyncobj-0.3.17.json` holds what two real members sent, of three whose third was down, to a
client whose key was 32 times "k".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import pickle
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from kbpg import raft
from kbpg.engine.gather import gather
from kbpg.facts import Knowledge, NotKnown
from kbpg.hosts.fake import FakeHost
from kbpg.raft import RaftFact, RaftStatus
from kbpg.secret import Secret

RECORDED = json.loads((Path(__file__).parent / "recorded" / "raft-pysyncobj-0.3.17.json").read_text())
PASSWORD = RECORDED["password"]
PORT = 7000
STATUS: dict[str, Any] = {
    "version": "0.3.17",
    "leader": "192.0.2.1:7000",
    "has_quorum": True,
    "raft_term": 7,
    "commit_idx": 1234,
    "log_len": 99,
    "partner_node_status_server_192.0.2.2:7000": 2,
    "partner_node_status_server_192.0.2.3:7000": 0,
}
DEADLINE = 10.0
"""Seconds for a conversation; it takes milliseconds."""


def fernet(password: str) -> Fernet:
    """Return the cipher of pysyncobj/encryptor.py, computed by other means than kbpg's."""
    salt = bytes.fromhex("15257 1e6bb02a6f8137190cf362b1eeb".replace(" ", ""))
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 100_000, 32)
    return Fernet(base64.urlsafe_b64encode(key))


CIPHERS = {password: fernet(password) for password in (PASSWORD, "another")}


@dataclass
class Line:
    """One connection, as the member sees it."""

    stream: socket.socket
    password: str = PASSWORD
    key: bytes = field(default_factory=lambda: os.urandom(32))
    theirs: bytes = b""

    def receive(self) -> Any:
        (length,) = struct.unpack("i", self._exactly(4))
        return pickle.loads(zlib.decompress(CIPHERS[self.password].decrypt(self._exactly(length))))  # noqa: S301

    def send(self, message: object) -> None:
        self.send_packed(zlib.compress(pickle.dumps(message, 2)))

    def send_packed(self, packed: bytes) -> None:
        data = CIPHERS[self.password].encrypt(packed)
        self.stream.sendall(struct.pack("i", len(data)) + data)

    def greet(self) -> None:
        """Take the other side's key and send our own."""
        self.theirs = self.receive()
        self.send((self.theirs, self.key))

    def _exactly(self, count: int) -> bytes:
        data = self.stream.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise EOFError
        return data


Behaviour = Callable[[Line], object]


@pytest.fixture(autouse=True)
def _one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe the first answer, whoever is away in it."""
    monkeypatch.setattr(raft, "SETTLING", 0.0)


@contextlib.contextmanager
def member(*behaviours: Behaviour) -> Iterator[FakeHost]:
    """Run a member that behaves like this, a connection each; what it raises fails the test."""
    raised: list[Exception] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for behaviour in behaviours:
                stream, _ = listener.accept()
                with stream:
                    stream.settimeout(DEADLINE)
                    try:
                        behaviour(Line(stream))
                    except Exception as error:  # noqa: BLE001 (handed to the test)
                        raised.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield FakeHost("db-1", services={("127.0.0.1", PORT): listener.getsockname()})
        thread.join(DEADLINE)
    assert not thread.is_alive()
    assert raised == []


def ask(*behaviours: Behaviour, password: str = PASSWORD, settling: float | None = None) -> RaftStatus:
    with member(*behaviours) as host:
        return RaftFact(PORT, Secret(password), settling=settling).ask(host)


def refusal(behaviour: Behaviour, password: str = PASSWORD) -> str:
    """Return the reason for which there is no status; nothing but `NotKnown` may be raised on the way."""
    fact = RaftFact(PORT, Secret(password))
    knowledge = Knowledge()
    with member(behaviour) as host:
        gather({"db-1": host}, knowledge, {"db-1": [fact]})
    with pytest.raises(NotKnown) as silence:
        knowledge.get("db-1", fact.key)
    return silence.value.reason


def answering(answer: object) -> Behaviour:
    def behaviour(line: Line) -> None:
        line.greet()
        assert line.receive() == (line.key, ["status"])
        line.send((line.theirs, answer))

    return behaviour


def figures(status: RaftStatus) -> tuple[object, ...]:
    return (status.leader, status.has_quorum, status.term, status.commit_index, status.log_length)


# --- what a member says ------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_real_member_is_understood(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RECORDED["members"][who]
    monkeypatch.setattr(raft, "os", SimpleNamespace(urandom=lambda count: b"k" * count))
    keys, status = [base64.b64decode(frame) for frame in recorded["frames"]]
    heard: list[object] = []

    def replay(line: Line) -> None:
        heard.append(line.receive())
        line.stream.sendall(keys)
        heard.append(line.receive()[1])
        line.stream.sendall(status)

    others = [address for address in recorded["addresses"] if address != recorded["self"]]
    away = recorded["addresses"][2]
    status_read = ask(replay)
    assert figures(status_read) == (recorded["leader"], True, 1, 2, 2)
    assert status_read.partners == {address: address != away for address in others}
    assert heard == [b"k" * 32, ["status"]]


def test_a_status_is_read_whole() -> None:
    status = ask(answering(STATUS))
    assert figures(status) == ("192.0.2.1:7000", True, 7, 1234, 99)
    assert status.partners == {"192.0.2.2:7000": True, "192.0.2.3:7000": False}


def test_a_partner_that_is_away_for_a_moment_is_not_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "SETTLING", DEADLINE)
    back = {**STATUS, "raft_term": 8, "partner_node_status_server_192.0.2.3:7000": 2}
    status = ask(answering(STATUS), answering(STATUS), answering(back))
    assert (status.term, status.partners) == (8, {"192.0.2.2:7000": True, "192.0.2.3:7000": True})


def test_a_partner_that_stays_away_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "SETTLING", 0.15)
    monkeypatch.setattr(raft, "LOOK_AGAIN", 0.2)
    assert ask(answering(STATUS), answering(STATUS)).partners["192.0.2.3:7000"] is False


def test_who_only_shows_what_is_says_how_long_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "SETTLING", DEADLINE)
    monkeypatch.setattr(raft, "LOOK_AGAIN", 0.2)
    assert ask(answering(STATUS), answering(STATUS), settling=0.15).partners["192.0.2.3:7000"] is False


def test_a_member_may_know_no_leader() -> None:
    status = ask(answering({**STATUS, "leader": None, "has_quorum": False}))
    assert (status.leader, status.has_quorum) == (None, False)


def test_an_answer_may_come_in_pieces() -> None:
    def dribbling(line: Line) -> None:
        line.greet()
        line.receive()
        data = CIPHERS[PASSWORD].encrypt(zlib.compress(pickle.dumps((line.theirs, STATUS), 2)))
        for byte in struct.pack("i", len(data)) + data:
            line.stream.sendall(bytes([byte]))

    assert ask(dribbling).term == 7


def test_every_conversation_has_a_key_of_its_own() -> None:
    keys: list[bytes] = []

    def behaviour(line: Line) -> None:
        answering(STATUS)(line)
        keys.append(line.theirs)

    ask(behaviour)
    ask(behaviour)
    assert [len(key) for key in keys] == [32, 32]
    assert keys[0] != keys[1]


# --- no answer ---------------------------------------------------------------------------------------


def test_a_member_with_another_password_closes_the_connection() -> None:
    """What pysyncobj 0.3.17 does with a message it cannot read (seen with a real member)."""

    def closing(line: Line) -> None:
        line.stream.recv(65536)

    said = refusal(closing, "wrong")
    assert said in (
        "Raft on port 7000: closed the connection: another password?",
        "Raft on port 7000: [Errno 104] Connection reset by peer",
    )


def test_an_answer_with_another_password_is_told() -> None:
    def other(line: Line) -> None:
        line.receive()
        line.password = "another"
        line.send((b"", line.key))

    assert refusal(other) == "Raft on port 7000 speaks with another password"


def test_a_port_where_nothing_listens() -> None:
    with pytest.raises(NotKnown, match="Raft on port 7000: db-1: nothing answers"):
        RaftFact(PORT, Secret(PASSWORD)).ask(FakeHost("db-1"))


class Impatient(socket.socket):
    """A stream that waits a thirtieth of what it is told."""

    def settimeout(self, value: float | None) -> None:
        assert value is not None
        assert 0 < value <= 3
        super().settimeout(value / 30)


@dataclass
class ImpatientHost(FakeHost):
    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        stream = super().dial(port, address=address, timeout=timeout)
        return Impatient(fileno=stream.detach())


def test_silence_ends() -> None:
    done = threading.Event()

    def silent(line: Line) -> None:
        line.receive()
        assert done.wait(DEADLINE)

    with member(silent) as host:
        with pytest.raises(NotKnown, match="Raft on port 7000: timed out"):
            RaftFact(PORT, Secret(PASSWORD)).ask(ImpatientHost("db-1", services=host.services))
        done.set()


@pytest.mark.parametrize("after", [0, 3, 4, 40])
def test_a_connection_that_ends_early(after: int) -> None:
    def cut(line: Line) -> None:
        line.receive()
        data = CIPHERS[PASSWORD].encrypt(zlib.compress(pickle.dumps((b"", line.key), 2)))
        line.stream.sendall((struct.pack("i", len(data)) + data)[:after])

    assert refusal(cut) == "Raft on port 7000: closed the connection: another password?"


# --- hostile answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [raft.MAX_MESSAGE + 1, 2**31 - 1, 0, -1, -(2**31)])
def test_a_message_of_no_sensible_length_is_not_waited_for(length: int) -> None:
    def oversized(line: Line) -> None:
        line.receive()
        line.stream.sendall(struct.pack("i", length))
        assert line.stream.recv(1) == b""  # the asker has hung up

    assert refusal(oversized) == "Raft on port 7000 speaks with another password"


class Running:
    """A value whose pickle is a command."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


@pytest.mark.parametrize("where", ["key", "status", "inside"])
def test_a_pickle_that_would_run_a_command_does_not(where: str, tmp_path: Path) -> None:
    proof = tmp_path / "it-ran"
    evil = Running(os.system, f"touch {proof}")

    def hostile(line: Line) -> None:
        if where == "key":
            line.theirs = line.receive()
            line.send((line.theirs, evil))
            return
        answering(evil if where == "status" else {**STATUS, "leader": evil})(line)

    assert refusal(hostile) == "Raft on port 7000 speaks with another password"
    assert not proof.exists()
    # The same bytes do run for a reader that is less careful: the test would notice
    pickle.loads(pickle.dumps(evil))  # noqa: S301
    assert proof.exists()


GLOBALS = [
    b"cbuiltins\neval\n.",
    b"cbuiltins\ngetattr\n.",
    b"cpysyncobj.node\nNode\n.",
    b"c_codecs\ndecode\n.",
    b"\x80\x04\x8c\x0epysyncobj.node\x8c\x0bTCPNode.mro\x93.",
    b"\x80\x04\x8c\x07_codecs\x8c\x12encode.__globals__\x93.",
]


@pytest.mark.parametrize("opcodes", GLOBALS)
def test_no_name_but_the_two_is_looked_up(opcodes: bytes) -> None:
    def hostile(line: Line) -> None:
        line.receive()
        line.send_packed(zlib.compress(opcodes))

    assert refusal(hostile) == "Raft on port 7000 speaks with another password"


def test_an_answer_to_somebody_else_is_refused() -> None:
    def other(line: Line) -> None:
        line.receive()
        line.send((b"x" * 32, line.key))

    assert refusal(other) == "Raft on port 7000 speaks with another password"


def test_a_message_that_grows_beyond_all_measure_is_refused() -> None:
    def bomb(line: Line) -> None:
        line.receive()
        line.send_packed(zlib.compress(b"\0" * (64 * raft.MAX_MESSAGE), 9))

    assert refusal(bomb) == "Raft on port 7000 speaks with another password"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("FAIL status", "Raft answered str where its status was asked"),
        (None, "Raft answered NoneType where its status was asked"),
        ({}, "unexpected answer (KeyError: 'has_quorum')"),
        ({**STATUS, "raft_term": "x"}, "unexpected answer (ValueError: "),
        ({**STATUS, "raft_term": None}, "unexpected answer (TypeError: "),
        (dict([(1, 2), *STATUS.items()]), "unexpected answer (AttributeError: "),
    ],
)
def test_an_answer_that_is_no_status_is_unknown(answer: object, why: str) -> None:
    assert refusal(answering(answer)).startswith(why)


@pytest.mark.parametrize(
    "answer",
    [{}, {**STATUS, "raft_term": "x"}, {**STATUS, "raft_term": None}, dict([(1, 2), *STATUS.items()])],
)
def test_who_asks_a_member_alone_is_told_the_same(answer: object) -> None:
    """Not all who ask do so through `gather`, which takes whatever an answer raises for an unknown one."""
    with member(answering(answer)) as host, pytest.raises(NotKnown, match="unexpected answer"):
        raft.status_now(host, PORT, Secret(PASSWORD))


UNREADABLE = {
    "AttributeError": b"c_codecs\nencode\n(K\x01K\x02tR.",
    "TypeError": pickle.dumps(5, 2),
    "ValueError": b"Inone\n.",
    "ValueError: not enough": pickle.dumps((1,), 2),
    "TypeError of a node": b"cpysyncobj.node\nTCPNode\n)\x81K\x01b.",
    "KeyError": b"cpysyncobj.node\nTCPNode\n)\x81}b.",
}


@pytest.mark.parametrize("error", UNREADABLE)
def test_a_message_that_cannot_be_read_is_no_other_password(error: str) -> None:
    def odd(line: Line) -> None:
        line.receive()
        line.send_packed(zlib.compress(UNREADABLE[error]))

    with member(odd) as host, pytest.raises(NotKnown, match="unexpected answer") as caught:
        raft.status_now(host, PORT, Secret(PASSWORD))
    assert not isinstance(caught.value, raft.OtherPassword)
    assert error.split()[0].rstrip(":") in caught.value.reason


@pytest.mark.parametrize("packed", [b"", b"not compressed", zlib.compress(b""), zlib.compress(b"\x80")])
def test_bytes_that_are_no_message_are_unknown(packed: bytes) -> None:
    def garbled(line: Line) -> None:
        line.receive()
        line.send_packed(packed)

    assert refusal(garbled).startswith("Raft on port 7000")


def test_the_password_is_in_no_reason_and_no_representation() -> None:
    fact = RaftFact(PORT, Secret(PASSWORD))
    assert PASSWORD not in repr(fact) + fact.key
    assert PASSWORD not in refusal(lambda line: line.receive())
