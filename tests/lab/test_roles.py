"""Databases and roles of the inventory: made, used through PgBouncer, converged, and never dropped."""

from __future__ import annotations

import json
import re
import secrets
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.lab.conftest import DB, PROXIES, Lab

pytestmark = pytest.mark.lab

DATABASES: list[dict[str, Any]] = [
    {
        "name": "lab_shop",
        "owner": "lab_owner",
        "schemas": ["sales"],
        "extensions": ["vector", "pg_trgm"],
        "pool_size": 4,
    }
]
READ_POOL = 20
"""Connections for reads of keybuzz: with a database more it is as much smaller, so that max_connections stays."""
ROLES: list[dict[str, Any]] = [
    {"name": "lab_owner", "connection_limit": 6},
    {"name": "lab_readers", "login": False, "grants": [{"on": "lab_shop.sales", "access": "read"}]},
    {"name": "lab_reporting", "member_of": ["lab_readers", "pg_monitor"]},
    {"name": "lab_writer", "grants": [{"on": "lab_shop.sales", "access": "write"}]},
]
DROP = """
drop database if exists lab_shop;
drop role if exists lab_owner, lab_readers, lab_reporting, lab_writer, lab_byhand, lab_timed, lab_logged;
"""
REPLAYED = 5.0
"""Seconds until a replica shows what was just written; it takes milliseconds."""
LOGGED = 10.0
"""Seconds until Docker has written down what PostgreSQL just said; it takes milliseconds."""


class Shop:
    """The lab with an inventory of its own; credentials are in the lab's file."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.lab, self.path = lab, path
        self.write(DATABASES, ROLES)

    def write(self, databases: list[dict[str, Any]], roles: list[dict[str, Any]]) -> None:
        pool = READ_POOL - sum(2 * database["pool_size"] for database in databases)
        more = {"databases": databases, "roles": roles, "pgbouncer": {"read_pool_size": pool}}
        self.lab.edited(self.path, lambda settings: settings.update(more))

    def apply(self) -> dict[str, Any]:
        ran = self.lab.kbpg("apply-all", "--json", inventory=self.path, timeout=120)
        assert ran.code == 0, ran.everything
        return dict(json.loads(ran.out))

    def uri(self, role: str, *options: str) -> str:
        given = ("--database", "lab_shop", "--role", role, "--show-password")
        return self.lab.kbpg("uri", *given, *options, inventory=self.path).out.strip()

    def connect(self, role: str, *options: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.uri(role, *options), autocommit=True, prepare_threshold=None)


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Shop]:
    lab.apply()
    lab.await_whole(deadline=30)
    before = lab.directory / "credentials" / "postgres.env"
    kept = before.read_text()
    shop = Shop(lab, lab.directory / "roles.yaml")
    try:
        shop.apply()
        yield shop
    finally:
        shop.path.unlink(missing_ok=True)
        lab.apply()
        _drop(lab)
        before.write_text(kept)


def _drop(lab: Lab) -> None:
    with lab.connect("haproxy-01", 5432, admin=True, dbname="postgres") as connection:
        for statement in DROP.strip().splitlines():
            connection.execute(statement.replace("lab_shop;", "lab_shop with (force);").encode())


def refused(connection: psycopg.Connection[Any], statement: str) -> str | None:
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_roles_do_what_they_may_and_nothing_else(shop: Shop) -> None:
    with shop.connect("lab_owner") as owner:
        owner.execute(
            "create table if not exists sales.orders (id int generated always as identity, v vector(3))"
        )
        owner.execute("insert into sales.orders (v) values ('[1,2,3]')")
    with shop.connect("lab_reporting") as reader:
        assert reader.execute("select count(*) from sales.orders").fetchone() == (1,)
        assert refused(reader, "insert into sales.orders (v) values ('[1,2,3]')") == "42501"
        assert refused(reader, "create table sales.mine (n int)") == "42501"
        row = reader.execute("select count(*) from pg_stat_activity where query <> ''").fetchone()
        assert row
        assert row[0] > 0
    with shop.connect("lab_writer") as writer:
        writer.execute("insert into sales.orders (v) values ('[4,5,6]')")
        assert refused(writer, "truncate sales.orders") == "42501"
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(shop.uri("lab_writer").replace("/lab_shop", "/keybuzz"))
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        shop.lab.connect("haproxy-01", 6432, dbname="lab_shop")


def test_each_database_has_a_read_side(shop: Shop) -> None:
    for proxy in PROXIES:
        address = shop.lab.addresses[proxy]
        text = shop.uri("lab_reporting", "--read-only", "--pooled")
        text = re.sub(r"@[^/]*/", f"@{address}:6432/", text)
        assert text.split("?")[0].endswith("/lab_shop_ro")
        with psycopg.connect(text, autocommit=True, prepare_threshold=None) as reader:
            assert reader.execute("select pg_is_in_recovery()").fetchone() == (True,)
            shop.lab.until(
                lambda: refused(reader, "select 1 from sales.orders") is None, REPLAYED, "replayed"
            )
    with shop.connect("lab_owner", "--read-only", "--pooled") as owner:
        assert refused(owner, "create table sales.never (n int)") == "25006"


def test_passwords_are_generated_once_and_a_second_run_changes_nothing(shop: Shop) -> None:
    env = shop.lab.directory / "credentials" / "postgres.env"
    text = env.read_text()
    for role in ("LAB_OWNER", "LAB_REPORTING", "LAB_WRITER"):
        assert re.search(rf"^POSTGRES_ROLE_{role}_PASS='\w{{32}}'$", text, re.MULTILINE)
    assert "LAB_READERS" not in text
    assert env.stat().st_mode & 0o777 == 0o600
    started = shop.lab.started()
    assert shop.apply()["outcomes"] == []
    assert shop.lab.kbpg("plan", inventory=shop.path).code == 0
    assert shop.lab.started() == started
    assert env.read_text() == text


def test_drift_is_seen_and_mended(shop: Shop) -> None:
    with shop.lab.connect("haproxy-01", 5432, admin=True, dbname="lab_shop") as admin:
        admin.execute("alter role lab_reporting createdb connection limit 1")
        admin.execute("revoke lab_readers from lab_reporting")
        admin.execute("create table sales.byhand (n int)")
        admin.execute("revoke select on sales.byhand from lab_readers")
        admin.execute("alter database lab_shop owner to kb_app")
    plan = shop.lab.kbpg("plan", "--json", inventory=shop.path)
    assert plan.code == 3
    assert {resource for _, resource in shop.lab.changed(plan)} == {
        "role:lab_reporting",
        "membership:lab_reporting",
        "grant:lab_readers on lab_shop.sales",
        "database:lab_shop",
    }
    assert shop.lab.kbpg("diagnose", inventory=shop.path).code == 3
    with shop.connect("lab_reporting") as before:  # whoever is logged in stays so
        shop.apply()
        assert before.execute("select count(*) from sales.byhand").fetchone() == (0,)
    assert shop.apply()["outcomes"] == []


def test_what_two_grantors_gave_is_counted_once_and_what_is_too_much_goes(shop: Shop) -> None:
    with shop.lab.connect("haproxy-01", 5432, admin=True, dbname="lab_shop") as admin:
        try:
            for statement in (
                "grant lab_readers to kb_app with admin option",
                "grant usage on schema sales to kb_app with grant option",
                "set role lab_owner",
                "create table sales.given (n int)",
                "grant select, delete on sales.given to kb_app with grant option",
                "set role kb_app",
                "grant usage on schema sales to lab_readers",
                "grant select on sales.given to lab_readers",
                "grant lab_readers to lab_reporting",
                "reset role",
            ):
                admin.execute(statement.encode())
            assert shop.lab.kbpg("plan", inventory=shop.path).code == 0
            for statement in (
                "set role kb_app",
                "grant delete on sales.given to lab_readers",
                "grant lab_readers to lab_writer",
                "reset role",
            ):
                admin.execute(statement.encode())
            plan = shop.lab.kbpg("plan", "--json", inventory=shop.path)
            wrong = {resource for _, resource in shop.lab.changed(plan)}
            assert wrong == {"grant:lab_readers on lab_shop.sales", "membership:lab_writer"}
            shop.apply()
            assert shop.apply()["outcomes"] == []
        finally:
            for statement in (
                "reset role",
                "drop table if exists sales.given",
                "revoke lab_readers from kb_app cascade",
                "revoke all on schema sales from kb_app cascade",
            ):
                admin.execute(statement.encode())
    assert shop.apply()["outcomes"] == []


def test_a_password_that_the_file_has_lost_is_not_replaced(shop: Shop) -> None:
    env = shop.lab.directory / "credentials" / "postgres.env"
    text = env.read_text()
    uri = shop.uri("lab_writer")
    env.write_text(re.sub(r"(?m)^POSTGRES_ROLE_LAB_WRITER_PASS=.*\n", "", text))
    try:
        ran = shop.lab.kbpg("apply-all", inventory=shop.path)
        assert ran.code == 1
        assert "POSTGRES_ROLE_LAB_WRITER_PASS" in ran.everything
        assert "LAB_WRITER" not in env.read_text()
        psycopg.connect(uri).close()
    finally:
        env.write_text(text)
    assert shop.apply()["outcomes"] == []


def test_a_connection_limit_is_shared_by_the_proxies(shop: Shop) -> None:
    """Six connections, so three of each PgBouncer's: the fourth transaction waits, and none is refused."""
    text = re.sub(r"@[^/]*/", f"@{shop.lab.addresses['haproxy-01']}:6432/", shop.uri("lab_owner"))
    sessions = [psycopg.connect(text, prepare_threshold=None) for _ in range(4)]
    try:
        for session in sessions[:3]:
            session.execute("select 1")
        fourth = sessions[3].pgconn
        fourth.send_query(b"select 1")
        assert not _answered(fourth, seconds=2)
        sessions[0].rollback()
        assert _answered(fourth, seconds=5)
        fourth.consume_input()
        result = fourth.get_result()
        assert result
        assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    finally:
        for session in sessions:
            session.close()


def _answered(connection: psycopg.pq.abc.PGconn, *, seconds: float) -> bool:
    return bool(select.select([connection.socket], [], [], seconds)[0])


def test_a_role_reaches_each_node_from_where_the_inventory_says(shop: Shop) -> None:
    """It alone, from there alone, and with a reload, not a restart; nobody any more once the inventory is silent."""
    lab, started = shop.lab, shop.lab.started()
    with socket.create_connection((lab.addresses[DB[0]], 5432), timeout=5) as here:
        mine = here.getsockname()[0]
    by_node = {
        host: re.sub(r"@[^/]*/", f"@{lab.addresses[host]}:5432/", shop.uri("lab_writer")) for host in DB
    }

    def told(node: str, **login: Any) -> str:
        try:
            psycopg.connect(by_node[node], **login).close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    assert all("no pg_hba.conf entry" in told(host) for host in DB)
    with_it = [{**role, "direct_from": [mine]} if role["name"] == "lab_writer" else role for role in ROLES]
    shop.write(DATABASES, with_it)
    assert {each["impact"] for each in shop.apply()["outcomes"] if each["resource"].startswith("loaded")} == {
        "reload"
    }
    for host in DB:
        lab.until(lambda host=host: told(host) == "", 10, f"lab_writer on {host}")  # type: ignore[misc]
        assert "permission denied for database" in told(host, dbname="keybuzz")
        for user, password in (("kb_app", "POSTGRES_APP_PASS"), ("kb_admin", "POSTGRES_SUPERPASS")):
            said = told(host, user=user, password=lab.credentials[password])
            assert "no pg_hba.conf entry" in said, (host, user, said)
    with psycopg.connect(by_node[DB[0]]) as direct:
        assert direct.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (
            True,
        )
    assert lab.kbpg("diagnose", inventory=shop.path).code == 0
    shop.write(DATABASES, ROLES)
    shop.apply()
    for host in DB:
        lab.until(lambda host=host: "no pg_hba.conf entry" in told(host), 10, f"refused by {host}")  # type: ignore[misc]
    assert lab.started() == started


def test_a_role_has_the_timeouts_of_the_inventory(shop: Shop) -> None:
    """Through HAProxy and in a pool of PgBouncer; what somebody set on a role without the key stays."""
    timed = {
        "name": "lab_timed",
        "grants": [{"on": "lab_shop", "access": "connect"}],
        "statement_timeout": "1s",
        "idle_in_transaction_timeout": 90,
    }
    shop.write(DATABASES, [*ROLES, timed])
    assert {"role:lab_timed", "timeouts:lab_timed"} <= {each["resource"] for each in shop.apply()["outcomes"]}
    idle = "idle_in_transaction_session_timeout"
    for way in ("--direct", "--pooled"):
        with shop.connect("lab_timed", way) as session:
            assert session.execute("show statement_timeout").fetchone() == ("1s",)
            assert session.execute(f"show {idle}".encode()).fetchone() == ("90s",)
            assert refused(session, "select pg_sleep(20)") == "57014"
    with shop.lab.connect("haproxy-01", 5432, admin=True, dbname="postgres") as admin:
        admin.execute("alter role lab_writer set statement_timeout = '7min'")
        assert shop.lab.kbpg("plan", inventory=shop.path).code == 0
        admin.execute("alter role lab_timed set statement_timeout = 0")
        admin.execute(f"alter role lab_timed reset {idle}".encode())
        plan = shop.lab.kbpg("plan", "--json", inventory=shop.path)
        assert plan.code == 3
        assert {resource for _, resource in shop.lab.changed(plan)} == {"timeouts:lab_timed"}
        assert shop.lab.kbpg("diagnose", inventory=shop.path).code == 3
        shop.apply()
        row = admin.execute("select rolconfig from pg_roles where rolname = 'lab_timed'").fetchone()
        assert row
        assert sorted(row[0]) == [f"{idle}=90s", "statement_timeout=1s"]
        admin.execute("alter role lab_writer reset statement_timeout")
    assert shop.apply()["outcomes"] == []
    shop.write(DATABASES, ROLES)
    shop.apply()


def test_the_log_tells_who_came_and_what_was_made_and_no_password_that_kbpg_sets(shop: Shop) -> None:
    lab, leader = shop.lab, shop.lab.leader()
    since = lab.sh(leader, "date -u +%Y-%m-%dT%H:%M:%SZ").strip()

    def logs() -> dict[str, str]:
        script = f"for c in $(docker ps -q); do docker logs --since {since} $c 2>&1; done"
        return lab.everywhere(script)

    def logged_until_now() -> dict[str, str]:
        """Return the logs once the leader's has what is done now, and so all that was done before."""
        mark = f"seen_{secrets.token_hex(4)}"
        with lab.connect("haproxy-01", 5432) as application:
            application.execute(f"create table {mark} (n int)".encode())
            application.execute(f"drop table {mark}".encode())
        lab.until(
            lambda: f"LOG:  statement: drop table {mark}" in logs()[leader], LOGGED, "the DDL is logged"
        )
        return logs()

    def secret() -> str:
        text = (lab.directory / "credentials" / "postgres.env").read_text()
        found = re.search(r"^POSTGRES_ROLE_LAB_LOGGED_PASS='(\w{32})'$", text, re.MULTILINE)
        assert found
        return found[1]

    shop.write(DATABASES, [*ROLES, {"name": "lab_logged"}])
    assert "role:lab_logged" in {each["resource"] for each in shop.apply()["outcomes"]}
    found = logged_until_now()
    for said in (
        "LOG:  connection received: host=",
        "LOG:  connection authorized: user=kb_app database=keybuzz",
        "LOG:  disconnection: session time: ",
    ):
        assert said in found[leader], said
    for host, text in found.items():
        assert secret() not in text, host
        assert "SCRAM-SHA-256$" not in text, host

    typed = f"typed{secrets.token_hex(8)}"
    with lab.connect("haproxy-01", 5432, admin=True, dbname="postgres") as admin:
        admin.execute(f"alter role lab_logged password '{typed}'".encode())
    assert typed in logged_until_now()[leader]  # as SECURITY.md says
    shown = lab.kbpg("logs", leader, "patroni", "--since", since, inventory=shop.path)
    assert shown.code == 0, shown.err
    assert "LOG:  statement: alter role lab_logged password '***'" in shown.out
    assert "LOG:  connection authorized: user=kb_app" in shown.out
    assert typed not in shown.everything
    assert "role:lab_logged" in {each["resource"] for each in shop.apply()["outcomes"]}
    for host, text in logged_until_now().items():  # the role was altered by kbpg, and had a verifier set
        assert secret() not in text, host
        assert "SCRAM-SHA-256$" not in text, host
    shop.write(DATABASES, ROLES)
    shop.apply()


def test_what_leaves_the_inventory_stays_and_is_reported(shop: Shop) -> None:
    shop.write([], [])
    shop.apply()
    plan = shop.lab.kbpg("plan", "--json", inventory=shop.path)
    notes = [note.split(" is not")[0] for note in json.loads(plan.out)["notes"]]
    assert plan.code == 0
    assert {"database lab_shop", "role lab_owner", "role lab_readers", "role lab_writer"} <= set(notes)
    found = shop.lab.kbpg("diagnose", "--json", inventory=shop.path)
    assert found.code == 0
    seen = {f["subject"] for f in json.loads(found.out)["findings"] if f["id"] == "unmanaged"}
    assert "database lab_shop" in seen
    with shop.lab.connect("haproxy-01", 5432, admin=True, dbname="lab_shop") as admin:
        assert admin.execute("select count(*) from sales.orders").fetchone() == (2,)
    shop.write(DATABASES, ROLES)
    shop.apply()
    with shop.connect("lab_writer") as again:  # its password is still the one of the file
        assert again.execute("select count(*) from sales.orders").fetchone() == (2,)
