"""Databases and roles of the inventory: made, used through PgBouncer, converged, and never dropped."""

from __future__ import annotations

import json
import re
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.lab.conftest import PROXIES, Lab

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
drop role if exists lab_owner, lab_readers, lab_reporting, lab_writer, lab_byhand;
"""
REPLAYED = 5.0
"""Seconds until a standby shows what was just written; it takes milliseconds."""


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
