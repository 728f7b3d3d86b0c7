"""The proof of a rotation: each new password is let in wherever it has to be, and the old one nowhere.

A door is one way in. Each is tried with the new password until it is let in, and then with the old one until that is
refused: a reload takes Patroni's next round, a replica replays an ALTER ROLE a moment later.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kbpg import pooler, rest
from kbpg.credentials import PASSWORDS, Credentials, role_password_name
from kbpg.credentials.rotation import words_for
from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import Login, NotKnown
from kbpg.hosts.port import Reader
from kbpg.inventory.reserved import READ_SUFFIX
from kbpg.layout import POOLER_USER, REPLICATION_USER, REWIND_USER
from kbpg.operations.patroni_change import UNAUTHORIZED
from kbpg.operations.tls_change import in_clear
from kbpg.patroni import REST_USER
from kbpg.raft import OtherPassword, status_now
from kbpg.resources.patroni import RELOAD_MARGIN
from kbpg.resources.sql_facts import RowsFact
from kbpg.secret import Secret

if TYPE_CHECKING:
    from kbpg.context import Context

WORKERS = 16
"""Doors that are tried at the same time."""
_QUERY = "select 1"
_CONSOLE = "show version"
_DATABASES = "select datname from pg_catalog.pg_database where datallowconn"

Try = Callable[[Secret], bool]
"""Returns whether a password is let in (True) or refused (False); raises `Untold` where neither is told."""


class Untold(Exception):
    """Nobody said whether the password is the right one, and why."""


@dataclass(frozen=True)
class Door:
    """A way in: the name in the file of its password, where it is in words, and how it is tried."""

    name: str
    where: str
    lets_in: Try


def prove(site: Site, names: Collection[str]) -> list[str]:
    """Try every door of the passwords `names` and return a line for each password.

    Raises `NotConverged` with each door that does not let the new password in, or lets the old one in, in time.
    """
    context = site.context
    new, old = context.credentials.values(), (context.former or context.credentials).values()
    deadline = 2 * context.inventory.timers.loop_wait + RELOAD_MARGIN
    doors = [door for name in names for door in _doors(site, name)]
    with ThreadPoolExecutor(WORKERS) as pool:
        tried = pool.map(lambda door: _wrong(door, new[door.name], old[door.name], deadline), doors)
        wrong = [f"{door.where}: {why}" for door, why in zip(doors, tried, strict=True) if why]
    if wrong:
        raise NotConverged("the new passwords are not proven", detail=wrong)
    counts = {name: sum(door.name == name for door in doors) for name in names}
    return [
        f"{word}: the new password is let in, the old one refused ({counts[name]} ways in)"
        for name, word in zip(names, words_for(names), strict=True)
    ]


def _wrong(door: Door, new: Secret, old: Secret, deadline: float) -> str:
    """Return what is wrong with a door at the deadline (seconds), "" where it is as it should be."""
    ends = time.monotonic() + deadline
    return _until(door, new, ends, wanted=True) or (
        _until(door, old, ends, wanted=False) if old != new else ""
    )


def _until(door: Door, password: Secret, ends: float, *, wanted: bool) -> str:
    which = "the new password" if wanted else "the old password"
    while True:
        try:
            if door.lets_in(password) is wanted:
                return ""
            why = f"{which} is {'refused' if wanted else 'still let in'}"
        except Untold as reason:
            why = f"{which} could not be tried: {reason}"
        if time.monotonic() >= ends:
            return why
        time.sleep(INTERVAL)


# --- the doors ---------------------------------------------------------------------------------------


def _doors(site: Site, name: str) -> Iterator[Door]:
    """Yield the ways in of one password."""
    context = site.context
    ports, own = context.inventory.ports, context.credentials
    on_servers = {
        "POSTGRES_SUPERPASS": (own.superuser, False),
        "POSTGRES_REPLICATION_PASS": (REPLICATION_USER, True),
        "POSTGRES_REWIND_PASS": (REWIND_USER, False),
    }
    if name in on_servers:
        user, replication = on_servers[name]
        for host in context.db_names:
            login = _login(user, "postgres", ports.postgresql)
            yield _by_sql(site, name, host, login, "" if replication else _QUERY, replication=replication)
    elif name == "PATRONI_REST_PASS":
        for host in context.db_names:
            yield Door(name, f"{host}: Patroni's REST API", partial(_asked, context, site.hosts[host]))
    elif name == "RAFT_PASS":
        for host in context.db_names:
            yield Door(name, f"{host}: Raft", partial(_member, ports.raft, site.hosts[host]))
    elif name == "PGBOUNCER_AUTH_PASS":
        for proxy in context.proxy_names:
            yield _by_sql(site, name, proxy, _login(POOLER_USER, "pgbouncer", ports.pgbouncer), _CONSOLE)
            yield _by_sql(site, name, proxy, _login(POOLER_USER, "postgres", ports.pgbouncer), _QUERY)
    elif user := _application(own, name):
        yield from _of_application(site, name, user)


def _application(own: Credentials, name: str) -> str:
    """Return the application's role, or the inventory's, whose password this is; "" for another."""
    users = {role_password_name(role): role for role in own.roles}
    return users.get(name, own.app_user if PASSWORDS.get(name) == "app_password" else "")


def _of_application(site: Site, name: str, user: str) -> Iterator[Door]:
    """Yield the ways in of a role, past PgBouncer and through it, to each pool that it has there.

    A pool outlives its database, and leads nowhere then.
    """
    context = site.context
    inventory = context.inventory
    pools = RowsFact(pooler.console(context), "pools", "show pools", pooled=True, live=True)
    there = RowsFact(context.superuser(), "databases", _DATABASES, live=True)
    facts = site.look(
        {**dict.fromkeys(context.proxy_names, (pools,)), **dict.fromkeys(context.db_names, (there,))}
    )
    existing = {row[0] for host in context.db_names for row in facts.known(there, host) or ()}
    for proxy in context.proxy_names:
        # PgBouncer's manual, SHOW POOLS: database and user are the first two columns
        rows = facts.known(pools, proxy) or ()
        used = [row[0] for row in rows if row[1] == user and row[0].removesuffix(READ_SUFFIX) in existing]
        databases = dict.fromkeys([inventory.cluster.database, *used])
        yield _by_sql(
            site, name, proxy, _login(user, inventory.cluster.database, inventory.ports.primary), _QUERY
        )
        for database in databases:
            yield _by_sql(site, name, proxy, _login(user, database, inventory.ports.pgbouncer), _QUERY)


def _login(user: str, database: str, port: int) -> Login:
    """Return a login whose password is still to be put in, and which has no other."""
    return Login(user, Secret(""), database, port)


def _by_sql(site: Site, name: str, host: str, login: Login, query: str, *, replication: bool = False) -> Door:
    pooled = login.port == site.context.inventory.ports.pgbouncer
    where = f"{host}: {login.user} in {login.database}, port {login.port}"

    def lets_in(password: Secret) -> bool:
        import psycopg

        from kbpg import sql

        try:
            return sql.lets_in(
                site.hosts[host],
                replace(login, password=password),
                query,
                pooled=pooled,
                replication=replication,
                seconds=sql.CONNECT_TIMEOUT,
            )
        except HostError as error:
            raise Untold(error.reason) from error
        except (OSError, psycopg.Error) as error:
            raise Untold(sql.short(error)) from error

    return Door(name, where, lets_in)


def _member(port: int, host: Reader, password: Secret) -> bool:
    """Ask a member of Raft for its status, with this password and no other."""
    try:
        status_now(host, port, password)
    except OtherPassword:
        return False
    except (NotKnown, HostError) as silence:
        raise Untold(silence.reason) from silence
    return True


def _asked(context: Context, host: Reader, password: Secret) -> bool:
    """Ask Patroni for a change that changes nothing, with this password and no other."""
    body: dict[str, Any] = {"kbpg_wakes_patroni": None}
    port, login = context.inventory.ports.patroni, (REST_USER, password)
    try:
        answer = rest.request(
            host, "PATCH", port, "/config", body, login=login, in_clear=partial(in_clear, context, host)
        )
    except HostError as error:
        raise Untold(error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise Untold(str(error) or type(error).__name__) from error
    if answer.status != UNAUTHORIZED and answer.status >= 300:
        raise Untold(f"Patroni answered {answer.status}")
    return answer.status != UNAUTHORIZED
