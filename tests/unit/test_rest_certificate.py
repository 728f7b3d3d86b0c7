"""A reload of Patroni is over when its REST API shows the certificate that is in its files."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kbpg import rest
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts, Knowledge
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output, Writer
from kbpg.pki import Leaf, Pki
from kbpg.resources.docker import signalled
from kbpg.steps import patroni_node
from kbpg.tls import Transport
from kbpg.trust import Trust

from .pki_world import Store
from .small_cluster import context
from .test_rest_in_clear import Listener


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "pki")


@pytest.fixture
def pki(store: Store) -> Pki:
    return store.run(datetime.now(UTC))


@pytest.fixture
def host(store: Store, pki: Pki) -> LocalHost:
    made = LocalHost(name="db-1")
    made.trust = Trust(store.directory, "require")
    return made


def test_who_speaks_tls_shows_its_certificate(store: Store, pki: Pki, host: LocalHost) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(store.directory / "db-1.crt", store.directory / "db-1.key")
    with Listener().listening(serving) as listener:
        assert rest.certificate(host, listener.port) == pki.hosts["db-1"].certificate.decode()


def test_who_does_not_shows_none(host: LocalHost) -> None:
    with Listener().listening() as listener:
        assert rest.certificate(host, listener.port) is None
        port = listener.port
    with pytest.raises(ConnectionRefusedError):
        rest.certificate(host, port)


@pytest.mark.parametrize(
    ("transport", "shown", "behind"),
    [
        ("require", "own", ""),
        ("require", "other", "it still shows its former certificate"),
        ("require", "", "it does not speak TLS"),
        ("off", "", ""),
        ("off", "own", "it still speaks TLS"),
    ],
)
def test_what_is_waited_for(transport: str, shown: str, behind: str, pki: Pki) -> None:
    mode = Transport("require" if transport == "require" else "off")
    world: Context = replace(context(f"tls: {transport}\n"), pki=pki)
    assert world.transport == mode
    seen = {"own": pki.hosts["db-1"], "other": pki.hosts["db-2"]}.get(shown)
    assert patroni_node._behind(world, "db-1", seen.certificate.decode() if seen else None) == behind


def test_a_users_own_certificate_may_stand_among_other_lines(pki: Pki) -> None:
    own = pki.hosts["db-1"].certificate
    given = b"Bag Attributes\r\n" + own.replace(b"\n", b"\r\n") + pki.ca
    hosts = {**pki.hosts, "db-1": Leaf(given, pki.hosts["db-1"].key)}
    world = replace(context("tls: require\n"), pki=replace(pki, hosts=hosts))
    assert patroni_node._behind(world, "db-1", own.decode()) == ""


class Served(FakeHost):
    """A host whose Patroni takes a new certificate with the reload whose number is `takes`."""

    takes = 1
    reloads = 1

    def run(self, argv: Sequence[str], **options: Any) -> Output:
        assert list(argv) == signalled("patroni", "HUP")
        self.reloads += 1
        return Output(0, "", "", 0.0)


@pytest.mark.parametrize("takes", [1, 2])
def test_a_certificate_that_came_with_other_settings_takes_a_second_reload(
    takes: int, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Served("db-1")
    host.takes = takes
    world = replace(context("tls: require\n"), pki=pki)

    def shown(host: Served, port: int) -> str:
        return pki.hosts["db-1" if host.reloads >= host.takes else "db-2"].certificate.decode()

    monkeypatch.setattr(rest, "certificate", shown)
    monkeypatch.setattr(patroni_node, "ROUND_MARGIN", -world.inventory.timers.loop_wait)
    patroni_node._await_transport(world, site_at(world, host))
    assert host.reloads == takes


def test_a_certificate_that_is_never_taken_is_an_error(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Served("db-1")
    world = replace(context("tls: require\n"), pki=pki)
    monkeypatch.setattr(rest, "certificate", lambda host, port: pki.hosts["db-2"].certificate.decode())
    monkeypatch.setattr(patroni_node, "ROUND_MARGIN", -world.inventory.timers.loop_wait)
    monkeypatch.setattr(patroni_node, "TRANSPORT_MARGIN", 0.5)
    with pytest.raises(HostError, match="did not take its new settings: it still shows its former"):
        patroni_node._await_transport(world, site_at(world, host))
    assert host.reloads > 1


def site_at(world: Context, host: Writer) -> Site:
    knowledge = Knowledge()
    return Site(
        "db-1", {"db-1": host}, LocalHost(), world, Facts(knowledge, "db-1"), lambda wanted: None, print
    )
