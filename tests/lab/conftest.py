"""The real thing: five lab hosts, asked with docker, psycopg and HTTP, never with kbpg's own readers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml

from kbpg.inventory.tls import DEFAULT_MODE

if TYPE_CHECKING:
    from tests.lab.load import Load

KBPG = [str(Path(sys.executable).with_name("kbpg"))]
DB = ("db-master-01", "db-slave-01", "db-slave-02")
PROXIES = ("haproxy-01", "haproxy-02")
HOSTS = (*DB, *PROXIES)
REST = 8008
STATISTICS = 8404
# Tests measure kbpg as a user has it, with its bytecode: without this it may compile all that it imports
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Ran:
    """A finished kbpg: exit code and what it printed."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def everything(self) -> str:
        return self.out + self.err


class Lab:
    """The running lab, and the files that kbpg is given for it."""

    def __init__(self, directory: Path, inventory: Path) -> None:
        self.directory = directory
        self.inventory = inventory
        text = inventory.read_text()
        self.settings = yaml.safe_load(text)
        self.addresses = {h["name"]: h["address"] for h in (*self.settings["db"], *self.settings["proxies"])}

    # --- kbpg ---------------------------------------------------------------------------------------

    def start(self, *args: str, inventory: Path | None = None) -> subprocess.Popen[str]:
        argv = [*KBPG, "-i", str(inventory or self.inventory), *args]
        return subprocess.Popen(
            argv, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def kbpg(self, *args: str, inventory: Path | None = None, timeout: float = 300) -> Ran:
        started = time.monotonic()
        process = self.start(*args, inventory=inventory)
        out, err = process.communicate(timeout=timeout)
        return Ran(process.returncode, out, err, time.monotonic() - started)

    def apply(self, inventory: Path | None = None, timeout: float = 300) -> Ran:
        ran = self.kbpg("apply-all", inventory=inventory, timeout=timeout)
        assert ran.code == 0, ran.everything
        return ran

    def changed(self, ran: Ran) -> set[tuple[str, str]]:
        """Return (place, resource) of what a `--json` run of plan or apply-all would change or did."""
        document = json.loads(ran.out)
        found = document["changes"] if "changes" in document else document["outcomes"]
        return {(r["place"], r["resource"]) for r in found if r["status"] != "not attempted"}

    def edited(self, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
        """Write a changed copy of the inventory beside the original, so that its relative paths still hold."""
        settings = yaml.safe_load(self.inventory.read_text())
        change(settings)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return path

    # --- hosts --------------------------------------------------------------------------------------

    def sh(self, host: str, script: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a script as root on a lab host, by way of the outer Docker."""
        argv = ["docker", "exec", "-i", f"kbpg-{host}", "sh", "-c", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{host}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def everywhere(self, script: str, hosts: tuple[str, ...] = HOSTS) -> dict[str, str]:
        with ThreadPoolExecutor(len(hosts)) as pool:
            return dict(zip(hosts, pool.map(lambda h: self.sh(h, script), hosts), strict=True))

    def wipe(self) -> None:
        """Make the hosts bare again: no container, no file of the cluster, no credentials. Images stay."""
        self.everywhere("docker ps -aq | xargs -r docker rm -f >/dev/null; rm -rf /opt/keybuzz")
        shutil.rmtree(self.directory / "credentials", ignore_errors=True)

    def started(self) -> dict[tuple[str, str], str]:
        """Return when each container was started, by host and name: nothing restarted if it stays equal."""
        form = "docker ps -aq | xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}'"
        found = self.everywhere(form)
        return {
            (host, line.split()[0].lstrip("/")): line.split(" ", 1)[1]
            for host, text in found.items()
            for line in text.splitlines()
        }

    def rest(self, host: str, path: str = "/patroni") -> dict[str, Any]:
        """Ask Patroni's REST API, with TLS if that is what it speaks; an error status has a body too."""
        try:
            return self._rest(f"https://{self.addresses[host]}:{REST}{path}")
        except (urllib.error.URLError, FileNotFoundError) as error:
            reason = getattr(error, "reason", error)
            if not isinstance(reason, (ssl.SSLError, FileNotFoundError)):
                raise
            return self._rest(f"http://{self.addresses[host]}:{REST}{path}")

    def curl(self, host: str, port: int, path: str) -> str:
        """Return what curl on that host is given to speak to its own Patroni or HAProxy, as `tls` wants it."""
        program = "patroni" if port == REST else "haproxy"
        tls = f"/opt/keybuzz/{program}/tls"
        url = f"{self.addresses[host]}:{port}{path}"
        if not self.encrypted:
            return f"'http://{url}'"
        own = f"--cert {tls}/server.crt --key {tls}/server.key " if port == REST else ""
        return f"--cacert {tls}/ca.crt {own}'https://{url}'"

    @property
    def encrypted(self) -> bool:
        """Whether the shipped lab inventory wants TLS."""
        return bool(self.settings.get("tls", DEFAULT_MODE) == "require")

    def _rest(self, url: str) -> dict[str, Any]:
        verified = ssl.create_default_context(cafile=str(self.ca) if url.startswith("https") else None)
        try:
            with urllib.request.urlopen(url, timeout=3, context=verified) as answer:  # noqa: S310
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    @property
    def ca(self) -> Path:
        """Return the certificate of the cluster's authority."""
        return self.directory / "credentials" / "pki" / "ca.crt"

    def leader(self) -> str:
        roles = {host: self.rest(host)["role"] for host in DB}
        leaders = [host for host, role in roles.items() if role in ("primary", "master")]
        assert len(leaders) == 1, roles
        return leaders[0]

    def await_whole(self, deadline: float, *, synchronous: bool = True) -> None:
        """Wait until one node leads, both others stream from it, and one is `synchronous`; `deadline` in seconds."""

        def whole() -> bool:
            try:
                replicas = self.rest(self.leader()).get("replication", ())
                states = [each["state"] for each in replicas]
                counted = {each["sync_state"] for each in replicas} & {"quorum", "sync"}
            except (OSError, AssertionError, KeyError):
                return False
            return states == ["streaming"] * 2 and (bool(counted) or not synchronous)

        self.until(whole, deadline, f"one leader, two streaming replicas{', one synchronous' * synchronous}")

    @staticmethod
    def until(condition: Callable[[], bool], deadline: float, what: str) -> float:
        """Wait for `condition`, `deadline` seconds at most; return how long it took."""
        started = time.monotonic()
        while not condition():
            waited = time.monotonic() - started
            assert waited < deadline, f"not within {deadline:g} s: {what}"
            time.sleep(0.1)
        return time.monotonic() - started

    # --- databases ----------------------------------------------------------------------------------

    @property
    def credentials(self) -> dict[str, str]:
        """Return the credentials as a shell reads them."""
        path = self.directory / "credentials" / "postgres.env"
        names = "POSTGRES_SUPERUSER POSTGRES_SUPERPASS POSTGRES_APP_USER POSTGRES_APP_PASS"
        script = f'. "$1"; for n in {names}; do eval "printf \'%s\\0\' \\"\\${{$n}}\\""; done'
        out = subprocess.run(["sh", "-c", script, "sh", str(path)], capture_output=True, check=True).stdout
        return dict(zip(names.split(), out.decode().split("\0"), strict=False))

    def psql(self, uri: str, query: str) -> subprocess.CompletedProcess[str]:
        """Give psql a URI as `kbpg uri` prints it. It is the Patroni image's, which every machine with a lab has, on
        this machine's network, with the credentials where the URI says that they are.
        """
        where = self.directory / "credentials"
        run = ["docker", "run", "--rm", "--network", "host", "--user", "0", "--volume", f"{where}:{where}:ro"]
        argv = [*run, "--entrypoint", "psql", "patroni-pg16-raft:latest", uri, "-Atc", query]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    def connect(self, host: str, port: int, *, admin: bool = False, **more: Any) -> psycopg.Connection[Any]:
        which = "SUPER" if admin else "APP_"
        user, password = f"POSTGRES_{which}USER", f"POSTGRES_{which}PASS"
        return psycopg.connect(
            host=self.addresses[host],
            port=port,
            dbname=more.pop("dbname", "keybuzz"),
            user=self.credentials[user],
            password=self.credentials[password],
            connect_timeout=5,
            autocommit=True,
            prepare_threshold=None,
            **more,
        )

    def one(self, host: str, port: int, query: str, **more: Any) -> Any:
        with self.connect(host, port, **more) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row[0] if row else None


@pytest.fixture(scope="session")
def lab(lab_inventory: Path) -> Lab:
    return Lab(lab_inventory.parent, lab_inventory)


@pytest.fixture
def bare(lab: Lab) -> Lab:
    """Bare hosts before the test; whatever it leaves is for the next `bare` or `cluster` to deal with."""
    lab.wipe()
    return lab


@pytest.fixture
def cluster(lab: Lab) -> Lab:
    """A cluster as the shipped lab inventory wants it."""
    lab.apply()
    return lab


@pytest.fixture(scope="module")
def converged(lab: Lab) -> Iterator[Lab]:
    """A cluster as the inventory wants it, before and after."""
    lab.apply()
    lab.await_whole(60)
    yield lab
    lab.apply()
    lab.await_whole(60)


@pytest.fixture
def load(converged: Lab) -> Iterator[Load]:
    """Twenty clients that write through both PgBouncers, under way."""
    from tests.lab.load import writing

    with writing(converged) as found:
        found.go_on_for(1)
        yield found


@contextmanager
def killed_at_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process that the test started, whatever happens."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
