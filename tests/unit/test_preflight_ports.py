"""Who holds a port, where processes come and go while they are looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbpg.context import Context
from kbpg.hosts.port import Output
from kbpg.resources.container import Container
from kbpg.resources.preflight.ports import Listener, Needed, Ports, PortsFact, collisions
from kbpg.steps import s03_haproxy, s04_pgbouncer
from kbpg.steps.s01_prepare import needs

from .small_cluster import context, knowing


def test_a_child_that_is_gone_does_not_make_the_port_somebody_else_s() -> None:
    """PostgreSQL forks: a backend holds the listening socket for a moment, and ends before its groups are read."""
    ours = "a" * 64
    line = 'LISTEN 0 200 10.1.0.1:5432 0.0.0.0:* users:(("postgres",pid=77,fd=6),("postgres",pid=42,fd=6))'
    text = f"{line}\ncgroup 42 5:devices:/docker/{ours}\ncgroup 0 5:devices:/\n"
    (found,) = PortsFact((5432,)).parse(Output(0, text)).listeners
    assert (found.pid, found.containers) == (42, (ours,))


def test_a_socket_whose_holders_are_all_gone_names_nobody() -> None:
    line = 'LISTEN 0 200 10.1.0.1:5432 0.0.0.0:* users:(("postgres",pid=77,fd=6))'
    (found,) = PortsFact((5432,)).parse(Output(0, f"{line}\ncgroup 0 5:devices:/\n")).listeners
    assert (found.pid, found.process, found.containers) == (0, "", ())


def listening(where: str) -> Context:
    """Return the small cluster whose proxies listen there."""
    plain = context()
    cluster = plain.inventory.cluster.model_copy(update={"proxy_listen": where})
    return replace(plain, inventory=plain.inventory.model_copy(update={"cluster": cluster}))


def test_a_proxy_needs_its_ports_where_it_takes_clients() -> None:
    """The statistics stay where they were."""
    for listen, at in (("host", ("192.0.2.11", "127.0.0.1")), ("any", ("0.0.0.0",))):
        given = listening(listen)
        found = {need.port: need.addresses for need in needs(given, given.inventory.host("px-1")).ports}
        assert found == {5432: at, 5433: at, 6432: at, 8404: ("192.0.2.11",)}


@pytest.mark.parametrize(
    ("address", "host", "any_"),
    [
        ("192.0.2.11", True, True),
        ("0.0.0.0", True, True),
        ("*", True, True),
        ("192.0.2.99", False, True),
        ("[::1]", False, False),
        ("IPv6", False, False),
    ],
)
def test_who_takes_all_addresses_collides_with_whoever_has_one(address: str, host: bool, any_: bool) -> None:
    ports = Ports((Listener(address, 6432, "other", 7),))
    for at, collides in ((("192.0.2.11", "127.0.0.1"), host), (("0.0.0.0",), any_)):
        found = collisions([Needed(6432, "PgBouncer", "pgbouncer", at)], ports, {})
        assert bool(found) is collides, (address, at)


def test_pgbouncer_begins_anew_for_another_address_and_haproxy_need_not() -> None:
    """PgBouncer opens its port when it starts; HAProxy's new worker opens its own."""
    wanted = {}
    for listen in ("host", "any"):
        given = listening(listen)
        wanted[listen] = {
            item.resource.id: item.resource.want(knowing({}, "px-1"))
            for stages in (s03_haproxy.stages(given), s04_pgbouncer.stages(given))
            for stage in stages
            for item in stage.items
            if item.place == "px-1" and isinstance(item.resource, Container)
        }
    differing = {name for name, want in wanted["host"].items() if want != wanted["any"][name]}
    assert differing == {"container:pgbouncer"}
