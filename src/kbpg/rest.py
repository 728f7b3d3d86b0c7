"""Patroni's REST API, spoken through a stream that a host opens."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, cast

from kbpg.hosts.noted import noted
from kbpg.hosts.port import Reader
from kbpg.hosts.secured import secured
from kbpg.secret import Secret
from kbpg.secret_settings import without_secrets

TIMEOUT = 5.0
"""Seconds for one question: Patroni answers from memory, so a slower answer is a finding."""


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

    def connect(self) -> None:
        timeout = self.timeout if self.timeout is not None else TIMEOUT
        stream = self._reader.dial(self.port, timeout=timeout)
        stream.settimeout(timeout)
        if self._tls:
            try:
                stream = cast("socket.socket", secured(stream, self._tls, self._reader.address))
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
    timeout: float = TIMEOUT,
    anyway: bool = False,
) -> Response:
    """Ask the REST API on `reader`; `body` is sent as JSON, `login` is user and password for unsafe methods.

    Those are in the journal, without values of settings that may be secrets, and are not sent where the host's lock
    was lost, unless `anyway`. Raises `OSError` (refused, timed out), `http.client.HTTPException` or `HostError`.
    """
    text = None if body is None else json.dumps(body)
    if method == "GET":
        return _exchange(reader, method, port, path, text, login, timeout)
    told = [] if body is None else [json.dumps(without_secrets(body))]
    with noted(reader, (method, path, *told), anyway=anyway) as note:
        answer = _exchange(reader, method, port, path, text, login, timeout)
        note.status = 0 if answer.status < 300 else f"HTTP {answer.status}"
        return answer


def _exchange(
    reader: Reader,
    method: str,
    port: int,
    path: str,
    body: str | None,
    login: tuple[str, Secret] | None,
    timeout: float,
) -> Response:
    headers = {"Content-Type": "application/json"}
    if login:
        user, password = login
        token = b64encode(f"{user}:{password.reveal()}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    trust = reader.trust
    secure = trust is not None and trust.speaks(reader.name, port)
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
            trust.learn(reader.name, port, secure := not secure)
        finally:
            connection.close()
    try:
        return Response(answer.status, json.loads(text))
    except ValueError:
        return Response(answer.status, text)


def speaks_tls(reader: Reader, port: int, timeout: float = TIMEOUT) -> bool:
    """Return whether the REST API on `reader` speaks TLS now. Raises `OSError` where it does not answer at all."""
    if reader.trust is None:
        return False
    stream = reader.dial(port, timeout=timeout)
    try:
        stream.settimeout(timeout)
        secured(stream, reader.trust.client, reader.address).close()
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ConnectionResetError):
        return False
    finally:
        stream.close()
    return True
