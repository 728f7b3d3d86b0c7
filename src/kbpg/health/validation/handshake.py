"""The beginning of a PostgreSQL connection, spoken by hand: which kind of password does the server ask for?

libpq hides that question. The messages are those of PostgreSQL's manual, 53.7 ("Message Formats"). No password of
anybody's is ever sent here.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import cast

from kbpg.health.validation.aside import NoResult
from kbpg.hosts.port import Reader
from kbpg.hosts.secured import secured

PROTOCOL = 3 << 16
TLS_REQUEST = 80877103
TIMEOUT = 5.0
"""Seconds for each answer."""
MAX_MESSAGE = 1 << 16
"""Bytes; these messages are under 200."""
KINDS = {0: "trust", 3: "password", 5: "md5", 7: "gss", 9: "sspi", 10: "SASL"}
"""AuthenticationOk asks for nothing, which is what pg_hba.conf calls trust."""
NOBODYS = "not-a-password"


@dataclass(frozen=True)
class Offer:
    """What a server asked for, with SASL's mechanisms, and how it took a plaintext password instead.

    `refusal` is the SQLSTATE and message of its refusal, "" where it did not refuse.
    """

    kind: str
    mechanisms: tuple[str, ...]
    refusal: str

    @property
    def scram_only(self) -> bool:
        """Return whether it wants SCRAM and nothing else, and refuses anything that is not."""
        wanted = all(name.startswith("SCRAM-SHA-256") for name in self.mechanisms)
        return self.kind == "SASL" and bool(self.mechanisms) and wanted and bool(self.refusal)

    def __str__(self) -> str:
        refused = f"a plaintext password is refused ({self.refusal})" if self.refusal else "nothing refused"
        return " ".join((self.kind, *self.mechanisms)) + f"; {refused}"


def offered(reader: Reader, port: int, user: str, database: str) -> Offer:
    """Begin a connection through the host and return what is asked for. Raises `NoResult`, OSError, HostError."""
    with reader.dial(port, timeout=TIMEOUT) as plain:
        plain.settimeout(TIMEOUT)
        trust = reader.trust
        stream = (
            encrypted(plain, trust.anyone, reader.address)
            if trust and trust.speaks(reader.name, port)
            else plain
        )
        kind, payload = _begin(stream, user, database)
        if kind == b"E":
            raise NoResult(f"refused before a password was asked for: {_error(payload)}")
        if kind != b"R" or len(payload) < 4:
            raise NoResult(f"answered with a message of type {kind!r}")
        (code,) = struct.unpack("!i", payload[:4])
        name = KINDS.get(code, f"kind {code}")
        if name != "SASL":
            return Offer(name, (), "")
        mechanisms = tuple(part.decode() for part in payload[4:].split(b"\0") if part)
        return Offer(name, mechanisms, _insist(stream))


def _begin(stream: socket.socket, user: str, database: str) -> tuple[bytes, bytes]:
    """Say who wants to connect; return the answer's type and content."""
    texts = ("user", user, "database", database, "client_encoding", "UTF8")
    body = struct.pack("!i", PROTOCOL) + b"".join(text.encode() + b"\0" for text in texts) + b"\0"
    stream.sendall(struct.pack("!i", len(body) + 4) + body)
    return _message(stream)


def refusal(reader: Reader, port: int, user: str, database: str) -> str:
    """Return how a connection without TLS is refused, "" where it is not. Raises OSError, HostError, `NoResult`."""
    with reader.dial(port, timeout=TIMEOUT) as stream:
        stream.settimeout(TIMEOUT)
        try:
            kind, payload = _begin(stream, user, database)
        except ConnectionError:
            return "the connection was closed"
    return _error(payload) if kind == b"E" else ""


def encrypted(stream: socket.socket, context: ssl.SSLContext, name: str) -> socket.socket:
    """Ask for TLS, and return the stream that speaks it. Raises `NoResult` without TLS there, `ssl.SSLError`."""
    stream.sendall(struct.pack("!ii", 8, TLS_REQUEST))
    if _exactly(stream, 1) != b"S":
        raise NoResult("does not speak TLS")
    return cast("socket.socket", secured(stream, context, name))


def _insist(stream: socket.socket) -> str:
    """Answer with a plaintext password, nobody's; return the refusal, "" where the server goes along."""
    body = NOBODYS.encode() + b"\0"
    stream.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)
    try:
        kind, payload = _message(stream)
    except ConnectionError:
        return "the connection was closed"
    return _error(payload) if kind == b"E" else ""


def _message(stream: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(stream, 1)
    (length,) = struct.unpack("!i", _exactly(stream, 4))
    if not 4 <= length <= MAX_MESSAGE:
        raise NoResult("does not speak PostgreSQL's protocol")
    return kind, _exactly(stream, length - 4)


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise ConnectionResetError("closed the connection")
        data += piece
    return data


def _error(payload: bytes) -> str:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in payload.split(b"\0") if part}
    return f"{fields.get(b'C', '?')}: {fields.get(b'M', 'no message')}"
