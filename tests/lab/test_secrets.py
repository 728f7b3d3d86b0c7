"""Passwords: any printable one works, and none is ever seen."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.lab.conftest import DB, HOSTS, Lab, killed_at_end
from tests.lab.faults import psql

pytestmark = pytest.mark.lab

ODD = "a'b\"c$d\\e%f@g:h/i ü"


def test_odd_passwords_work_everywhere(bare: Lab) -> None:
    path = bare.directory / "credentials" / "postgres.env"
    path.parent.mkdir(mode=0o700)
    quoted = ODD.replace("'", "'\\''")
    path.write_text(
        f"POSTGRES_SUPERUSER=kb_admin\nPOSTGRES_SUPERPASS='{quoted}'\n"
        f"POSTGRES_APP_USER=kb_app\nPOSTGRES_APP_PASS='{quoted}'\n"
    )
    path.chmod(0o600)
    bare.apply()
    assert bare.credentials["POSTGRES_APP_PASS"] == ODD
    for port in (5432, 6432):
        assert bare.one("haproxy-01", port, "select current_user") == "kb_app"
        assert bare.one("haproxy-02", port, "select current_user", admin=True) == "kb_admin"
    for kind in ("--pooled", "--direct"):
        uri = bare.kbpg("uri", kind, "--show-password").out.strip()
        done = bare.psql(uri, "select 1")
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert bare.kbpg("plan").code == 0


def test_no_password_is_seen_while_a_cluster_is_built(bare: Lab) -> None:
    """Look at every process and container, here and on the hosts, all the time that apply-all runs."""
    seen: list[str] = []
    over = threading.Event()
    everything = (
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ';"
        " for p in /proc/[0-9]*/environ; do cat $p 2>/dev/null; done | tr '\\0' ' ';"
        " docker ps -aq | xargs -r docker inspect 2>/dev/null"
    )

    def look(host: str) -> None:
        while not over.is_set():
            seen.append(bare.sh(host, everything, check=False))

    def look_here() -> None:
        while not over.is_set():
            for process in Path("/proc").iterdir():
                # a process may end between being listed and being read
                if process.name.isdigit():
                    with suppress(OSError):
                        seen.append((process / "cmdline").read_bytes().decode(errors="replace"))
            listed = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=False)
            inspect = ["docker", "inspect", *listed.stdout.split()]
            seen.append(subprocess.run(inspect, capture_output=True, text=True, check=False).stdout)

    watchers = [threading.Thread(target=look, args=(host,), daemon=True) for host in HOSTS]
    watchers.append(threading.Thread(target=look_here, daemon=True))
    with killed_at_end(bare.start("apply-all", "-v")) as process:
        for watcher in watchers:
            watcher.start()
        try:
            out, err = process.communicate(timeout=300)
        finally:
            over.set()
    for watcher in watchers:
        watcher.join(60)
    assert process.returncode == 0, err
    secrets = all_passwords(bare)
    journal = "".join(p.read_text() for p in (bare.directory / ".kbpg" / "journal").rglob("*") if p.is_file())
    logs = "".join(bare.everywhere("for c in $(docker ps -q); do docker logs $c 2>&1; done").values())
    haystack = "".join(seen)
    assert len(seen) > 50
    assert '"docker", "run"' in journal
    for name, secret in secrets.items():
        for where, text in (
            ("a process or a container", haystack),
            ("the output", out + err),
            ("the journal", journal),
            ("a container's log", logs),
        ):
            assert secret not in text, f"{name} seen in {where}"


ASKED = (
    ("status",),
    ("status", "--json"),
    ("plan", "-v"),
    ("plan", "--json"),
    ("diagnose", "-v"),
    ("diagnose", "--json"),
    ("raft", "status", "-v"),
    ("config", "show"),
    ("credentials", "show"),
    ("uri", "--pooled"),
    ("logs", "db-master-01", "patroni"),
    ("logs", "haproxy-01", "pgbouncer"),
    ("logs", "haproxy-01", "haproxy"),
)


def test_no_secret_is_in_anything_that_is_said_or_written(cluster: Lab, tmp_path: Path) -> None:
    """Of a cluster that is well, of one whose passwords, keys and files are not as wanted, and while it is mended."""
    said = [cluster.kbpg(*words).everything for words in ASKED]
    said += [cluster.kbpg("validate", "-v", "--report", str(tmp_path / "well")).everything]
    psql(
        cluster,
        cluster.leader(),
        "alter role kb_app password 'another'; alter role replicator password 'another'",
    )
    cluster.sh("haproxy-02", "docker rm -f haproxy; echo >>/opt/keybuzz/pgbouncer/userlist.txt")
    cluster.sh(
        DB[0], "echo >>/opt/keybuzz/patroni/secrets.yml; chmod 0644 /opt/keybuzz/patroni/tls/server.key"
    )
    said += [cluster.kbpg(*words).everything for words in ASKED]
    assert "password" in said[-len(ASKED) + ASKED.index(("diagnose", "-v"))]
    said += [cluster.kbpg("validate", "-v", "--report", str(tmp_path / "broken")).everything]
    said += [cluster.kbpg("diagnose", "--repair", "--yes", "-v").everything]
    mended = cluster.kbpg("apply-all", "--yes", "-v")
    assert mended.code == 0, mended.everything
    said += [
        mended.everything,
        cluster.kbpg("journal").everything,
        cluster.kbpg("journal", "--json").everything,
    ]
    files = [
        path
        for where in (tmp_path, cluster.directory / ".kbpg")
        for path in where.rglob("*")
        if path.is_file()
    ]
    assert {path.name for path in files} >= {"report.html", "report.md", "report.json", "junit.xml"}
    places = {f"output {number}": text for number, text in enumerate(said)}
    places |= {str(path): path.read_text(errors="replace") for path in files}
    secrets = all_passwords(cluster) | private_keys(cluster)
    seen = [
        f"{name} in {where}"
        for where, text in places.items()
        for name, secret in secrets.items()
        if secret in text
    ]
    assert seen == []


def private_keys(lab: Lab) -> dict[str, str]:
    """Return of each private key of the cluster the line of its file that the key itself is in."""
    keys = sorted((lab.directory / "credentials" / "pki").rglob("*.key"))
    assert len(keys) > len(HOSTS)
    return {path.name: path.read_text().splitlines()[1] for path in keys}


def all_passwords(lab: Lab) -> dict[str, str]:
    lines = (lab.directory / "credentials" / "postgres.env").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "_PASS=" in line or "_SUPERPASS=" in line]
    found = {name: value.strip("'\"") for name, value in pairs}
    assert len(found) == 7
    assert all(len(value) >= 32 for value in found.values())
    return found


def test_files_with_secrets_are_their_owner_s_alone(cluster: Lab) -> None:
    for host in HOSTS:
        script = "find /opt/keybuzz -maxdepth 2 \\( -name 'secrets.yml' -o -name userlist.txt \\) -printf '%m %U\\n'"
        assert cluster.sh(host, script).split() == ["600", "999"]
    path = cluster.directory / "credentials" / "postgres.env"
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, os.getuid())
