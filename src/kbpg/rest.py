"""Patroni's REST API, spoken through a stream that a host opens."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from kbpg.hosts.noted import noted
from kbpg.hosts.port import Reader
from kbpg.hosts.secured import certificate_of, secured
from kbpg.secret import Secret
from kbpg.secret_settings import without_secrets

TIMEOUT = 5.0
"""Seconds for one question: Patroni answers from memory, so a slower answer is a finding."""


class NoTls(OSError):
    """Somebody without TLS has the port of a Patroni that should speak it, and was not sent the password."""

    def __init__(self, why: object) -> None:
        super().__init__(
            f"it does not speak TLS, as it should by now, and a password is not sent in clear ({why})"
        )


@dataclass(frozen=True)
class Response:
    """HTTP status and the decoded JSON body (or the text, where it is not JSON)."""

    status: int
    body: Any


class _Tunnel(http.client.HTTPConnection):
    """An HTTP connection over a stream opened by the host."""

    def __init__(self, reader: Reader, port: int, timeout: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(reader.address, port, timeout=timeout)
        self._reader, self._tls = reader, tls
        self.proven = False

    def connect(self) -> None:
        timeout = self.timeout if self.timeout is not None else TIMEOUT
        stream = self._reader.dial(self.port, timeout=timeout)
        stream.settimeout(timeout)
        if self._tls:
            try:
                stream = cast("socket.socket", secured(stream, self._tls, self._reader.address))
                self.proven = True
            except BaseException:
                stream.close()
                raise
        self.sock = stream


def request(
    reader: Reader,
    method: str,
    port: int,
    path: str,
    body: Any = None,
    *,
    login: tuple[str, Secret] | None = None,
    in_clear: Callable[[], bool] = lambda: False,
    timeout: float = TIMEOUT,
    anyway: bool = False,
) -> Response:
    """Ask the REST API on `reader`; `body` is sent as JSON, `login` is user and password for unsafe methods.

    Those are in the journal, without values of settings that may be secrets, and are not sent where the host's lock
    was lost, unless `anyway`. With `tls: require` a login goes to who does not speak TLS only if `in_clear`, which is
    asked then: a local user may have taken the port of a Patroni that is down. Raises `OSError` (refused, timed out,
    `NoTls`), `http.client.HTTPException` or `HostError`.
    """
    text = None if body is None else json.dumps(body)
    if method == "GET":
        return _exchange(reader, method, port, path, text, login, in_clear, timeout)
    told = [] if body is None else [json.dumps(without_secrets(body))]
    with noted(reader, (method, path, *told), anyway=anyway) as note:
        answer = _exchange(reader, method, port, path, text, login, in_clear, timeout)
        note.status = 0 if answer.status < 300 else f"HTTP {answer.status}"
        return answer


def _exchange(
    reader: Reader,
    method: str,
    port: int,
    path: str,
    body: str | None,
    login: tuple[str, Secret] | None,
    in_clear: Callable[[], bool],
    timeout: float,
) -> Response:
    headers = {"Content-Type": "application/json"}
    if login:
        user, password = login
        token = b64encode(f"{user}:{password.reveal()}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    trust = reader.trust
    secure = trust is not None and trust.speaks(reader.name, port)

    def refused() -> bool:
        """Return whether nobody who does not speak TLS may get this."""
        return bool(login and trust and trust.mode == "require" and not in_clear())

    if trust and not secure and refused():  # what was heard on this port may have been somebody else's word
        if not trust.ca.exists():
            raise NoTls(f"{trust.ca} is missing")
        secure = True
    for last in (False, True):
        connection = _Tunnel(reader, port, timeout, trust.client if trust and secure else None)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            break
        except (ssl.SSLError, http.client.BadStatusLine, ConnectionResetError) as error:
            # The other side speaks the other way: while `tls` is being changed. Nothing was done by it then.
            if (
                last
                or trust is None
                or not trust.ca.exists()
                or isinstance(error, ssl.SSLCertVerificationError)
            ):
                raise
            if secure and refused():
                if connection.proven:
                    raise
                raise NoTls(error) from error
            trust.learn(reader.name, port, secure := not secure)
        finally:
            connection.close()
    try:
        return Response(answer.status, json.loads(text))
    except ValueError:
        return Response(answer.status, text)


def certificate(reader: Reader, port: int, timeout: float = TIMEOUT) -> str | None:
    """Return the certificate, in PEM, that the REST API on `reader` shows now, None where it does not speak TLS.

    Raises `OSError` where it does not answer at all, or shows one of another authority.
    """
    if reader.trust is None:
        return None
    stream = reader.dial(port, timeout=timeout)
    try:
        stream.settimeout(timeout)
        return certificate_of(stream, reader.trust.client, reader.address)
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ConnectionResetError):
        return None
    finally:
        stream.close()
