"""A password for Patroni's REST API goes to nobody who does not prove to be Patroni, but while `tls` is changed."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kbpg import rest
from kbpg.context import Context
from kbpg.errors import HostError
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output
from kbpg.inventory import parse
from kbpg.operations import rotation_proof
from kbpg.operations.patroni_change import NO_TLS, change_by_rest
from kbpg.operations.tls_change import ModesFact, changes
from kbpg.pki.model import certificate_file, key_file
from kbpg.tls import Mode
from kbpg.trust import Trust

from .certificates import placeholders
from .pki_world import Store
from .small_cluster import CREDENTIALS, DATABASES, HOSTS


class Listener:
    """Whoever has the port: what it was sent as a login, None for a request without one."""

    def __init__(self) -> None:
        self.logins: list[str | None] = []
        self.port = 0

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None) -> Iterator[Listener]:
        heard = self.logins

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                heard.append(self.headers["Authorization"])
                self.send_response(200)
                self.end_headers()

            do_PATCH = do_POST = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        class Server(HTTPServer):
            def handle_error(self, *args: object) -> None:
                """Nor of a client that hangs up."""

        server = Server(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(5)
            server.server_close()


@pytest.fixture
def somebody() -> Iterator[Listener]:
    """A program without TLS on Patroni's port."""
    with Listener().listening() as listener:
        yield listener


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "pki")
    made.run()
    return made


class World:
    """One db host: this machine, with a directory for its files."""

    def __init__(self, directory: Path, store: Store, port: int, mode: Mode = "require") -> None:
        self.base = directory / "base"
        inventory = parse(
            f"cluster: {{name: kb}}\ntls: {mode}\nports: {{patroni: {port}}}\n{HOSTS}", "i.yaml"
        )
        # No inventory may say so: a directory of a test's own is below /tmp
        cluster = inventory.cluster.model_copy(update={"base_dir": str(self.base)})
        inventory = inventory.model_copy(update={"cluster": cluster})
        self.context = Context(inventory, CREDENTIALS, pki=placeholders(inventory))
        self.host = LocalHost(name="db-1")
        self.host.trust = self.trust = Trust(store.directory, mode)

    def written_for(self, tag: str | None) -> None:
        """Have Patroni's configuration, as kbpg wrote it for this mode; None: before it knew of any."""
        file = self.base / "patroni" / "patroni.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# Written by kbpg\n#\n" + (f"# tls: {tag}\n" if tag else "") + "scope: kb\n")

    def change(self) -> None:
        change_by_rest(self.context, self.host, "PATCH", "/config", {"ttl": 30})


@pytest.fixture
def world(tmp_path: Path, store: Store, somebody: Listener) -> World:
    return World(tmp_path, store, somebody.port)


REFUSED = (
    r"did not answer PATCH /config: it does not speak TLS, as it should by now, and a password is not sent"
)


@pytest.mark.parametrize("heard_before", [False, True])
def test_who_takes_the_port_of_a_patroni_gets_no_password(
    heard_before: bool, world: World, somebody: Listener
) -> None:
    world.written_for("require")
    if heard_before:  # a request without a login goes to whoever is there, and what it speaks is remembered
        assert rest.request(world.host, "GET", somebody.port, "/patroni").status == 200
        assert not world.trust.speaks("db-1", somebody.port)
    with pytest.raises(HostError, match=REFUSED) as caught:
        world.change()
    assert caught.value.hint == NO_TLS
    assert [login for login in somebody.logins if login] == []


def test_nor_by_the_proof_of_a_rotation(world: World, somebody: Listener) -> None:
    world.written_for("require")
    with pytest.raises(rotation_proof.Untold, match="a password is not sent in clear"):
        rotation_proof._asked(world.context, world.host, CREDENTIALS.rest_password)
    assert somebody.logins == []


def test_nor_where_there_is_no_configuration_of_kbpg_s(world: World, somebody: Listener) -> None:
    with pytest.raises(HostError, match=REFUSED):
        world.change()
    assert somebody.logins == []


def test_nor_without_an_authority_to_prove_it_by(world: World, store: Store, somebody: Listener) -> None:
    world.written_for("require")
    (store.directory / certificate_file("ca")).unlink()
    with pytest.raises(HostError, match=r"in clear \(.*ca\.crt is missing"):
        world.change()
    assert somebody.logins == []


@pytest.mark.parametrize("tag", [None, "off", "from off to require"])
def test_a_patroni_that_was_not_told_yet_is_asked_in_clear(
    tag: str | None, world: World, somebody: Listener
) -> None:
    """Before `apply-all` changes `tls`, and after one that was killed."""
    world.written_for(tag)
    world.change()
    assert len(somebody.logins) == 1
    assert str(somebody.logins[0]).startswith("Basic ")


def test_while_a_run_changes_tls_files_may_be_ahead_of_patroni(world: World, somebody: Listener) -> None:
    world.written_for("require")
    world.trust.changing = True
    world.change()
    assert len(somebody.logins) == 1


def test_with_tls_off_nothing_is_asked(tmp_path: Path, store: Store, somebody: Listener) -> None:
    world = World(tmp_path, store, somebody.port, "off")
    world.change()
    assert len(somebody.logins) == 1


def test_what_was_heard_is_no_reason_not_to_ask_for_proof(tmp_path: Path, store: Store) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(store.directory / certificate_file("db-1"), store.directory / key_file("db-1"))
    with Listener().listening(serving) as patroni:
        world = World(tmp_path, store, patroni.port)
        world.written_for("require")
        world.trust.learn("db-1", patroni.port, False)
        world.change()
        assert len(patroni.logins) == 1


@pytest.mark.parametrize(
    ("says", "first_pass", "changing"),
    [
        (["is require"] * 3, False, False),
        (["is off", "is require", "is require"], True, True),
        (["is", "is", "is"], True, True),
        (["is from off to require", "is require", "is require"], False, True),
        (["", "", ""], False, False),
    ],
)
def test_a_change_of_tls_is_known_by_the_hosts_own_files(
    says: list[str], first_pass: bool, changing: bool, world: World
) -> None:
    hosts = {name: FakeHost(name) for name in DATABASES}
    for host, said in zip(hosts.values(), says, strict=True):
        host.trust = world.trust
        host.answers[ModesFact] = lambda _host, _question, said=said: Output(0, said)
    assert changes(world.context, hosts) is first_pass
    assert world.trust.changing is changing
