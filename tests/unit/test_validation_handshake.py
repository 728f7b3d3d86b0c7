"""What a server asks for at the beginning of a connection, against servers that answer real bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from kbpg.health.validation.aside import NoResult
from kbpg.health.validation.handshake import NOBODYS, offered
from kbpg.hosts.local import LocalHost


class Near(LocalHost):
    """A host whose every port is one server on this machine."""

    def __init__(self, port: int) -> None:
        super().__init__(name="db-1")
        self._port = port

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout)


@contextlib.contextmanager
def server(*answers: bytes, heard: list[bytes] | None = None) -> Iterator[Near]:
    """Serve one connection: an answer after each message that comes, then hang up."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with contextlib.suppress(OSError):
            stream, _ = listener.accept()
            with stream:
                stream.settimeout(10)
                for answer in answers:
                    said = stream.recv(4096)
                    if heard is not None:
                        heard.append(said)
                    stream.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Near(listener.getsockname()[1])
    finally:
        thread.join(10)
        listener.close()


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def authentication(code: int, more: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", code) + more)


SASL = authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
REFUSAL = message(b"E", b"SFATAL\0C08P01\0Mclient selected an invalid SASL authentication mechanism\0\0")


def test_scram_alone_is_offered_and_plaintext_refused() -> None:
    heard: list[bytes] = []
    with server(SASL, REFUSAL, heard=heard) as host:
        offer = offered(host, 5432, "kb_app", "keybuzz")
    assert offer.scram_only
    assert offer.mechanisms == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    assert "refused (08P01: client selected an invalid" in str(offer)
    assert heard[0][4:8] == b"\x00\x03\x00\x00"
    assert b"user\0kb_app\0database\0keybuzz\0" in heard[0]
    assert heard[1] == message(b"p", NOBODYS.encode() + b"\0")


@pytest.mark.parametrize(
    ("code", "kind"), [(0, "trust"), (3, "password"), (5, "md5"), (7, "gss"), (99, "kind 99")]
)
def test_anything_else_is_named(code: int, kind: str) -> None:
    with server(authentication(code, b"salt" if code == 5 else b"")) as host:
        offer = offered(host, 5432, "kb_app", "keybuzz")
    assert offer.kind == kind
    assert not offer.scram_only


def test_another_mechanism_than_scram_is_not_accepted() -> None:
    with server(authentication(10, b"OAUTHBEARER\0SCRAM-SHA-256\0\0"), REFUSAL) as host:
        assert not offered(host, 5432, "kb_app", "keybuzz").scram_only


def test_a_server_that_goes_along_with_plaintext_is_not_accepted() -> None:
    with server(SASL, authentication(0)) as host:
        assert not offered(host, 5432, "kb_app", "keybuzz").scram_only


def test_a_server_that_hangs_up_on_plaintext_refuses_it() -> None:
    with server(SASL, b"") as host:
        offer = offered(host, 5432, "kb_app", "keybuzz")
    assert offer.scram_only
    assert offer.refusal == "the connection was closed"


def test_a_refusal_before_any_question_is_told() -> None:
    refusal = message(b"E", b"SFATAL\0C28000\0Mno pg_hba.conf entry for host\0\0")
    with server(refusal) as host, pytest.raises(NoResult, match=r"28000: no pg_hba\.conf entry"):
        offered(host, 5432, "kb_app", "keybuzz")


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"R\xff\xff\xff\xff", b"R\0\0\0\3"])
def test_what_is_no_postgresql_is_told(answer: bytes) -> None:
    with server(answer) as host, pytest.raises(NoResult, match="does not speak PostgreSQL"):
        offered(host, 5432, "kb_app", "keybuzz")


def test_a_server_that_says_nothing_is_told() -> None:
    with server() as host, pytest.raises(ConnectionError):
        offered(host, 5432, "kb_app", "keybuzz")
