"""The lab's cluster for bench/datapath.py: its leader, its free connections, and a client that runs pgbench."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kbpg.credentials import complete
from kbpg.credentials import load as load_credentials
from kbpg.inventory import load
from kbpg.lab import running_addresses
from kbpg.steps.images import PATRONI_IMAGE

DATABASE = "kbpg_bench"
IMAGE = PATRONI_IMAGE
"""It has pgbench, and is on this machine after an apply-all."""
PATIENCE = 120
"""Seconds a run may take longer than it was asked to, until it is ended."""
MEMORY = "/tmp:mode=1777"  # noqa: S108 - a file system of the container's own, for the password file
PASSWORD_FILE = "/tmp/pgpass"  # noqa: S105, S108
CLIENT = 'umask 077 && cat >"$PGPASSFILE" && ulimit -n "$(ulimit -Hn)" && exec timeout "$@"'
"""The password comes from standard input, so it is in no argument and in nothing that `docker inspect` shows."""
FREE = """
select current_setting('max_connections')::int,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - current_setting('reserved_connections')::int - count(*)
  from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
"""
END_POOLED = """
select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = 'kbpg_bench'
"""


class Lab:
    """A lab's cluster, and the client that measures it."""

    def __init__(self, directory: Path, image: str) -> None:
        self.inventory = load(directory / "inventory.yaml")
        found = load_credentials(self.inventory.credentials_path)
        if found is None:
            raise SystemExit(f"{self.inventory.credentials_path}: no such file; run kbpg apply-all first")
        stopped = {host.address for host in self.inventory.hosts} - set(running_addresses(directory))
        if stopped:
            raise SystemExit(f"no host of a running lab: {', '.join(sorted(stopped))}")
        self.image, self.credentials = image, complete(found)
        self.proxy, self.client = self.inventory.proxies[0], self.inventory.proxies[-1]
        self.leader = self._leader()

    def _leader(self) -> str:
        asked = [host.name for host in self.inventory.db]
        leaders = [name for name in asked if self._psql(name, "select pg_is_in_recovery()").stdout == "f\n"]
        if len(leaders) != 1:
            raise SystemExit(f"not one leader, but: {', '.join(leaders) or 'none'}")
        return leaders[0]

    def _psql(self, host: str, query: str) -> subprocess.CompletedProcess[str]:
        outer = ["docker", "exec", "--interactive", f"kbpg-{host}"]
        inner = ["docker", "exec", "--interactive", "--user", "999", "patroni"]
        psql = ["psql", "-XAtq", "-F", " ", "-v", "ON_ERROR_STOP=1", "-h", "/var/run/postgresql"]
        user = self.inventory.cluster.superuser
        return run([*outer, *inner, *psql, "-U", user, "-d", "postgres"], query, 60)

    def sql(self, query: str) -> str:
        """Run statements on the leader as superuser; anything but success ends the benchmark."""
        done = self._psql(self.leader, query)
        if done.returncode:
            raise SystemExit(
                f"psql on {self.leader} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def room(self, clients: int) -> tuple[int, int]:
        """Return max_connections, and how many connections are free; what PgBouncer keeps is closed if need be."""
        most, free = map(int, self.sql(FREE).split())
        if free < clients <= most:
            self.sql(END_POOLED)
            most, free = map(int, self.sql(FREE).split())
        return most, free

    def address(self, way: str) -> tuple[str, int]:
        """Return where a way begins."""
        ports = self.inventory.ports
        if way == "direct":
            return self.inventory.host(self.leader).address, ports.postgresql
        return self.proxy.address, ports.primary if way == "haproxy" else ports.pgbouncer

    def pgbench(self, way: str, seconds: int, *args: str) -> subprocess.CompletedProcess[str]:
        """Run pgbench; it is ended when it takes much longer than `seconds`."""
        host, port = self.address(way)
        user, limit = self.credentials.app_user, seconds + PATIENCE
        to = ["-h", host, "-p", str(port), "-U", user, DATABASE]
        argv = client(f"kbpg-{self.client.name}", self.image, limit, [*args, *to])
        return run(argv, pgpass(user, self.credentials.app_password.reveal()), limit + 60)


def client(beside: str, image: str, limit: int, args: list[str]) -> list[str]:
    """Return the command that runs pgbench in the network of the container `beside`, `limit` seconds at most."""
    start = ["docker", "run", "--rm", "--interactive", "--pull", "never", "--network", f"container:{beside}"]
    password = ["--tmpfs", MEMORY, "--env", f"PGPASSFILE={PASSWORD_FILE}"]
    return [*start, *password, "--entrypoint", "sh", image, "-c", CLIENT, "sh", str(limit), "pgbench", *args]


def pgpass(user: str, password: str) -> str:
    """Return the content of libpq's password file."""
    name, word = (text.replace("\\", "\\\\").replace(":", "\\:") for text in (user, password))
    return f"*:*:*:{name}:{word}\n"


def run(argv: list[str], given: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `given` on its standard input."""
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=seconds)
