"""A Patroni of a few lines: it serves its status, takes changes from who knows the password, and remembers them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kbpg.hosts.fake import FakeHost

from .small_cluster import CREDENTIALS, DATABASES

LOGIN = "Basic " + base64.b64encode(f"kbpg:{CREDENTIALS.rest_password.reveal()}".encode()).decode()


@dataclass
class Served:
    """The nodes' statuses as JSON, by host; `asked` are the changes that were asked for, `act` what they do."""

    nodes: dict[str, dict[str, Any]]
    act: Callable[[str, str, str, Any], int] = lambda host, method, path, body: 200
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)


def replica(**more: Any) -> dict[str, Any]:
    return {"state": "running", "role": "replica", "timeline": 4, "patroni": {"version": "4.1.5"}, **more}


@contextmanager
def served(world: Served) -> Iterator[dict[str, FakeHost]]:
    """Serve a REST API for each db host, on a port of this machine, and yield the hosts that lead there."""
    servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), _responder(world, name)) for name in DATABASES}
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers.values()]
    for thread in threads:
        thread.start()
    hosts = {
        name: FakeHost(
            name, f"192.0.2.{number}", services={(f"192.0.2.{number}", 8008): server.server_address[:2]}
        )
        for number, (name, server) in enumerate(servers.items(), 1)
    }
    try:
        yield hosts
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join(5)


def _responder(world: Served, host: str) -> type[BaseHTTPRequestHandler]:
    class Responder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            node = world.nodes.get(host)
            self._say(503 if node is None else 200, node or "no status")

        def do_PATCH(self) -> None:
            self._change()

        def do_POST(self) -> None:
            self._change()

        def _change(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["Authorization"] != LOGIN:
                self._say(401, "no")
                return
            world.asked.append((host, self.command, self.path, body))
            self._say(world.act(host, self.command, self.path, body), "done")

        def _say(self, status: int, body: Any) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Responder
