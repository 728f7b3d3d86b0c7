"""Runs in a container of Patroni's image that shares a PgBouncer's socket: what its console says of each file.

Reads /tmp/questions.json, prints the answers as JSON. `PGBOUNCER`, in test_hostile_programs.py, is the other side: it
goes on to the next file when a line comes through the pipe.
"""

import json
import pathlib
import sys
import time

import psycopg

SOCKETS = pathlib.Path("/run/pgbouncer")
SHOWN = ("config", "databases", "users", "peers")
DEADLINE = 30
"""Seconds until a PgBouncer listens; one that takes its file does so in milliseconds."""


def connect(port, user, password):
    return psycopg.connect(
        host=str(SOCKETS), port=port, user=user, password=password, dbname="pgbouncer", autocommit=True
    )


def refused(port, user, password):
    """Return why PgBouncer does not let a user in, None if it does."""
    try:
        connect(port, user, password).close()
    except psycopg.OperationalError as error:
        return str(error)
    return None


def first(port, password):
    """Connect as soon as PgBouncer listens."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return connect(port, "pgbouncer_auth", password)
        except psycopg.OperationalError as error:
            waiting = "No such file" in str(error) or "Connection refused" in str(error)
            if not waiting or time.monotonic() > end:
                raise
            time.sleep(0.01)


def ask(port, password, others):
    """Return all tables of the console, and for each of the others why it is not let in."""
    with first(port, password) as connection:
        found = {}
        for what in SHOWN:
            rows = connection.execute(f"SHOW {what}")
            names = [column.name for column in rows.description]
            found[what] = [dict(zip(names, row, strict=True)) for row in rows]
    return {**found, "refused": [refused(port, *other) for other in others]}


def main():
    answers = []
    try:
        for port, password, others in json.loads(pathlib.Path("/tmp/questions.json").read_text()):
            answers.append(ask(port, password, others))
            (SOCKETS / "next").write_text("\n")
    except psycopg.Error as error:
        answers.append(str(error))
    json.dump(answers, sys.stdout)


main()
