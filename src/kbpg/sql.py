"""SQL through a stream that a host opens: psycopg over a local forwarder."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import psycopg
from psycopg.sql import SQL, Composed

from kbpg.errors import HostError
from kbpg.facts import REFUSED, Login
from kbpg.hosts.noted import noted
from kbpg.hosts.port import Reader
from kbpg.secret import without_passwords

CONNECT_TIMEOUT = 5
"""Seconds; a PostgreSQL that accepts connections answers in milliseconds."""
STATEMENT_TIMEOUT = 30_000
"""Milliseconds a statement of kbpg's own may take before the server ends it."""
UNLOGGED = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
}
"""Settings, the superuser's to make, with which no statement of a session gets into PostgreSQL's log: not by itself,
not for taking long, not with an error or with a wait for a lock (manual, 20.8). A verifier must not be there.

Patroni does the same as a cluster is born, where it makes the superuser and the roles of replication and pg_rewind
with their plaintext: `SET log_statement TO none` and more in `create_or_update_role` of
patroni/postgresql/bootstrap.py, read in 3.3.11 and 4.1.5.
"""
NOT_IN_CLEAR = {"require_auth": "!password"} if psycopg.pq.version() >= 160000 else {}
"""A server that has not proved who it is does not get the password itself (libpq's manual, 34.1.2; new in 16)."""
NO_TLS = "server does not support SSL"
"""What libpq says where a server has TLS switched off: while `tls` is being changed."""
PATIENCE = 60.0
"""Seconds until a connection is cut from this side: a server that is frozen keeps no time."""


@contextmanager
def connect(
    reader: Reader, login: Login, *, pooled: bool = False, unlogged: bool = False, seconds: float = PATIENCE
) -> Iterator[psycopg.Connection[Any]]:
    """Open an autocommit connection to `login.port` on the host, as `login.user`.

    `pooled`: through PgBouncer, which takes neither start-up options nor statements prepared by name. `unlogged`: a
    superuser's, not `pooled`, with `UNLOGGED` from the start. Where the password is refused, `login.former` is tried,
    if there is one: a rotation of it is not ended. After `seconds` the connection is cut, whatever it waits for: a
    frozen server does not hold kbpg for ever. Raises `psycopg.Error` or `HostError`.
    """
    with reader.forward(login.port) as port:
        connection = _opened(reader, port, login, _options(pooled=pooled, unlogged=unlogged))
        with connection, cut_after(connection, seconds):
            yield connection


def _options(*, pooled: bool, unlogged: bool = False) -> str | None:
    if pooled:
        return None
    settings = {"statement_timeout": str(STATEMENT_TIMEOUT), **(UNLOGGED if unlogged else {})}
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _opened(reader: Reader, port: int, login: Login, options: str | None) -> psycopg.Connection[Any]:
    """Connect, with the password of before where this one is refused. Raises `psycopg.Error`."""
    try:
        return through(reader, login, port, application_name="kbpg", options=options)
    except psycopg.OperationalError as error:
        if login.former is None or REFUSED not in str(error):
            raise
        return through(
            reader, replace(login, password=login.former), port, application_name="kbpg", options=options
        )


def through(
    reader: Reader, login: Login, local: int, *, named: bool = True, **more: Any
) -> psycopg.Connection[Any]:
    """Connect to a port of this machine that leads to `login.port` of the host.

    Where the host's services are expected to speak TLS, and do, this one must prove itself by the host's address.
    With `named` off, any host of the cluster will do. `more` are libpq's options; what nobody says is its default, as
    kbpg has taken its variables out of the environment. Raises `psycopg.Error`.
    """
    trust, checked = reader.trust, "verify-full" if named else "verify-ca"
    secure = trust is not None and trust.speaks(reader.name, login.port)
    while True:
        ways: dict[str, Any] = {"host": "127.0.0.1", "sslmode": "prefer", **NOT_IN_CLEAR}
        if trust and secure:
            ways = {"host": reader.address, "sslmode": checked, "sslrootcert": str(trust.ca)}
        try:
            return psycopg.connect(
                **ways,
                hostaddr="127.0.0.1",
                port=local,
                user=login.user,
                password=login.password.reveal(),
                dbname=login.database,
                connect_timeout=CONNECT_TIMEOUT,
                gssencmode="disable",
                autocommit=True,
                prepare_threshold=None,
                **more,
            )
        except psycopg.OperationalError as error:
            if not trust or not secure or NO_TLS not in str(error):
                raise
            trust.learn(reader.name, login.port, secure := False)


def lets_in(
    reader: Reader,
    login: Login,
    query: str,
    *,
    pooled: bool = False,
    replication: bool = False,
    seconds: float = PATIENCE,
) -> bool:
    """Return whether `login.password`, and no other, is taken (True) or refused (False).

    `query` is run too ("": none), because PgBouncer lets a client in before PostgreSQL is asked. A role that is let
    in and may not use the database has the right password. Raises `psycopg.Error`, `OSError` or `HostError` where
    neither is told.
    """
    try:
        with reader.forward(login.port) as port:
            connection = through(
                reader,
                login,
                port,
                application_name="kbpg",
                options=_options(pooled=pooled),
                replication="true" if replication else None,
            )
            with connection, cut_after(connection, seconds):
                if query:
                    connection.execute(query.encode())
        return True
    except psycopg.Error as error:
        if REFUSED in str(error):
            return False
        if "permission denied for database" in str(error):
            return True
        raise


@contextmanager
def cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """End the connection's stream at the deadline; whoever waits on it gets a `psycopg.OperationalError`."""
    stream = socket.socket(fileno=os.dup(connection.fileno()))
    timer = threading.Timer(seconds, _shut, (stream,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        stream.close()


def _shut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def ask(connection: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    """Run one query that only reads and return its rows."""
    return cast(list[tuple[Any, ...]], connection.execute(query.encode()).fetchall())


def execute(reader: Reader, login: Login, *statements: SQL | Composed, seconds: float = PATIENCE) -> None:
    """Run statements that change something, each in its own transaction, and note them in the journal.

    `login` is a superuser's, past PgBouncer. PostgreSQL's log gets none of them: any may set a password's verifier.
    Raises `HostError` with the server's message, which names the object and holds no password.
    """
    try:
        with connect(reader, login, unlogged=True, seconds=seconds) as connection:
            for statement in statements:
                with noted(reader, ("SQL", login.database, _shown(statement, connection))):
                    connection.execute(statement)
    except (OSError, psycopg.Error) as error:
        raise HostError(reader.name, f"PostgreSQL refused a change: {short(error)}") from error


def _shown(statement: SQL | Composed, connection: psycopg.Connection[Any]) -> str:
    """Return a statement as the journal may have it: without verifiers of passwords."""
    return without_passwords(statement.as_string(connection))


def short(error: Exception) -> str:
    """Return the sentence of a database error that says why: the server's own, or libpq's first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "FATAL:" in line or "ERROR:" in line]
    text = (told or lines or [type(error).__name__])[0]
    _, _, reason = text.rpartition("failed: ")
    return reason.removeprefix("FATAL:").removeprefix("ERROR:").strip()
