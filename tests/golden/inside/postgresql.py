"""Runs in a container of Patroni's image: what PostgreSQL and Patroni make of the texts in /tmp/questions.json.

Prints the answers as JSON, in the order of the questions. The tests are in test_hostile_programs.py.
"""

import json
import pathlib
import subprocess
import sys

import psycopg
from patroni.config import Config
from patroni.postgresql.config import ConfigWriter
from patroni.validator import schema
from psycopg.sql import SQL, Identifier

DATA = "/tmp/data"
PATRONI = pathlib.Path("/tmp/patroni")
HBA = "SELECT type, database, user_name, address, netmask, auth_method, options, error FROM pg_hba_file_rules"
IDENT = "SELECT map_name, sys_name, pg_username, error FROM pg_ident_file_mappings"
FILE = "SELECT name, setting, sourcefile FROM pg_file_settings"


def start():
    """Make a database and start it; only its own superuser, `first`, gets in without a password."""
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(
        ["initdb", "-D", DATA, "-U", "first", "-E", "UTF8", "--locale", "C.UTF-8", "-N", "-A", "trust"],
        **quiet,
    )
    with pathlib.Path(DATA, "postgresql.conf").open("a") as file:
        file.write("unix_socket_directories = '/tmp'\nlisten_addresses = ''\nfsync = off\n")
        file.write("ssl = on\nssl_cert_file = '/etc/patroni/tls/server.crt'\n")
        file.write("ssl_key_file = '/etc/patroni/tls/server.key'\n")
        file.write("include_if_exists 'rendered.conf'\n")
    with ConfigWriter(f"{DATA}/pg_hba.conf") as file:
        file.writelines(["local all first trust", "local all all scram-sha-256"])
    subprocess.run(["pg_ctl", "-D", DATA, "-w", "-l", "/tmp/log", "start"], **quiet)


def connect(**more):
    """Connect over the socket, as `first` unless `more` says otherwise."""
    words = {"host": "/tmp", "user": "first", "dbname": "postgres", "client_encoding": "utf8", **more}
    return psycopg.connect(autocommit=True, **words)


def constant(connection, conforming, literal, name):
    """Return the value of a constant and the name of its column."""
    connection.execute(f"SET standard_conforming_strings = {conforming}")
    found = connection.execute(f"SELECT {literal} AS {name}".encode())
    return [found.fetchone()[0], found.description[0].name]


def refusal(connection, statement):
    """Return what the server says of a statement that it cannot obey."""
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.diag.message_primary
    return None


def role(connection, name, statement, passwords):
    """Return how a new role is called, and which of the passwords it can log in with, over the network's protocol."""
    connection.execute(statement.encode())
    (found,) = connection.execute("SELECT rolname FROM pg_roles ORDER BY oid DESC LIMIT 1").fetchone()
    return [found, [logs_in(name, password) for password in passwords]]


def logs_in(name, password):
    try:
        connect(user=name, password=password).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise
        return False
    return True


def lookup(connection, superuser, script):
    """Return the function's body and owner, and what it says of the superuser that the script was rendered for."""
    name = Identifier(superuser)
    try:
        connection.execute("BEGIN")
        connection.execute(SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD 'x'").format(name))
        connection.execute(SQL("SET LOCAL SESSION AUTHORIZATION {}").format(name))
        connection.execute(script.encode())
        where = "FROM pg_proc WHERE oid = 'pgbouncer.user_lookup(text)'::regprocedure"
        made = connection.execute(f"SELECT prosrc, pg_get_userbyid(proowner) {where}").fetchone()
        connection.execute("SET LOCAL SESSION AUTHORIZATION pgbouncer_auth")
        asked = "SELECT uname FROM pgbouncer.user_lookup(%s)"
        return [
            *made,
            *([row[0] for row in connection.execute(asked, [each])] for each in (superuser, "other")),
        ]
    finally:
        connection.execute("ROLLBACK")


def node(connection, files):
    """Return what Patroni reads in its files and finds wrong, and what PostgreSQL does in those that it writes."""
    PATRONI.mkdir(exist_ok=True)
    for name, text in files.items():
        (PATRONI / name).write_text(text)
    config = Config(str(PATRONI), validator=None).local_configuration
    postgresql = config["postgresql"]
    for name in ("pg_hba", "pg_ident"):
        with ConfigWriter(f"{DATA}/{name}.conf") as file:
            file.writelines(postgresql[name])
    with ConfigWriter(f"{DATA}/rendered.conf") as file:
        for name, value in config["bootstrap"]["dcs"]["postgresql"]["parameters"].items():
            file.write_param(name, value)
    return {
        "config": config,
        "wrong": list(schema(config)),
        "hba": connection.execute(f"{HBA} ORDER BY line_number").fetchall(),
        "ident": connection.execute(f"{IDENT} ORDER BY line_number").fetchall(),
        "parameters": [
            row[:2]
            for row in connection.execute(f"{FILE} ORDER BY seqno").fetchall()
            if row[2].endswith("/rendered.conf")
        ],
    }


def main():
    questions = json.loads(pathlib.Path("/tmp/questions.json").read_text())
    start()
    with connect() as connection:
        connection.execute("CREATE ROLE pgbouncer_auth; CREATE ROLE other LOGIN SUPERUSER PASSWORD 'x'")
        asking = {
            each.__name__: [each(connection, *words) for words in questions[each.__name__]]
            for each in (constant, refusal, role, lookup, node)
        }
    json.dump(asking, sys.stdout)


main()
