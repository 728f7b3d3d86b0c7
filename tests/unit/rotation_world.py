"""A cluster of roles, files and passwords in memory, real steps and engine on it; who logs in is let in or not.

Every act that changes something is counted, so that a test can kill kbpg before or after any of them.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from kbpg import pki, pooler, raft, rest, scram, sql
from kbpg.adoption.in_use import PatroniInUseFact
from kbpg.credentials import all_secrets, generate, parse, render, write
from kbpg.engine.run import Run
from kbpg.facts import Login
from kbpg.hosts.fake import FakeDirectory, FakeHost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output
from kbpg.hosts.settings import Silence
from kbpg.inventory import load as load_inventory
from kbpg.layout import POOLER_USER, layout
from kbpg.operations import clients_wait, raft_rotation, rotation_proof
from kbpg.options import Options
from kbpg.pki.whole import pki_of
from kbpg.resources import rolling
from kbpg.secret import Secret
from kbpg.session import Session, read_context
from kbpg.steps.images import patroni_image, proxy_images
from kbpg.steps.rotating import EVERYTHING

from .fake_docker import docker, image, with_docker
from .small_cluster import DATABASES, HOSTS, PROXIES

INVENTORY = f"""
cluster: {{name: kb}}
roles:
  - {{name: reporting}}
{HOSTS}"""
ADDRESSES = {name: f"192.0.2.{number}" for number, name in enumerate(DATABASES, 1)}
CONSOLE, POSTGRESQL, POOLED, PRIMARY = "pgbouncer", 5432, 6432, 5432
ALTERED = re.compile(r'(?:ALTER|CREATE) ROLE "(\w+)".*PASSWORD \'(SCRAM[^\']+)\'', re.DOTALL)


class Killed(BaseException):
    """SIGKILL, as far as one process can have it."""


@dataclass
class World:
    """`roles` are the verifiers; `poolers`, `patronis` and `rafts` the passwords that those programs have loaded.

    `restarts` are the db hosts whose container was restarted, each with those that had a Raft quorum with the leader
    afterwards.
    """

    directory: Path
    roles: dict[str, str] = field(default_factory=dict)
    poolers: dict[str, str] = field(default_factory=dict)
    patronis: dict[str, str] = field(default_factory=dict)
    rafts: dict[str, str] = field(default_factory=dict)
    leader: str = "db-1"
    restarts: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    acts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    hosts: dict[str, FakeHost] = field(default_factory=dict)
    kill: tuple[int, str] | None = None
    counting: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def path(self) -> Path:
        return self.directory / "credentials" / "postgres.env"

    @property
    def options(self) -> Options:
        return Options(chosen=self.directory / "inventory.yaml", color=False)

    @contextlib.contextmanager
    def act(self, text: str) -> Iterator[None]:
        """Do something that a kill may come before or after."""
        if not self.counting:
            yield
            return
        with self.lock:
            number = len(self.acts)
            self.acts.append(text)
        if self.kill == (number, "before"):
            raise Killed
        yield
        if self.kill == (number, "after"):
            raise Killed

    def run(self, context: Any) -> Run:
        return Run(context, self.hosts, LocalHost())

    # --- Raft ---------------------------------------------------------------------------------------

    def side(self, name: str) -> frozenset[str]:
        """Return the members that this one hears, itself included."""
        return frozenset(each for each in self.rafts if self.rafts[each] == self.rafts[name])

    def restarted(self, name: str) -> None:
        """Patroni reads its files anew, and whoever has a majority goes on."""
        secrets = yaml.safe_load(self.hosts[name].files["/opt/keybuzz/patroni/secrets.yml"].content)
        self.rafts[name] = secrets["raft"]["password"]
        load(self, name)
        self.restarts.append((name, self.side(self.leader)))

    # --- who is let in ------------------------------------------------------------------------------

    def lets_in(self, host: str, login: Login, password: Secret) -> str:
        """Return why a login is refused, "" where it is not."""
        if host in DATABASES or login.port == PRIMARY:
            return self._by_server(login.user, password)
        if login.user == POOLER_USER:
            if password.reveal() != self.poolers[host]:
                return "SASL authentication failed"
            return "" if login.database == CONSOLE else self._pooler_itself(host)
        if why := self._pooler_itself(host):
            return why
        return self._by_server(login.user, password, "SASL authentication failed")

    def _by_server(self, user: str, password: Secret, text: str = "password authentication failed") -> str:
        return "" if scram.matches(self.roles.get(user), password) else f"{text} for user {user}"

    def _pooler_itself(self, host: str) -> str:
        """Return what a client meets whose password PgBouncer has to look up with its own."""
        fits = scram.matches(self.roles.get(POOLER_USER), Secret(self.poolers[host]))
        return "" if fits else "server login failed"

    def login_of_a_client(self, host: str) -> str:
        """Return what somebody who logs in through this PgBouncer now meets, "" where he is let in or waits."""
        return "" if host in self.paused else self._pooler_itself(host)


class Host(FakeHost):
    """A fake host whose files and programs are those of the world."""

    world: World

    @contextlib.contextmanager
    def forward(self, port: int, *, address: str | None = None) -> Iterator[int]:  # type: ignore[override]
        yield [*DATABASES, *PROXIES].index(self.name)

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        with self.world.act(f"{self.name}: write {path.rpartition('/')[2]}"):
            super().write(path, content, owner=owner, mode=mode)


@dataclass
class Connection:
    """A connection that PostgreSQL or PgBouncer let in."""

    world: World
    host: str
    login: Login
    adapters: Any = psycopg.adapters
    connection: None = None
    rows: Sequence[tuple[Any, ...]] = ()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        return self.rows

    def execute(self, query: Any) -> Connection:
        text = query.decode() if isinstance(query, bytes) else query.as_string(self)
        self.rows = self._answer(text)
        return self

    def _answer(self, text: str) -> list[tuple[Any, ...]]:
        world = self.world
        if text.startswith("select rolname, rolcanlogin"):
            special = {"kb_admin": (True, True), "replicator": (False, True)}
            return [
                (name, True, *special.get(name, (False, False)), verifier, True)
                for name, verifier in world.roles.items()
            ]
        if "rolconnlimit" in text:
            return [(name, -1, False, False, False, True, []) for name in world.roles]
        if found := ALTERED.search(text):
            with world.act(f"alter {found[1]}"):
                world.roles[found[1]] = found[2]
        elif text in ("PAUSE", "RESUME"):
            with world.act(f"{self.host}: {text}"):
                (world.paused.add if text == "PAUSE" else world.paused.discard)(self.host)
        elif "pg_is_in_recovery" in text:
            return [(self.host != world.leader,)]
        elif "inet_server_addr" in text:
            return [(ADDRESSES[world.leader],)]
        elif text == "show pools":
            gone = ("gone", "kb_app")  # a pool outlives its database
            return [("keybuzz", "kb_app"), ("keybuzz_ro", "kb_app"), ("keybuzz", "reporting"), gone]
        elif "pg_database" in text:
            return [("keybuzz",), ("postgres",)]
        return [(1,)]


def _programs(host: Host) -> None:
    world = host.world

    def run(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        if argv[0] == "restart" and host.name in DATABASES:
            with world.act(f"{host.name}: restart"):
                world.restarted(host.name)
        if argv[0] != "exec":
            return docker(host, argv, stdin)
        container = argv[1]
        with world.act(f"{host.name}: {argv[-1]} {container}"):
            if argv[-1] == "kill -HUP 1":
                load(world, host.name)
        return Output(0, "")

    def over(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        """The script that takes the leader over: clients of PgBouncer wait, or nobody does."""
        assert world.paused == set(PROXIES)
        with world.act(f"{host.name}: restart as leader"):
            world.restarted(host.name)
        return Output(0, "")

    host.programs["docker"] = run
    host.programs["setsid"] = over


def load(world: World, name: str) -> None:
    """Let the program on this host read its files."""
    base = "/opt/keybuzz"
    files = world.hosts[name].files
    if name in PROXIES:
        words = files[f"{base}/pgbouncer/userlist.txt"].content.decode().split()
        world.poolers[name] = words[1].strip('"')
    else:
        secrets = yaml.safe_load(files[f"{base}/patroni/secrets.yml"].content)
        world.patronis[name] = secrets["restapi"]["authentication"]["password"]


def _encryption(host: FakeHost) -> dict[str, str]:
    """Return the row of SHOW CONFIG for what PgBouncer asks of PostgreSQL: as its file says."""
    name = "server_tls_sslmode"
    lines = host.files["/opt/keybuzz/pgbouncer/pgbouncer.ini"].content.decode().splitlines()
    return {"key": name, "value": dict(line.split(" = ", 1) for line in lines if " = " in line)[name]}


def _certificate(host: FakeHost) -> str | None:
    """Return the certificate that the REST API shows: as its files say."""
    if "certfile" not in yaml.safe_load(host.files["/opt/keybuzz/patroni/patroni.yml"].content)["restapi"]:
        return None
    return host.files["/opt/keybuzz/patroni/tls/server.crt"].content.decode()


def in_use(host: FakeHost) -> Output:
    """Return what the file of a Patroni says that it runs with."""
    return Output(0, "file\n" + host.files["/opt/keybuzz/patroni/secrets.yml"].content.decode())


def _member(world: World) -> Any:
    """Return Raft as one that asks a member sees it (`raft._answer`)."""

    def answer(reader: Any, port: int, password: Secret, words: list[str], timeout: float) -> Any:
        name = reader.name
        if password.reveal() != world.rafts[name]:
            raise raft.OtherPassword("closed the connection")
        side = world.side(name)
        partners = {f"{ADDRESSES[each]}:{port}": 2 * (each in side) for each in DATABASES if each != name}
        quorum = len(side) > len(DATABASES) / 2
        return {
            "self": f"{ADDRESSES[name]}:{port}",
            "leader": f"{ADDRESSES[min(side)]}:{port}" if quorum else None,
            "has_quorum": quorum,
            "raft_term": 1,
            "commit_idx": 1,
            "log_len": 1,
            "state": 0,
            **{f"partner_node_status_server_{address}": up for address, up in partners.items()},
        }

    return answer


def _rest(world: World) -> Any:
    def request(
        reader: Any,
        method: str,
        port: int,
        path: str,
        body: Any = None,
        *,
        login: Any = None,
        in_clear: Any = None,
        timeout: float = 5,
        anyway: bool = False,
    ) -> rest.Response:
        name = reader.name
        if method == "GET":
            leads = name == world.leader
            replicas = [
                {"application_name": n, "state": "streaming", "sync_state": "quorum"}
                for n in DATABASES
                if n != world.leader
            ]
            node = {"state": "running", "role": "primary" if leads else "replica", "timeline": 1}
            return rest.Response(200, {**node, "replication": replicas if leads else []})
        if login[1].reveal() != world.patronis[name]:
            return rest.Response(401, "not authenticated")
        if path == "/reload":
            with world.act(f"{name}: reload"):
                load(world, name)
        return rest.Response(200, "")

    return request


def build(directory: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a cluster as its inventory and its credentials file want it."""
    world = World(directory)
    (directory / "inventory.yaml").write_text(INVENTORY)
    made = generate("kb_admin", "kb_app", ["reporting"])
    write(world.path, render(made))
    inventory = load_inventory(directory / "inventory.yaml")
    pki.write(pki_of(inventory), pki.load(inventory.pki_path))
    _instead(world, monkeypatch)
    context, _ = read_context(world.options)
    paths = layout(context)
    for number, name in enumerate((*DATABASES, *PROXIES), 1):
        host = Host(name, f"192.0.2.{number}")
        host.world = world
        with_docker(host)
        own = (paths.patroni, paths.pgbouncer, paths.haproxy)
        for path in (*own, *(f"{each}/tls" for each in own), f"{paths.base}/kbpg/loaded"):
            host.directories[path] = FakeDirectory()
        for spec in (patroni_image(context), *proxy_images(context)):
            host.images[spec.name] = image(spec.inputs, spec.name)
        world.hosts[name] = host
        host.answers[PatroniInUseFact] = lambda host, fact: in_use(host)
        _programs(host)
    for user, password in (
        ("kb_admin", made.superuser_password),
        ("kb_app", made.app_password),
        ("replicator", made.replication_password),
        ("rewind_user", made.rewind_password),
        (POOLER_USER, made.pgbouncer_password),
        ("reporting", made.roles["reporting"]),
    ):
        world.roles[user] = scram.verifier(password)
    world.poolers = dict.fromkeys(PROXIES, made.pgbouncer_password.reveal())
    world.patronis = dict.fromkeys(DATABASES, made.rest_password.reveal())
    world.rafts = dict.fromkeys(DATABASES, made.raft_password.reveal())
    _converge(world, context)
    world.counting = True
    return world


def _converge(world: World, context: Any) -> None:
    """Start the containers and write the files, as the steps do."""
    from kbpg.model import Stage, Step
    from kbpg.steps import s02_patroni, s04_pgbouncer

    for stages in (s02_patroni.stages, s04_pgbouncer.stages):
        chosen = [Stage(s.title, s.items) for s in stages(context) if s.title == "nodes"]
        files = EVERYTHING[0].stages(context) if stages is s02_patroni.stages else []
        chosen = [*(Stage(s.title, s.items) for s in files if s.title == "files"), *chosen]
        report = world.run(context).apply([Step(9, "start", "", lambda _, c=chosen: c)])  # type: ignore[misc]
        assert not report.failed, [each.lines for each in report.outcomes]


def _instead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*DATABASES, *PROXIES]

    def attempt(reader: Any, login: Login, port: int, **more: Any) -> Any:
        why = world.lets_in(names[port], login, login.password)
        if why:
            world.refused.append(f"{login.user} at {names[port]}:{login.port}: {why}")
            raise psycopg.OperationalError(f"FATAL:  {why}")
        return Connection(world, names[port], login)

    @contextlib.contextmanager
    def uncut(*_: object) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def opened(options: Any, *, watcher: Any = None, tell: Any = None, **how: Any) -> Iterator[Session]:
        context, found = read_context(options, credentials_exist=True)
        yield Session(context, found, world.hosts, LocalHost(), Silence())

    monkeypatch.setattr(sql, "through", attempt)
    monkeypatch.setattr(pooler, "shown", lambda context, host, what: [_encryption(world.hosts[host.name])])
    monkeypatch.setattr(rest, "certificate", lambda host, port: _certificate(world.hosts[host.name]))
    monkeypatch.setattr(pooler, "reconnect", lambda context, host, through=None: None)
    monkeypatch.setattr(sql, "cut_after", uncut)
    monkeypatch.setattr(rest, "request", _rest(world))
    monkeypatch.setattr(raft, "_answer", _member(world))
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0.01)
    for deadline in ("INTERVAL", "ANSWER_DEADLINE", "READY_DEADLINE", "RETURN_DEADLINE"):
        monkeypatch.setattr(raft_rotation, deadline, 0.01 if deadline == "INTERVAL" else 0.1)
    monkeypatch.setattr(clients_wait, "await_quiet", lambda *_: None)
    monkeypatch.setattr(rolling, "LISTEN_DEADLINE", 0.0)
    monkeypatch.setattr(rotation_proof, "RELOAD_MARGIN", -100.0)  # what is not so at once stays so here
    monkeypatch.setattr("kbpg.cli.opening.open_session", opened)


def secrets_in(text: str) -> list[str]:
    """Return every password of a credentials file."""
    from kbpg.credentials import complete

    return [secret.reveal() for secret in all_secrets(complete(parse(text, path="f", roles=["reporting"])))]
