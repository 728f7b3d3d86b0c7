"""Raft's own view, asked of each member: the `status` command of pysyncobj's wire protocol.

The messages are zlib-compressed pickles, encrypted by a key derived from the Raft password (`encryptor.py`
and `tcp_connection.py` of pysyncobj 0.3.17). Unpickling executes code for whoever holds that password, so
this reader accepts plain values and the class of a node's address, nothing else.
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import socket
import struct
import threading
import time
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from kbpg.facts import CallFact, NotKnown
from kbpg.hosts.noted import noted
from kbpg.hosts.port import Reader
from kbpg.secret import Secret

SALT = b"\x15%q\xe6\xbb\x02\xa6\xf8\x13q\x90\xcf6+\x1e\xeb"  # pysyncobj/encryptor.py
ITERATIONS = 100_000  # the same
TIMEOUT = 3.0
"""Seconds: a member answers between two ticks of 50 ms; pysyncobj's own tool would wait 900 s."""
SETTLING = 2.0
"""Seconds after which a partner that is not connected counts as away: two of the image's `connectionRetryTime`
(ADR 0022). Followers send each other nothing, and pysyncobj drops a connection that was silent for 3.5 s as soon as
one of them does speak: at each election, for about 25 ms (measured; `__processConnectionTimeout` in
tcp_connection.py), and for more than a second where the other one gets no CPU to answer the new call (seen once)."""
LOOK_AGAIN = 0.1
"""Seconds between two looks in that time: two of pysyncobj's ticks."""
STATES = {0: "follower", 1: "candidate", 2: "leader"}  # _RAFT_STATE in pysyncobj/syncobj.py
MAX_MESSAGE = 1 << 20
"""Bytes; a status is under 2 kB."""
UNFORESEEN = (ArithmeticError, AttributeError, ImportError, LookupError, TypeError, ValueError)
"""What reading an answer may raise that is none: pickle names some, and rules none out (its manual, "Exceptions")."""


@dataclass(frozen=True)
class RaftStatus:
    """What one member says of the consensus.

    `address`, `leader` and the keys of `partners` are "address:port" as the member spells them; a partner maps
    to whether it is connected. `state` is follower, candidate or leader.
    """

    leader: str | None
    has_quorum: bool
    term: int
    commit_index: int
    log_length: int
    partners: dict[str, bool]
    address: str = ""
    state: str = ""

    @property
    def size(self) -> int:
        """Return how many members the consensus has, as this member knows it."""
        return len(self.partners) + 1

    @property
    def away(self) -> tuple[str, ...]:
        """Return the partners that are not connected."""
        return tuple(partner for partner, connected in self.partners.items() if not connected)


class OtherPassword(NotKnown):
    """The member has another password, or closed the connection as one that has does."""


@dataclass(frozen=True)
class RaftFact(CallFact[RaftStatus]):
    """The Raft status of the host's own member; `former` is the password of before, in a rotation.

    `settling` are seconds that take the place of `SETTLING` for who shows what is, and changes nothing for it.
    """

    port: int
    password: Secret
    former: Secret | None = None
    settling: float | None = None
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"raft:{self.port}"

    def ask(self, reader: Reader) -> RaftStatus:
        """Return the status; raises `NotKnown` where the member does not answer or the password differs.

        A partner in it that is not connected was away for `SETTLING` seconds, or `settling`.
        """
        ends = time.monotonic() + (SETTLING if self.settling is None else self.settling)
        while True:
            status = status_now(reader, self.port, self.password, former=self.former)
            if not status.away or time.monotonic() >= ends:
                return status
            time.sleep(LOOK_AGAIN)


def status_now(reader: Reader, port: int, password: Secret, *, former: Secret | None = None) -> RaftStatus:
    """Return what the host's member says in this moment; raises as `command` does."""
    return _status(command(reader, port, password, ["status"], former=former))


def command(
    reader: Reader,
    port: int,
    password: Secret,
    words: list[str],
    *,
    timeout: float = TIMEOUT,
    former: Secret | None = None,
) -> Any:
    """Return what the host's member answers to a utility command, within `timeout` seconds for each password.

    The commands are in `transport.py` and `syncobj.py` of pysyncobj; all but `status` are in the journal. Raises
    `NotKnown` where it does not answer, or not in a way that can be read, `OtherPassword` where it knows neither,
    `HostError` where the host is lost.
    """
    with nullcontext() if words == ["status"] else noted(reader, ("Raft", *words)):
        try:
            return _answer(reader, port, password, words, timeout)
        except OtherPassword:
            if former is None:
                raise
            return _answer(reader, port, former, words, timeout)


def _answer(reader: Reader, port: int, password: Secret, words: list[str], timeout: float) -> Any:
    try:
        with reader.dial(port, timeout=timeout) as stream:
            stream.settimeout(timeout)
            return _Conversation(stream, _shared(password)).ask(words)
    except EOFError:
        raise OtherPassword(f"Raft on port {port}: closed the connection: another password?") from None
    except OSError as error:
        raise NotKnown(f"Raft on port {port}: {error}") from None
    except (InvalidToken, zlib.error, pickle.UnpicklingError, struct.error):
        raise OtherPassword(f"Raft on port {port} speaks with another password") from None
    except UNFORESEEN as error:
        raise NotKnown(f"Raft on port {port}: {_unexpected(error)}") from None


def _unexpected(error: Exception) -> str:
    return f"unexpected answer ({type(error).__name__}: {error})"


def _status(answer: Any) -> RaftStatus:
    """Return the status that a member answered; raises `NotKnown` where it is none."""
    if not isinstance(answer, dict):
        raise NotKnown(f"Raft answered {type(answer).__name__} where its status was asked")
    try:
        return _read(answer)
    except UNFORESEEN as error:
        raise NotKnown(_unexpected(error)) from None


def _read(answer: dict[str, Any]) -> RaftStatus:
    prefix = "partner_node_status_server_"
    leader = answer.get("leader")
    return RaftStatus(
        leader=str(leader) if leader is not None else None,
        has_quorum=bool(answer["has_quorum"]),
        term=int(answer["raft_term"]),
        commit_index=int(answer["commit_idx"]),
        log_length=int(answer["log_len"]),
        partners={k.removeprefix(prefix): v == 2 for k, v in answer.items() if k.startswith(prefix)},
        address=str(answer.get("self", "")),
        state=STATES.get(int(answer.get("state", -1)), "unknown"),
    )


_DERIVING = threading.Lock()


def _shared(password: Secret) -> Fernet:
    """Return the cipher; the members are asked side by side, and its 30 ms of CPU are spent once."""
    with _DERIVING:
        return _cipher(password)


@lru_cache(maxsize=4)
def _cipher(password: Secret) -> Fernet:
    kdf = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=SALT, iterations=ITERATIONS)
    return Fernet(base64.urlsafe_b64encode(kdf.derive(password.reveal().encode())))


class _Node:
    """Stands for pysyncobj.node.TCPNode: an address."""

    def __setstate__(self, state: Any) -> None:
        self.address = str(state["_id"])

    def __str__(self) -> str:
        return getattr(self, "address", "?")


class _Unpickler(pickle.Unpickler):
    """Builds plain values, bytes (which protocol 2 spells as a call) and the address of a node."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("pysyncobj.node", "TCPNode"):
            return _Node
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"refused {module}.{name}")


def _unpacked(packed: bytes) -> bytes:
    """Return what was compressed, which may not be larger than a message either."""
    inflating = zlib.decompressobj()
    data = inflating.decompress(packed, MAX_MESSAGE)
    if not inflating.eof:
        raise pickle.UnpicklingError("a message that is cut off, or grows beyond all measure")
    return data


class _Conversation:
    """One connection: keys are exchanged first, then every message carries the other side's key."""

    def __init__(self, stream: socket.socket, cipher: Fernet) -> None:
        self._stream, self._cipher = stream, cipher
        self._mine, self._theirs = os.urandom(32), b""

    def ask(self, message: list[str]) -> Any:
        self._send(self._mine)
        self._theirs = self._receive()
        self._send((self._theirs, message))
        return self._receive()

    def _send(self, message: object) -> None:
        packed = zlib.compress(pickle.dumps(message, 2), 3)
        data = self._cipher.encrypt_at_time(packed, int(time.monotonic()))
        self._stream.sendall(struct.pack("i", len(data)) + data)

    def _receive(self) -> Any:
        (length,) = struct.unpack("i", self._exactly(4))
        if not 0 < length <= MAX_MESSAGE:
            raise pickle.UnpicklingError(f"a message of {length} bytes")
        key, message = _Unpickler(io.BytesIO(_unpacked(self._cipher.decrypt(self._exactly(length))))).load()
        if key != self._mine:
            raise pickle.UnpicklingError("an answer to somebody else")
        return message

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._stream.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data
