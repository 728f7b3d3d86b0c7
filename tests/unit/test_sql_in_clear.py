"""A password goes in clear to no PostgreSQL that has not proved who it is, whatever it asks for."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import psycopg
import pytest

from kbpg import sql
from kbpg.facts import Login
from kbpg.hosts.port import Reader
from kbpg.secret import Secret

PASSWORD = "not-for-everybody"
WAYS_IN = {"cleartext": 3, "anybody": 0}
"""What AuthenticationCleartextPassword and AuthenticationOk say (PostgreSQL's manual, 55.7)."""


class Host:
    name, address, trust = "db-1", "192.0.2.1", None

    def forward(self, port: int) -> AbstractContextManager[int]:
        return nullcontext(port)


class Listener:
    """A program that has taken the port: it knows no TLS, asks for `kind`, and keeps all that it is sent."""

    def __init__(self, kind: str) -> None:
        self.kind, self.sent = kind, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _serve(self) -> None:
        stream, _ = self.listener.accept()
        with stream:
            stream.settimeout(10)
            assert struct.unpack("!ii", stream.recv(8)) == (8, 80877103)  # SSLRequest
            stream.sendall(b"N")
            stream.recv(4096)
            stream.sendall(b"R" + struct.pack("!ii", 8, WAYS_IN[self.kind]))
            if self.kind == "anybody":
                stream.sendall(b"Z" + struct.pack("!ic", 5, b"I"))
            while data := stream.recv(4096):
                self.sent += data


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    made = Listener(request.param)
    yield made
    made.listener.close()


def connect(listener: Listener) -> psycopg.Connection[object]:
    login = Login("kb_admin", Secret(PASSWORD), listener.port, "postgres")
    return sql.through(cast(Reader, Host()), login, listener.port)


@pytest.mark.parametrize("listener", ["cleartext"], indirect=True)
def test_who_asks_for_it_in_clear_does_not_get_it(listener: Listener) -> None:
    with pytest.raises(psycopg.OperationalError, match="requested a cleartext password"):
        connect(listener)
    listener.thread.join(10)
    assert PASSWORD.encode() not in listener.sent


@pytest.mark.parametrize("listener", ["anybody"], indirect=True)
def test_a_server_that_asks_for_nothing_will_do(listener: Listener) -> None:
    """PgBouncer's console, to which kbpg's login is trusted, is one."""
    connect(listener).close()
    listener.thread.join(10)
    assert PASSWORD.encode() not in listener.sent
