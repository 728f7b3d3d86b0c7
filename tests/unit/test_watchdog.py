"""The watchdog beside Patroni (templates/patroni/watchdog.py), against a REST API of our own with real TLS.

That it ends a leader that stands still, and nobody else, is shown on lab hosts: docs/drills.md, `patroni-frozen`.
"""

from __future__ import annotations

import http.server
import importlib.util
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kbpg.pki.completing import HOST_USAGES
from kbpg.pki.issuing import LEAF_LIFE, authority, certificate_pem, key_pem, leaf, new_key
from kbpg.pki.names import Names
from kbpg.pki.reading import Purpose

TEMPLATES = Path(__file__).parents[2] / "templates"
LIMIT = 0.5
"""Seconds that a leader with a `ttl` of 1 s may be silent: half of it."""
MONTH = timedelta(days=30)


def module() -> Any:
    """Return the watchdog as a module; it is no part of the package, it runs in the container."""
    spec = importlib.util.spec_from_file_location("kbpg_watchdog", TEMPLATES / "patroni" / "watchdog.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


watchdog = module()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: a handshake that fails is what some tests want."""


class Node:
    """Patroni's REST API on a node that leads, and the directory that its watchdog reads."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.tls = directory, directory / "tls"
        self.tls.mkdir()
        self.seen, self.silent = 0, threading.Event()
        self.issue(MONTH)
        self.server = Server(("127.0.0.1", 0), self.handler())
        where = f"127.0.0.1:{self.server.server_port}"
        restapi = {"connect_address": where, "certfile": "/etc/patroni/tls/server.crt"}
        (directory / "patroni.yml").write_text(json.dumps({"restapi": restapi}))
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def issue(self, life: timedelta, *, known: bool = True) -> None:
        """Serve a certificate of a new authority that ends after `life`; the file knows the authority, or not yet."""
        issued = datetime.now(UTC) - LEAF_LIFE + life
        ca_key, key = new_key(), new_key()
        ca = authority(ca_key, "test", issued)
        purpose = Purpose(Names.of(["127.0.0.1"]), HOST_USAGES)
        own = leaf(key, "db-1", purpose, ca, ca_key, issued)
        self.authority = certificate_pem(ca)
        (self.tls / "server.crt").write_bytes(certificate_pem(own))
        (self.tls / "server.key").write_text(key_pem(key).reveal())
        if known:
            self.learn()
        # As Patroni with `verify_client: optional`: who shows a certificate shows a good one
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.authority.decode())
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.load_cert_chain(self.tls / "server.crt", self.tls / "server.key")

    def learn(self) -> None:
        """Let the file know the authority of the certificate that is served."""
        (self.tls / "ca.crt").unlink(missing_ok=True)
        (self.tls / "ca.crt").write_bytes(self.authority)

    def handler(node) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 (its own `self` is another one)
        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self) -> None:
                self.request.settimeout(5)
                self.request = node.context.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                super().finish()
                self.request.close()

            def do_GET(self) -> None:
                node.seen += not node.silent.is_set()
                answer = {"role": "primary", "dcs_last_seen": node.seen, "ttl": 1}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A leader whose Patroni answers."""
    found = Node(tmp_path)
    yield found
    found.server.shutdown()
    found.server.server_close()


def watched(node: Node) -> Any:
    """Return the watch over it, which has seen it lead."""
    silence = watchdog.Silence(watchdog.Patroni(str(node.directory)))
    assert silence.look() <= 0
    assert silence._armed
    return silence


def overdue(silence: Any) -> bool:
    """Return whether it is time to end the leader within three times the limit."""
    ends = time.monotonic() + 3 * LIMIT
    while time.monotonic() < ends:
        if silence.look() > 0:
            return True
        time.sleep(0.05)
    return False


def test_a_leader_that_sees_the_consensus_is_well(node: Node) -> None:
    assert not overdue(watched(node))


def test_a_leader_that_sees_it_no_more_is_overdue(node: Node) -> None:
    silence = watched(node)
    node.silent.set()
    assert overdue(silence)


def test_a_leader_that_takes_no_questions_is_overdue(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    silence = watched(node)
    monkeypatch.setattr(watchdog, "TIMEOUT", 0.1)
    node.context = None  # type: ignore[assignment]  # the handler fails before it shakes hands
    assert overdue(silence)


def test_a_renewed_certificate_is_followed(node: Node) -> None:
    """For months no container is started; the certificate that was there at the start ends meanwhile."""
    silence = watched(node)
    node.issue(MONTH)
    assert not overdue(silence)
    node.silent.set()
    assert overdue(silence)


def test_its_own_certificate_may_have_expired(node: Node) -> None:
    served = node.context
    authority = node.authority
    node.issue(-timedelta(days=1))
    node.context, node.authority = served, authority
    node.learn()
    silence = watched(node)
    assert not overdue(silence)
    node.silent.set()
    assert overdue(silence)


@pytest.mark.parametrize(("life", "known"), [(-timedelta(days=1), True), (MONTH, False)])
def test_a_leader_is_not_ended_for_its_certificate(
    life: timedelta, known: bool, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """It answers; whether it is well cannot be told, which is said once."""
    silence = watched(node)
    node.issue(life, known=known)
    assert not overdue(silence)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("kbpg watchdog: cannot tell whether Patroni is well: ")
    node.issue(MONTH)
    node.silent.set()
    assert overdue(silence)
